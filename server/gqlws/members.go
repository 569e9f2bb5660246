package gqlws

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

var errNotObject = errors.New("not a JSON object")

// eachMember calls f with the members of a JSON object, in order; null has none.
// It is what encoding/json does for a map of raw messages, without the map: a
// message has three members, of which each is looked at once. The values are
// parts of text.
func eachMember(text []byte, f func(name string, value json.RawMessage)) error {
	if !json.Valid(text) {
		return errNotObject
	}
	text = bytes.TrimSpace(text)
	if isNull(text) {
		return nil
	}
	if !isObject(text) {
		return errNotObject
	}
	// From here on the text is known to be well formed.
	for rest := nextOf(text[1:]); rest[0] != '}'; rest = nextOf(rest) {
		end := stringEnd(rest)
		name, err := unquote(rest[:end])
		if err != nil {
			return err
		}
		rest = nextOf(rest[end:])
		end = valueEnd(rest)
		f(name, json.RawMessage(rest[:end:end]))
		rest = rest[end:]
	}
	return nil
}

// nextOf skips what stands between names and values.
func nextOf(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n:,") }

// stringEnd returns the length of the string that b begins with.
func stringEnd(b []byte) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// valueEnd returns the length of the value that b begins with.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			i += stringEnd(b[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default: // of a number or a word: it ends before what cannot be part of it
			if strings.IndexByte(" \t\r\n,}]", b[i+1]) < 0 {
				continue
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
}

// unquote reads a JSON string.
func unquote(raw []byte) (s string, err error) {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), nil
	}
	err = json.Unmarshal(raw, &s)
	return s, err
}
