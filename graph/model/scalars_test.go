package model

import (
	"reflect"
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

// TestJSONIsDecoded: what a client gives as JSON is compared as a value.
func TestJSONIsDecoded(t *testing.T) {
	for _, want := range []any{nil, true, "1006", 1006.0, []any{"a", 1.0}, map[string]any{"a": nil}} {
		j, err := UnmarshalJSON(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := j.Decoded(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s was decoded as %#v, not %#v", j, got, want)
		}
	}
	if got := JSON(nil).Decoded(); got != nil {
		t.Errorf("nothing was decoded as %#v", got)
	}
}
