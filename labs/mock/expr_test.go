package mock

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/internal/wire"
)

var exprVars = []string{"word", "n", "list", "nothing"}

func exprScope(kind wire.Opcode, data string) *scope {
	return &scope{
		message: &message{kind: kind, data: []byte(data), number: 3}, round: 2,
		vars: map[string]any{"word": "amber", "n": 3.0, "list": []any{"a", 2.0}, "nothing": nil},
		conn: connFacts{number: 1, path: "/chat", subprotocol: "chat.v1", received: 3, sent: 4},
	}
}

func TestExpressions(t *testing.T) {
	text := exprScope(wire.Text, `{"type":"say","n":7,"user":{"name":"Ann","tags":["x","y"]},"on":true,"0":"zero"}`)
	bytes := exprScope(wire.Binary, "\x00\x01\x02\x03\x3f\xf8\x00\x00\x00\x00\x00\x00"+string(binary.BigEndian.AppendUint64(nil, math.Float64bits(math.NaN()))))
	connect := &scope{vars: map[string]any{}}
	for _, c := range []struct {
		scope      *scope
		expr, want string
	}{
		{text, "1 + 2 * 3 - 4 / 2", "5"},
		{text, "(1 + 2) * 3 % 4", "1"},
		{text, "-n + 1", "-2"},
		{text, "1 < 2 and 2 <= 2 and not (3 > 4) or false", "true"},
		{text, "'a' < \"b\" and 'x' != 'y'", "true"},
		{text, "1 < 'a'", "false"},
		{text, "word + '-' + n", "amber-3"},
		{text, "list[1] + list[0]", "2a"},
		{text, "list[7]", ""},
		{text, "list == list and json.user == json.user and json != list", "true"},
		{text, "json.user.name + json.user.tags.1 + json['type'] + json[0]", "Annysayzero"},
		{text, "json.missing.more", ""},
		{text, "json.user.tags", `["x","y"]`},
		{text, "json.n * 2", "14"},
		{text, "json.on == true", "true"},
		{text, "length(json.user.tags) + length(word) + length(json.user)", "9"},
		{text, "length(n)", ""},
		{text, "number('1.50') + number(n)", "4.5"},
		{text, "number('NaN') == null and number('x') == null and number(json) == null", "true"},
		{text, "1 / 0 == null and word * 2 == null and 5 % 0 == null", "true"},
		{text, "connection + received + sent + round", "10"},
		{text, "path + ' ' + subprotocol + ' ' + kind", "/chat chat.v1 text"},
		{text, "'it\\'s'", "it's"},
		{text, `"a\tb\nc\\"`, "a\tb\nc\\"},
		{text, "not '' and not 0 and not null and not false and not not list and not not 'a'", "true"},
		{text, "0.1 + 0.2", "0.30000000000000004"},
		{text, "1000000 * 1000000 * 1000000 * 1000", "1e+21"},
		{bytes, "u8(1) + u16(2) + u32(0)", "66567"},
		{bytes, "f64(4)", "1.5"},
		{bytes, "f64(12) == null and u8(f64(12)) == null", "true"},
		{bytes, "u8(-1) == null and u8(20) == null and u32(17) == null and u8('a') == null", "true"},
		{bytes, "bytes", "20"},
		{bytes, "json", ""},
		{connect, "text + hex + sha256 + kind + json + bytes + u8(0)", "0"},
	} {
		e, err := parseExpr(c.expr, exprVars)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
		} else if got := render(e.eval(c.scope)); got != c.want {
			t.Errorf("%s is %s, want %s", c.expr, got, c.want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"1 + 2 * n", "json.user.tags.1 == 'y' and not (u32(0) >= 2)", "length(list[0]) % -3", "f64(u8(0)) / 0", "'a\\'b' + \"c\""} {
		f.Add(seed, "{\"user\":{\"tags\":[1,\"y\"]}}")
	}
	f.Fuzz(func(t *testing.T, text, message string) {
		e, err := parseExpr(text, exprVars)
		if err != nil {
			return
		}
		for _, kind := range []wire.Opcode{wire.Text, wire.Binary} {
			v := e.eval(exprScope(kind, message))
			if n, ok := v.(float64); ok && (math.IsNaN(n) || math.IsInf(n, 0)) {
				t.Errorf("%s is %v", text, n)
			}
			if s := render(v); len(s) > maxBytes+64 && !strings.Contains(message, s) {
				t.Errorf("%s has %d bytes", text, len(s))
			}
		}
	})
}
