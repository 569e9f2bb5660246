package mock

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A value is nil, a bool, a float64, a string, a []any or a map[string]any:
// what encoding/json makes of JSON.

// expr is an expression. It cannot fail: what makes no sense, such as a byte
// behind the end of a message or a number times a text, is null.
type expr interface{ eval(*scope) any }

// scope is what an expression sees.
type scope struct {
	message *message       // nil: nothing was received
	round   int            // of the repeat around it, from 1; 0: there is none
	vars    map[string]any // of the connection
	conn    connFacts
}

// connFacts are what a connection knows of itself.
type connFacts struct {
	number            int
	path, subprotocol string
	received, sent    int
}

// names are the words that mean something in an expression, and what they mean.
var names = []struct {
	name, doc string
	value     func(*scope) any
}{
	{"text", "the message as text", func(s *scope) any { return s.message.text() }},
	{"json", "the message as JSON, with json.member and json.list[0]; null when it is none", func(s *scope) any { return s.message.json() }},
	{"bytes", "the size of the message", func(s *scope) any { return float64(len(s.message.payload())) }},
	{"hex", "the bytes of the message as hexadecimal digits", func(s *scope) any { return s.message.hex() }},
	{"sha256", "the SHA-256 of the message as hexadecimal digits", func(s *scope) any { return s.message.sha256() }},
	{"kind", "the kind of the message: text, binary, ping or pong", func(s *scope) any { return s.message.kindName() }},
	{"connection", "the number of the connection on this path since the script was set, from 1", func(s *scope) any { return float64(s.conn.number) }},
	{"path", "the path of the connection's URL", func(s *scope) any { return s.conn.path }},
	{"subprotocol", "the subprotocol that was chosen, or nothing", func(s *scope) any { return s.conn.subprotocol }},
	{"received", "how many messages have come on this connection, this one too", func(s *scope) any { return float64(s.conn.received) }},
	{"sent", "how many messages have been sent on this connection", func(s *scope) any { return float64(s.conn.sent) }},
	{"round", "the number of the round within a repeat, from 1", func(s *scope) any { return float64(s.round) }},
}

// functions take one value.
var functions = []struct {
	name, doc string
	call      func(*scope, any) any
}{
	{"u8", "the byte at an offset of the message", number(1, func(b []byte) float64 { return float64(b[0]) })},
	{"u16", "the two bytes at an offset, big-endian", number(2, func(b []byte) float64 { return float64(binary.BigEndian.Uint16(b)) })},
	{"u32", "the four bytes at an offset, big-endian", number(4, func(b []byte) float64 { return float64(binary.BigEndian.Uint32(b)) })},
	{"u64", "the eight bytes at an offset, big-endian; exact up to 2^53", number(8, func(b []byte) float64 { return float64(binary.BigEndian.Uint64(b)) })},
	{"f64", "the eight bytes at an offset as a big-endian float", number(8, func(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) })},
	{"number", "a text as a number", func(_ *scope, v any) any {
		if text, ok := v.(string); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				return nil
			}
			return finite(n)
		}
		if n, ok := v.(float64); ok {
			return n
		}
		return nil
	}},
	{"length", "characters of a text, elements of a list, members of an object", func(_ *scope, v any) any {
		switch v := v.(type) {
		case string:
			return float64(utf8.RuneCountInString(v))
		case []any:
			return float64(len(v))
		case map[string]any:
			return float64(len(v))
		}
		return nil
	}},
}

// number reads a number of size bytes at an offset of the message.
func number(size int, read func([]byte) float64) func(*scope, any) any {
	return func(s *scope, v any) any {
		offset, ok := v.(float64)
		payload := s.message.payload()
		if !ok || !(offset >= 0 && offset+float64(size) <= float64(len(payload))) {
			return nil
		}
		return finite(read(payload[int(offset):]))
	}
}

type (
	literal  struct{ value any }
	name     func(*scope) any
	variable string
	member   struct{ of, key expr }
	call     struct {
		function func(*scope, any) any
		of       expr
	}
	binop struct {
		apply       func(a, b any) any
		left, right expr
	}
	logic struct {
		and         bool
		left, right expr
	}
	negation struct{ of expr }
)

func (e literal) eval(*scope) any    { return e.value }
func (e name) eval(s *scope) any     { return e(s) }
func (e variable) eval(s *scope) any { return s.vars[string(e)] }
func (e call) eval(s *scope) any     { return e.function(s, e.of.eval(s)) }
func (e negation) eval(s *scope) any { return !truth(e.of.eval(s)) }
func (e binop) eval(s *scope) any    { return e.apply(e.left.eval(s), e.right.eval(s)) }

func (e logic) eval(s *scope) any {
	if left := truth(e.left.eval(s)); left != e.and {
		return left
	}
	return truth(e.right.eval(s))
}

func (e member) eval(s *scope) any { return lookUp(e.of.eval(s), e.key.eval(s)) }

// lookUp is a member of an object or an element of a list, else nil.
func lookUp(of, key any) any {
	switch of := of.(type) {
	case map[string]any:
		return of[render(key)]
	case []any:
		i, ok := key.(float64)
		if text, isText := key.(string); isText {
			n, err := strconv.Atoi(text)
			i, ok = float64(n), err == nil
		}
		if ok && i >= 0 && i < float64(len(of)) {
			return of[int(i)]
		}
	}
	return nil
}

// truth is what a condition makes of a value.
func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	}
	return v != nil
}

// render is a value as text: what a template puts in. null is nothing.
func render(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		if math.Abs(v) < 1e21 && (v == 0 || math.Abs(v) >= 1e-6) { // as JavaScript and JSON write it
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key, value := range a {
			other, has := b[key]
			if !has || !equal(value, other) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any: // which cannot be compared by ==
		return false
	}
	return a == b
}

// binary operators, by how tightly they bind.
var operators = []map[string]func(a, b any) any{
	{"or": nil},
	{"and": nil},
	{
		"==": func(a, b any) any { return equal(a, b) },
		"!=": func(a, b any) any { return !equal(a, b) },
		"<":  order(func(c int) bool { return c < 0 }),
		"<=": order(func(c int) bool { return c <= 0 }),
		">":  order(func(c int) bool { return c > 0 }),
		">=": order(func(c int) bool { return c >= 0 }),
	},
	{
		"+": func(a, b any) any {
			_, left := a.(string)
			_, right := b.(string)
			if left || right {
				if joined := render(a) + render(b); len(joined) <= maxBytes {
					return joined
				}
				return nil
			}
			return arithmetic(func(a, b float64) float64 { return a + b })(a, b)
		},
		"-": arithmetic(func(a, b float64) float64 { return a - b }),
	},
	{
		"*": arithmetic(func(a, b float64) float64 { return a * b }),
		"/": arithmetic(func(a, b float64) float64 { return a / b }),
		"%": arithmetic(math.Mod),
	},
}

func arithmetic(f func(a, b float64) float64) func(a, b any) any {
	return func(a, b any) any {
		x, ok := a.(float64)
		y, also := b.(float64)
		if !ok || !also {
			return nil
		}
		return finite(f(x, y))
	}
}

// finite is a number, or null for those that JSON has not.
func finite(n float64) any {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return nil
	}
	return n
}

func order(holds func(int) bool) func(a, b any) any {
	return func(a, b any) any {
		switch x := a.(type) {
		case float64:
			if y, ok := b.(float64); ok {
				return holds(cmp.Compare(x, y))
			}
		case string:
			if y, ok := b.(string); ok {
				return holds(strings.Compare(x, y))
			}
		}
		return false
	}
}

// exprParser reads one expression.
type exprParser struct {
	text  string
	at    int
	depth int
	known func(string) bool // whether it is a variable
	all   []string          // what is known, for suggestions
}

// maxDepth is how deeply expressions, JSON and YAML may be nested.
const maxDepth = 32

// parseExpr reads an expression. vars are the variables that there are.
func parseExpr(text string, vars []string) (_ expr, err error) {
	p := &exprParser{text: text, known: func(s string) bool { return slices.Contains(vars, s) }, all: vars}
	defer func() {
		if wrong, ok := recover().(exprError); ok {
			err = wrong
		}
	}()
	e := p.binary(0)
	if t := p.peek(); t != "" {
		p.fail("%q does not belong into %q", t, text)
	}
	return e, nil
}

// exprError is what is wrong with an expression. The parser panics with it.
type exprError string

func (e exprError) Error() string { return string(e) }

func (p *exprParser) fail(format string, args ...any) { panic(exprError(fmt.Sprintf(format, args...))) }

// peek returns the next token, or nothing at the end.
func (p *exprParser) peek() string {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	rest := p.text[p.at:]
	if rest == "" {
		return ""
	}
	switch c := rest[0]; {
	case isLetter(c) || isDigit(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n]) || isDigit(c) && rest[n] == '.' && n+1 < len(rest) && isDigit(rest[n+1])) {
			n++
		}
		return rest[:n]
	case c == '"' || c == '\'':
		for n := 1; n < len(rest); n++ {
			switch rest[n] {
			case '\\':
				n++
			case c:
				return rest[:n+1]
			}
		}
		p.fail("the text %s has no end", rest)
	case len(rest) > 1 && rest[1] == '=' && strings.IndexByte("=!<>", c) >= 0:
		return rest[:2]
	}
	_, n := utf8.DecodeRuneInString(rest)
	return rest[:n]
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func (p *exprParser) next() string {
	t := p.peek()
	p.at += len(t)
	return t
}

func (p *exprParser) want(t string) {
	if got := p.next(); got != t {
		p.fail("%q needs %q where %q is", p.text, t, got)
	}
}

// binary reads operators that bind at least as tightly as level says.
func (p *exprParser) binary(level int) expr {
	if level == len(operators) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for {
		operator := p.peek()
		apply, ok := operators[level][operator]
		if !ok {
			return left
		}
		p.next()
		right := p.binary(level + 1)
		if apply == nil {
			left = logic{operator == "and", left, right}
		} else {
			left = binop{apply, left, right}
		}
	}
}

func (p *exprParser) unary() expr {
	if p.depth++; p.depth > maxDepth {
		p.fail("%q is nested too deeply: at most %d levels", p.text, maxDepth)
	}
	defer func() { p.depth-- }()
	switch p.peek() {
	case "not":
		p.next()
		return negation{p.unary()}
	case "-":
		p.next()
		return binop{arithmetic(func(a, b float64) float64 { return a - b }), literal{0.0}, p.unary()}
	}
	e := p.primary()
	for {
		switch p.peek() {
		case ".":
			p.next()
			key := p.next()
			if key == "" || !isLetter(key[0]) && !isDigit(key[0]) {
				p.fail("%q needs the name of a member behind the dot", p.text)
			}
			for _, part := range strings.Split(key, ".") { // a.0.1 reads as a number
				e = member{e, literal{part}}
			}
		case "[":
			p.next()
			e = member{e, p.binary(0)}
			p.want("]")
		default:
			return e
		}
	}
}

func (p *exprParser) primary() expr {
	t := p.next()
	switch {
	case t == "":
		p.fail("%q ends too early: a value has to follow", p.text)
	case t == "(":
		e := p.binary(0)
		p.want(")")
		return e
	case t == "true", t == "false":
		return literal{t == "true"}
	case t == "null":
		return literal{nil}
	case isDigit(t[0]):
		n, err := strconv.ParseFloat(t, 64)
		if err != nil || strings.ContainsAny(t, "xX_pP") {
			p.fail("%q is not a number", t)
		}
		return literal{n}
	case t[0] == '"' || t[0] == '\'':
		return literal{unquote(t[1 : len(t)-1])}
	case !isLetter(t[0]):
		p.fail("%q does not belong into %q", t, p.text)
	}
	if p.peek() == "(" {
		return p.call(t)
	}
	for _, n := range names {
		if n.name == t {
			return name(n.value)
		}
	}
	if p.known(t) {
		return variable(t)
	}
	all := slices.Clone(p.all)
	for _, n := range names {
		all = append(all, n.name)
	}
	p.fail("%q is not known here (variables are declared under vars or draw)%s", t, suggest(t, all))
	return nil
}

func (p *exprParser) call(function string) expr {
	p.want("(")
	of := p.binary(0)
	p.want(")")
	var all []string
	for _, f := range functions {
		if f.name == function {
			return call{f.call, of}
		}
		all = append(all, f.name)
	}
	p.fail("%q is not a function%s", function, suggest(function, all))
	return nil
}

// unquote takes the backslashes out: \n and \t, else the character itself.
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
				continue
			case 't':
				b.WriteByte('\t')
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
