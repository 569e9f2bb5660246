package course

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"encoding/base64"
	"math/rand/v2"
	"strconv"
)

// The names of the values that Vars draws.
const (
	Key        = "key"        // a Sec-WebSocket-Key whose accept value is asked for
	Accept     = "accept"     // that value
	Float      = "float"      // a number in decimal, sent as a float of eight bytes
	WordBinary = "wordBinary" // hidden in a binary frame
	WordPing   = "wordPing"   // hidden in the payload of a ping
	WordClose  = "wordClose"  // hidden in the reason of a Close frame
	Nonce      = "nonce"      // to be sent by who means it
)

// Vars draws the values that a set of practice servers gives away or asks for:
// the same for the same seed, and other ones for another. The lessons' scripts
// say them, and who grades compares.
func Vars(seed uint64) map[string]string {
	random := rand.New(rand.NewPCG(seed, 6455)) //nolint:gosec // exercises, not secrets
	var key [16]byte
	for i := range key {
		key[i] = byte(random.Uint32())
	}
	nonce := base64.StdEncoding.EncodeToString(key[:])
	number := float64(random.IntN(2_000_001)-1_000_000) / 8 // the same in decimal, to the last digit
	return map[string]string{
		Key:        nonce,
		Accept:     accept(nonce),
		Float:      strconv.FormatFloat(number, 'f', -1, 64),
		WordBinary: word(random),
		WordPing:   word(random),
		WordClose:  word(random),
		Nonce:      word(random),
	}
}

// accept is the Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it
	return base64.StdEncoding.EncodeToString(sum[:])
}

// word makes a word that means nothing and can be said in every language.
func word(random *rand.Rand) string {
	const consonants, vowels = "kmnrt", "aiou"
	var b []byte
	for range 4 {
		b = append(b, consonants[random.IntN(len(consonants))], vowels[random.IntN(len(vowels))])
	}
	return string(b)
}
