package labs

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// refusal is an answer to a handshake other than 101.
type refusal struct {
	status  int
	code    string
	message string // sentences
}

func (f *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch f.status {
	case http.StatusUpgradeRequired:
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
		h.Set("Sec-WebSocket-Version", "13") // RFC 6455, section 4.4
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	}
	w.WriteHeader(f.status)
	fmt.Fprintf(w, "%s (%s)\n", f.message, f.code)
}

// handshake judges an opening handshake as RFC 6455, section 4.2.1, says; nil:
// it is right. It names everything that is missing, which libraries do not.
func handshake(r *http.Request) *refusal {
	invalid := func(status int, format string, args ...any) *refusal {
		return &refusal{status, "HANDSHAKE_INVALID", fmt.Sprintf(format, args...)}
	}
	if r.Method != http.MethodGet {
		return invalid(http.StatusMethodNotAllowed, "A WebSocket is opened by GET, not by %s: RFC 6455, section 4.1.", r.Method)
	}
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		return invalid(http.StatusBadRequest, "A WebSocket is opened over HTTP/1.1 here, not over %s: RFC 6455, section 4.1.", r.Proto)
	}
	var missing []string
	if !hasToken(r.Header, "Upgrade", "websocket") {
		missing = append(missing, "Upgrade: websocket")
	}
	if !hasToken(r.Header, "Connection", "Upgrade") {
		missing = append(missing, "Connection: Upgrade")
	}
	keys, versions := r.Header.Values("Sec-WebSocket-Key"), r.Header.Values("Sec-WebSocket-Version")
	if len(keys) == 0 {
		missing = append(missing, "Sec-WebSocket-Key: 16 random bytes in base64")
	}
	if len(versions) == 0 {
		missing = append(missing, "Sec-WebSocket-Version: 13")
	}
	if len(missing) > 0 {
		return invalid(http.StatusBadRequest, "This is a WebSocket server, and the request is no opening handshake: it lacks %q. See RFC 6455, section 4.1.", missing)
	}
	if len(versions) > 1 || strings.TrimSpace(versions[0]) != "13" {
		return invalid(http.StatusUpgradeRequired, "Version %q of the WebSocket protocol is not spoken here: 13 is, that of RFC 6455.", strings.Join(versions, ", "))
	}
	if len(keys) > 1 {
		return invalid(http.StatusBadRequest, "There are %d headers Sec-WebSocket-Key: exactly one is needed. See RFC 6455, section 11.3.1.", len(keys))
	}
	if nonce, err := base64.StdEncoding.Strict().DecodeString(keys[0]); err != nil {
		return invalid(http.StatusBadRequest, "Sec-WebSocket-Key %q is not base64: it has to be 16 random bytes in base64. See RFC 6455, section 4.1.", keys[0])
	} else if len(nonce) != 16 {
		return invalid(http.StatusBadRequest, "Sec-WebSocket-Key %q holds %d bytes: it has to be 16 random bytes in base64. See RFC 6455, section 4.1.", keys[0], len(nonce))
	}
	for _, subprotocol := range offered(r) {
		if !wire.IsToken(subprotocol) {
			return invalid(http.StatusBadRequest, "Sec-WebSocket-Protocol offers %q, which is not a token. See RFC 6455, section 4.1.", subprotocol)
		}
	}
	if _, err := wire.Extensions(r.Header); err != nil {
		return invalid(http.StatusBadRequest, "Sec-WebSocket-Extensions is ill formed: %s. See RFC 6455, section 9.1.", strings.TrimPrefix(err.Error(), "wire: "))
	}
	return nil
}

// offered lists the subprotocols of a handshake in the client's order.
func offered(r *http.Request) []string { return list(r.Header, "Sec-WebSocket-Protocol") }

func hasToken(h http.Header, name, token string) bool {
	return slices.ContainsFunc(list(h, name), func(s string) bool { return strings.EqualFold(s, token) })
}

// list returns the elements of a header whose value is a list.
func list(h http.Header, name string) (elements []string) {
	for _, value := range h.Values(name) {
		for element := range strings.SplitSeq(value, ",") {
			if element = textproto.TrimString(element); element != "" {
				elements = append(elements, element)
			}
		}
	}
	return elements
}

// acceptDeflate reports whether one of the client's offers of permessage-deflate
// can be served: those that limit the server's window cannot, since the library
// always uses 32 KiB, and RFC 7692, section 7.1.2.1, lets a server decline them.
func acceptDeflate(r *http.Request) bool {
	extensions, err := wire.Extensions(r.Header)
	return err == nil && slices.ContainsFunc(extensions, func(e wire.Extension) bool {
		offer, err := wire.ParseDeflate(e)
		return err == nil && offer.ServerMaxWindowBits == 0
	})
}
