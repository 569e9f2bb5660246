package learners

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/internal/live"
)

// Tokens and documents are JSON Web Tokens (RFC 7519), and always HS256: their
// own word for it counts for nothing. The audience tells the two apart. They do
// not expire: a token is of no use any longer once its progress is forgotten.
const (
	audienceToken    = "sluice-learner"
	audienceProgress = "sluice-progress"

	maxToken = 512
)

// maxDocument is the length of a document of MaxBytes, with room for the rest.
var maxDocument = base64.RawURLEncoding.EncodedLen(MaxBytes) + maxToken

// signer makes and reads them under a key of its own, which follows from the
// gateway's: that signs other things, too.
type signer struct{ key Key }

type documentClaims struct {
	jwt.RegisteredClaims
	Progress json.RawMessage `json:"progress"`
}

// derive is the key that signs.
func (s signer) derive(ctx context.Context) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	secret, err := s.key(limited)
	if err == nil {
		secret, err = hkdf.Key(sha256.New, secret, nil, "sluice learners", sha256.Size)
	}
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	return secret, nil
}

func (s signer) sign(ctx context.Context, claims jwt.Claims) (string, error) {
	key, err := s.derive(ctx)
	if err != nil {
		return "", err
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key)
}

// open reads what sign has made for an audience; valid is false for all else.
func (s signer) open(ctx context.Context, signed, audience string, claims jwt.Claims) (valid bool, err error) {
	key, err := s.derive(ctx)
	if err != nil {
		return false, err
	}
	_, err = jwt.ParseWithClaims(signed, claims, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Name}), jwt.WithAudience(audience), jwt.WithStrictDecoding())
	return err == nil, nil
}

func (s signer) token(ctx context.Context, id string) (string, error) {
	return s.sign(ctx, &jwt.RegisteredClaims{Subject: id, Audience: jwt.ClaimStrings{audienceToken}})
}

func (s signer) id(ctx context.Context, token string) (string, error) {
	var claims jwt.RegisteredClaims
	valid := len(token) <= maxToken
	if valid {
		var err error
		if valid, err = s.open(ctx, token, audienceToken, &claims); err != nil {
			return "", err
		}
	}
	if !valid {
		return "", live.Errorf(CodeTokenInvalid, "This is not the token of a learner here: use one that newLearner gave, unchanged. Progress on another gateway can be exported there and imported here.")
	}
	return claims.Subject, nil
}

func (s signer) document(ctx context.Context, progress []byte) (string, error) {
	return s.sign(ctx, &documentClaims{
		RegisteredClaims: jwt.RegisteredClaims{Audience: jwt.ClaimStrings{audienceProgress}}, Progress: progress,
	})
}

func (s signer) progress(ctx context.Context, document string) ([]byte, error) {
	if len(document) > maxDocument {
		return nil, live.Errorf(CodeProgressInvalid, "The document has %d characters: at most %d are accepted.", len(document), maxDocument)
	}
	var claims documentClaims
	switch valid, err := s.open(ctx, document, audienceProgress, &claims); {
	case err != nil:
		return nil, err
	case !valid:
		return nil, live.Errorf(CodeProgressInvalid, "This is not a document of progress that this gateway can trust: use one that exportProgress gave, unchanged, on a gateway with the same --secret or the same data.")
	case len(claims.Progress) > MaxBytes:
		return nil, live.Errorf(CodeProgressInvalid, "The progress takes %d bytes: at most %d are accepted.", len(claims.Progress), MaxBytes)
	}
	return claims.Progress, nil
}
