package wire

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Extension is one element of Sec-WebSocket-Extensions (RFC 6455, section 9.1).
type Extension struct {
	Name   string
	Params []Param
}

// Param is a parameter of an extension.
type Param struct {
	Name, Value string
	HasValue    bool
}

// Extensions reads every Sec-WebSocket-Extensions header, in order.
func Extensions(h http.Header) ([]Extension, error) {
	var list []Extension
	for _, value := range h.Values("Sec-WebSocket-Extensions") {
		for rest := value; ; {
			var e Extension
			var ok bool
			if e.Name, rest, ok = token(rest); !ok {
				return nil, fmt.Errorf("wire: Sec-WebSocket-Extensions %q: a name is missing", value)
			}
			for {
				var p Param
				if rest, ok = cut(rest, ';'); !ok {
					break
				}
				if p.Name, rest, ok = token(rest); !ok {
					return nil, fmt.Errorf("wire: Sec-WebSocket-Extensions %q: a parameter is missing behind ';'", value)
				}
				if rest, p.HasValue = cut(rest, '='); p.HasValue {
					if p.Value, rest, ok = tokenOrQuoted(rest); !ok {
						return nil, fmt.Errorf("wire: Sec-WebSocket-Extensions %q: the value of %s is missing", value, p.Name)
					}
				}
				e.Params = append(e.Params, p)
			}
			list = append(list, e)
			if rest, ok = cut(rest, ','); !ok {
				if rest != "" {
					return nil, fmt.Errorf("wire: Sec-WebSocket-Extensions %q: %q cannot stand there", value, rest)
				}
				break
			}
		}
	}
	return list, nil
}

// token takes an RFC 9110 token and the spaces around it.
func token(s string) (tok, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	n := 0
	for n < len(s) && isTokenByte(s[n]) {
		n++
	}
	return s[:n], strings.TrimLeft(s[n:], " \t"), n > 0
}

func isTokenByte(b byte) bool {
	return b > ' ' && b < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(b))
}

// IsToken reports whether s may name a subprotocol (RFC 6455, section 4.1).
func IsToken(s string) bool {
	tok, rest, ok := token(s)
	return ok && rest == "" && tok == s
}

// tokenOrQuoted takes a value; in quotes it has to be a token, too.
func tokenOrQuoted(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return token(s)
	}
	value, rest, ok = strings.Cut(s[1:], `"`)
	return value, strings.TrimLeft(rest, " \t"), ok && IsToken(value)
}

func cut(s string, b byte) (rest string, ok bool) {
	if s == "" || s[0] != b {
		return s, false
	}
	return strings.TrimLeft(s[1:], " \t"), true
}

// Deflate holds the parameters of permessage-deflate (RFC 7692, section 7.1).
type Deflate struct {
	ServerNoContextTakeover, ClientNoContextTakeover bool
	// Bits of the window, 8 to 15; 0: not said, which means 15. An offer may
	// name ClientMaxWindowBits without a value: then it is NoWindowBits.
	ServerMaxWindowBits, ClientMaxWindowBits int
}

// NoWindowBits is client_max_window_bits without a value.
const NoWindowBits = -1

// ParseDeflate reads the parameters of one permessage-deflate element. An error
// says which of them makes it none, for which a server declines an offer and a
// client fails the connection.
func ParseDeflate(e Extension) (Deflate, error) {
	var d Deflate
	if e.Name != "permessage-deflate" {
		return d, fmt.Errorf("wire: extension %s is not permessage-deflate", e.Name)
	}
	seen := make(map[string]bool)
	for _, p := range e.Params {
		if seen[p.Name] {
			return d, fmt.Errorf("wire: permessage-deflate: %s is there twice", p.Name)
		}
		seen[p.Name] = true
		ok := false
		switch p.Name {
		case "server_no_context_takeover":
			d.ServerNoContextTakeover, ok = true, !p.HasValue
		case "client_no_context_takeover":
			d.ClientNoContextTakeover, ok = true, !p.HasValue
		case "server_max_window_bits":
			d.ServerMaxWindowBits, ok = windowBits(p.Value)
		case "client_max_window_bits":
			if d.ClientMaxWindowBits, ok = windowBits(p.Value); !p.HasValue {
				d.ClientMaxWindowBits, ok = NoWindowBits, true
			}
		default:
			return d, fmt.Errorf("wire: permessage-deflate has no parameter %s", p.Name)
		}
		if !ok {
			return d, fmt.Errorf("wire: permessage-deflate: the value %q of %s is not accepted", p.Value, p.Name)
		}
	}
	return d, nil
}

func windowBits(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 8 && n <= 15 && s == strconv.Itoa(n)
}

// AgreedDeflate returns what a server's answer says about compression; nil: none.
func AgreedDeflate(response http.Header) *Deflate {
	extensions, err := Extensions(response)
	if err != nil {
		return nil
	}
	for _, e := range extensions {
		if d, err := ParseDeflate(e); err == nil {
			return &d
		}
	}
	return nil
}

const (
	// deflateTail is what a sender takes away (RFC 7692, section 7.2.1), and a
	// last, empty block, without which flate waits for more.
	deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"
	// deflateSlack is by how much data that does not compress may grow: five
	// bytes for each stored block.
	deflateSlack = 4096
	windowBytes  = 1 << 15
)

// inflater undoes the compression of one direction.
type inflater struct {
	takeover bool   // the window outlives a message
	window   []byte // the last bytes of what was inflated, if so
	lost     bool   // a message could not be inflated, so there is no window any more
	flate    io.ReadCloser
}

func newInflater(d Direction, agreed Deflate) *inflater {
	fresh := agreed.ClientNoContextTakeover
	if d == ToClient {
		fresh = agreed.ServerNoContextTakeover
	}
	return &inflater{takeover: !fresh}
}

// inflate returns the message, or its first limit bytes and a problem.
func (i *inflater) inflate(b []byte, limit int) ([]byte, *Problem) {
	const section = "RFC 7692, section 7.2.2"
	if i.lost && i.takeover {
		p := broken(RuleDeflate, section, 1002, "the message cannot be inflated, because one before it could not")
		return nil, &p
	}
	in := io.MultiReader(bytes.NewReader(b), strings.NewReader(deflateTail))
	if i.flate == nil {
		i.flate = flate.NewReaderDict(in, i.window)
	} else {
		_ = i.flate.(flate.Resetter).Reset(in, i.window) // never fails
	}
	var out bytes.Buffer
	_, err := io.Copy(&out, io.LimitReader(i.flate, int64(limit)+1))
	whole := out.Bytes()
	if len(whole) > limit {
		i.lost = true
		p := tooLarge(limit)
		return whole[:limit], &p
	}
	if err != nil {
		i.lost = true
		p := broken(RuleDeflate, section, 1007, "the message is marked as compressed but cannot be inflated")
		return whole, &p
	}
	if i.takeover {
		i.window = append(i.window, whole[max(0, len(whole)-windowBytes):]...)
		i.window = append([]byte(nil), i.window[max(0, len(i.window)-windowBytes):]...)
	}
	return whole, nil
}
