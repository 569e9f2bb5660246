package mock

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// duration is a time such as 200ms or 1.5s.
type duration time.Duration

func (v *duration) decode(d *decoder, n *yaml.Node) {
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || t < 0 {
		d.fail(n, "%q is not a time: write 200ms, 1.5s or 0s", n.Value)
	}
	*v = duration(t)
}

// pingEvery is a time from 200ms to 60s, or below zero for never.
type pingEvery time.Duration

func (v *pingEvery) decode(d *decoder, n *yaml.Node) {
	if *v = -1; n.Value == "never" {
		return
	}
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || t < 200*time.Millisecond || t > time.Minute {
		d.fail(n, "ping_every is never, or a time from 200ms to 60s, not %q", n.Value)
	}
	*v = pingEvery(t)
}

// span is two numbers.
type span struct{ from, to float64 }

func (v *span) decode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode || len(n.Content) != 2 {
		d.fail(n, "this is a list of two numbers, such as [1, 6]")
	}
	var ends [2]float64
	for i, end := range n.Content {
		f, err := strconv.ParseFloat(end.Value, 64)
		if end.Kind != yaml.ScalarNode || err != nil || math.Abs(f) > 1<<53 || math.IsNaN(f) {
			d.fail(end, "%q is not a number between -2^53 and 2^53", end.Value)
		}
		ends[i] = f
	}
	if ends[0] > ends[1] {
		d.fail(n, "the first number has to be the smaller one")
	}
	v.from, v.to = ends[0], ends[1]
}

// from draws a value.
func (v *draw) from(r *rand.Rand) any {
	switch {
	case v.Int != nil:
		low, high := math.Ceil(v.Int.from), math.Floor(v.Int.to)
		return low + float64(r.Int64N(int64(high-low)+1))
	case v.Float != nil:
		return v.Float.from + r.Float64()*(v.Float.to-v.Float.from)
	case v.OneOf != nil:
		return v.OneOf[r.IntN(len(v.OneOf))]
	}
	return hex.EncodeToString(randomBytes(r, v.Hex))
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

// pcre is a regular expression.
type pcre struct{ *regexp.Regexp }

func (v *pcre) decode(d *decoder, n *yaml.Node) {
	compiled, err := regexp.Compile(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.fail(n, "%q is not a regular expression in RE2's syntax (https://golang.org/s/re2syntax)", n.Value)
	}
	v.Regexp = compiled
}

// condition is an expression that holds or not.
type condition struct {
	source string
	expr   expr
}

func (v *condition) decode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "if is an expression, such as: received == 3")
	}
	v.source, v.expr = n.Value, d.expr(n, n.Value)
}

func (v *condition) holds(s *scope) bool { return v == nil || truth(v.expr.eval(s)) }

func (d *decoder) expr(n *yaml.Node, text string) expr {
	e, err := parseExpr(text, d.vars)
	if err != nil {
		d.fail(n, "%v", err)
	}
	return e
}

// template is text with expressions in it: {{seq + 1}}.
type template struct {
	source string
	parts  []any // string or expr
}

func (v *template) decode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "this is a text; expressions in it stand in {{ and }}")
	}
	v.source = n.Value
	rest := n.Value
	for {
		before, after, found := strings.Cut(rest, "{{")
		if before != "" {
			v.parts = append(v.parts, before)
		}
		if !found {
			return
		}
		inner, behind, closed := strings.Cut(after, "}}")
		if !closed {
			d.fail(n, "%q opens an expression with {{ and does not close it with }}", n.Value)
		}
		v.parts = append(v.parts, d.expr(n, inner))
		rest = behind
	}
}

// text puts the values in. It stops at the largest size that is sent.
func (v *template) text(s *scope) string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	for _, part := range v.parts {
		text, literal := part.(string)
		if !literal {
			text = render(part.(expr).eval(s))
		}
		b.WriteString(text[:min(len(text), maxBytes-b.Len())])
		if b.Len() == maxBytes {
			break
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// value is the value of the one expression that the template is, or its text.
func (v *template) value(s *scope) any {
	if len(v.parts) == 1 {
		if e, ok := v.parts[0].(expr); ok {
			return e.eval(s)
		}
	}
	return v.text(s)
}

// value is a value of JSON with templates in its texts.
type value struct {
	constant any         // bool, float64 or nil
	template *template   // or a text
	list     []value     // or a list
	object   []valuePair // or an object, in the order of the script
	is       byte        // which: c, t, l, o
}

type valuePair struct {
	key   string
	value value
}

func (v *value) decode(d *decoder, n *yaml.Node) {
	if d.depth++; d.depth > maxDepth {
		d.fail(n, "this is nested too deeply: at most %d levels", maxDepth)
	}
	defer func() { d.depth-- }()
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fail(n, "anchors and aliases are not accepted: write it out")
	}
	switch n.Kind {
	case yaml.SequenceNode:
		v.is, v.list = 'l', make([]value, len(n.Content))
		for i, item := range n.Content {
			v.list[i].decode(d, item)
		}
	case yaml.MappingNode:
		v.is = 'o'
		for i := 0; i+1 < len(n.Content); i += 2 {
			pair := valuePair{key: d.key(n.Content[i])}
			if slices.ContainsFunc(v.object, func(p valuePair) bool { return p.key == pair.key }) {
				d.fail(n.Content[i], "%q is there twice", pair.key)
			}
			pair.value.decode(d, n.Content[i+1])
			v.object = append(v.object, pair)
		}
	default:
		v.is = 'c'
		switch n.Tag {
		case "!!null":
		case "!!bool":
			var b bool
			_ = n.Decode(&b)
			v.constant = b
		case "!!int", "!!float":
			var f float64
			if err := n.Decode(&f); err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
				d.fail(n, "%q is not a number that JSON has", n.Value)
			}
			v.constant = f
		default:
			v.is, v.template = 't', &template{}
			v.template.decode(d, n)
		}
	}
}

// resolve puts the values in. budget is how many bytes of text are left.
func (v *value) resolve(s *scope, budget *int) any {
	if *budget -= 8; *budget < 0 {
		return nil
	}
	switch v.is {
	case 't':
		resolved := v.template.value(s)
		switch resolved := resolved.(type) {
		case string:
			*budget -= len(resolved)
		case []any, map[string]any:
			*budget -= len(render(resolved))
		}
		if *budget < 0 {
			return nil
		}
		return resolved
	case 'l':
		list := make([]any, len(v.list))
		for i := range v.list {
			list[i] = v.list[i].resolve(s, budget)
		}
		return list
	case 'o':
		object := make(map[string]any, len(v.object))
		for _, pair := range v.object {
			object[pair.key] = pair.value.resolve(s, budget)
		}
		return object
	}
	return v.constant
}

// now is the value as it is now.
func (v *value) now(s *scope) any {
	budget := maxBytes
	return v.resolve(s, &budget)
}

// constant is a value without expressions: what a variable begins with.
type constant struct{ value any }

func (v *constant) decode(d *decoder, n *yaml.Node) {
	vars := d.vars
	d.vars = nil
	var written value
	written.decode(d, n)
	d.vars = vars
	v.value = written.now(&scope{})
}

// jsonData is a value that is sent as JSON, with its members in the script's order.
type jsonData struct{ value }

func (v *jsonData) text(s *scope) []byte {
	budget := maxBytes
	return v.appendJSON(nil, s, &budget)
}

// appendJSON writes a value.
func (v *value) appendJSON(b []byte, s *scope, budget *int) []byte {
	switch v.is {
	case 'l':
		b = append(b, '[')
		for i := range v.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.list[i].appendJSON(b, s, budget)
		}
		return append(b, ']')
	case 'o':
		b = append(b, '{')
		for i := range v.object {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSON(b, v.object[i].key), ':')
			b = v.object[i].value.appendJSON(b, s, budget)
		}
		return append(b, '}')
	}
	return appendJSON(b, v.resolve(s, budget))
}

func appendJSON(b []byte, v any) []byte {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(v) != nil {
		return append(b, "null"...)
	}
	return append(b, strings.TrimSuffix(text.String(), "\n")...)
}

// binaryData is bytes: hexadecimal digits, or a list of parts.
type binaryData []part

// part is a piece of binaryData.
type part struct {
	_      oneOf
	Hex    *hexBytes `key:"hex" short:"" doc:"These bytes, as hexadecimal digits."`
	Text   *template `key:"text" doc:"This text in UTF-8."`
	U8     *value    `key:"u8" doc:"A number in one byte."`
	U16    *value    `key:"u16" doc:"A number in two bytes, big-endian."`
	U32    *value    `key:"u32" doc:"A number in four bytes, big-endian."`
	U64    *value    `key:"u64" doc:"A number in eight bytes, big-endian."`
	F64    *value    `key:"f64" doc:"A number as a float of eight bytes, big-endian."`
	Random int       `key:"random" doc:"So many random bytes." min:"1" max:"1048576"`
	Zeros  int       `key:"zeros" doc:"So many bytes that are zero." min:"1" max:"1048576"`
}

func (v *binaryData) decode(d *decoder, n *yaml.Node) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	} else if n.Kind != yaml.ScalarNode {
		d.fail(n, "bytes are hexadecimal digits, such as \"de ad be ef\", or a list of parts")
	}
	if len(items) > maxActions {
		d.fail(n, "these are %d parts: at most %d are accepted", len(items), maxActions)
	}
	*v = make(binaryData, len(items))
	size := 0
	for i, item := range items {
		d.decode(item, reflect.ValueOf(&(*v)[i]).Elem(), "", "bytes")
		size += (*v)[i].Random + (*v)[i].Zeros
	}
	if size > maxBytes {
		d.fail(n, "these are more than %d bytes", maxBytes)
	}
}

// bytes puts the values in. It stops at the largest size that is sent.
func (v binaryData) bytes(s *scope, r *rand.Rand) []byte {
	b := []byte{}
	for i := range v {
		b = v[i].append(b, s, r)
	}
	return b[:min(len(b), maxBytes)]
}

func (v *part) append(b []byte, s *scope, r *rand.Rand) []byte {
	number := func(v *value) float64 {
		switch n := v.now(s).(type) {
		case float64:
			return n
		case string:
			f, _ := strconv.ParseFloat(n, 64)
			return f
		}
		return 0
	}
	switch {
	case v.Hex != nil:
		return append(b, *v.Hex...)
	case v.Text != nil:
		return append(b, v.Text.text(s)...)
	case v.U8 != nil:
		return append(b, byte(whole(number(v.U8))))
	case v.U16 != nil:
		return binary.BigEndian.AppendUint16(b, uint16(whole(number(v.U16))))
	case v.U32 != nil:
		return binary.BigEndian.AppendUint32(b, uint32(whole(number(v.U32))))
	case v.U64 != nil:
		return binary.BigEndian.AppendUint64(b, whole(number(v.U64)))
	case v.F64 != nil:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(number(v.F64)))
	case v.Random > 0:
		return append(b, randomBytes(r, v.Random)...)
	}
	return append(b, make([]byte, v.Zeros)...)
}

// whole is a number as an integer of 64 bits; one below zero is what two's
// complement makes of it.
func whole(f float64) uint64 {
	switch {
	case f >= 1<<63:
		return uint64(min(f, 1<<64-2048))
	case f <= -1<<63 || f != f:
		return 0
	}
	return uint64(int64(f))
}

// hexBytes are written as hexadecimal digits; spaces do not matter.
type hexBytes []byte

func (v *hexBytes) decode(d *decoder, n *yaml.Node) {
	b, err := hex.DecodeString(strings.Join(strings.Fields(n.Value), ""))
	if n.Kind != yaml.ScalarNode || err != nil {
		d.fail(n, "%q is not bytes: write pairs of hexadecimal digits, such as \"de ad be ef\"", n.Value)
	}
	*v = b
}
