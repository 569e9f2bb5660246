package model

import (
	"strings"
	"testing"
)

func TestPayloadAsJSON(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for payload, want := range map[string]string{
		` { "a" : [ 1 , "x y" ] } `: `{"a":[1,"x y"]}`,
		`12345678901234567890.5`:    `12345678901234567890.5`,
		`null`:                      `null`,
		``:                          ``,
		`hello`:                     ``,
		`{"a":1} {}`:                ``,
		"\"\xff\"":                  ``,
		nested(500):                 nested(500),
		nested(501):                 ``,
		`"` + nested(501) + `"`:     `"` + nested(501) + `"`,
		`"\"` + nested(501) + `"`:   `"\"` + nested(501) + `"`,
	} {
		if got := string(payloadJSON([]byte(payload))); got != want {
			t.Errorf("%.40q: got %.40q, want %.40q", payload, got, want)
		}
	}
}
