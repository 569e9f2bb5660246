package mock

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// message is one thing that came from the client.
type message struct {
	kind   wire.Opcode
	data   []byte
	number int // among the messages of its connection, from 1; 0: a control frame
	code   int // of a Close frame

	// What expressions ask for, made once.
	decoded, isJSON bool
	tree            any
	asText, asHex   string
	sum             string
}

// once makes a text when it is first asked for.
func once(kept *string, make func() string) string {
	if *kept == "" {
		*kept = make()
	}
	return *kept
}

func (m *message) text() string {
	if m == nil {
		return ""
	}
	return once(&m.asText, func() string { return string(m.data) })
}

func (m *message) hex() string {
	if m == nil {
		return ""
	}
	return once(&m.asHex, func() string { return hex.EncodeToString(m.data) })
}

func (m *message) sha256() string {
	if m == nil {
		return ""
	}
	return once(&m.sum, func() string {
		sum := sha256.Sum256(m.data)
		return hex.EncodeToString(sum[:])
	})
}

func (m *message) payload() []byte {
	if m == nil {
		return nil
	}
	return m.data
}

func (m *message) kindName() string {
	if m == nil {
		return ""
	}
	return m.kind.String()
}

// json is what the message holds, decoded once.
func (m *message) json() any {
	if m == nil || m.kind != wire.Text {
		return nil
	}
	if !m.decoded {
		m.decoded = true
		m.isJSON = json.Unmarshal(m.data, &m.tree) == nil
	}
	return m.tree
}

// String is what a verdict shows of a message.
func (m *message) String() string {
	switch {
	case m.kind == wire.Close && m.code == wire.Abnormal && len(m.data) > 0:
		return "a connection that the server had to end: " + string(m.data)
	case m.kind == wire.Close && m.code == wire.Abnormal:
		return "a connection that ended without a Close frame"
	case m.kind == wire.Close && m.code == wire.NoStatus:
		return "an empty Close frame"
	case m.kind == wire.Close:
		if len(m.data) == 0 {
			return fmt.Sprintf("close %d", m.code)
		}
		return fmt.Sprintf("close %d %s", m.code, excerpt(m.data))
	case m.kind == wire.Binary:
		shown := m.data[:min(len(m.data), 16)]
		text := fmt.Sprintf("binary, %d bytes: % x", len(m.data), shown)
		if len(shown) < len(m.data) {
			text += " …"
		}
		return text
	}
	return fmt.Sprintf("%v %s", m.kind, excerpt(m.data))
}

// excerpt shortens a text for people.
func excerpt(text []byte) string {
	const most = 100
	if len(text) <= most {
		return strconv.Quote(string(text))
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%q… (%d bytes)", text[:end], len(text))
}

// fits reports whether a message is what is described.
func (v *received) fits(m *message, s *scope) bool {
	switch {
	case v.Message:
		return m.kind == wire.Text || m.kind == wire.Binary
	case v.Text != nil:
		return m.kind == wire.Text && v.Text.fits(m.data, s)
	case v.JSON != nil:
		return m.kind == wire.Text && (m.json() != nil || m.isJSON) && v.JSON.fits(m.json(), s)
	case v.Binary != nil:
		return m.kind == wire.Binary && v.Binary.fits(m.data, s)
	case v.Ping != nil:
		return m.kind == wire.Ping && v.Ping.fits(m.data, s)
	case v.Pong != nil:
		return m.kind == wire.Pong && v.Pong.fits(m.data, s)
	}
	return false
}

// kindOf is the kind of message that is described; Continuation: any.
func (v *received) kindOf() wire.Opcode {
	switch {
	case v.Text != nil, v.JSON != nil:
		return wire.Text
	case v.Binary != nil:
		return wire.Binary
	case v.Ping != nil:
		return wire.Ping
	case v.Pong != nil:
		return wire.Pong
	}
	return wire.Continuation
}

func (v *received) String() string {
	switch {
	case v.Text != nil:
		return v.Text.describe("text")
	case v.JSON != nil:
		return v.JSON.String()
	case v.Binary != nil:
		return v.Binary.String()
	case v.Ping != nil:
		return v.Ping.describe("ping")
	case v.Pong != nil:
		return v.Pong.describe("pong")
	}
	return "any message"
}

func (v *textMatch) fits(data []byte, s *scope) bool {
	switch {
	case v.Exact != nil:
		return string(data) == v.Exact.text(s)
	case v.Contains != nil:
		return strings.Contains(string(data), v.Contains.text(s))
	case v.Matches != nil:
		return v.Matches.Match(data)
	}
	return true
}

func (v *textMatch) describe(kind string) string {
	switch {
	case v.Exact != nil:
		return fmt.Sprintf("%s %q", kind, v.Exact.source)
	case v.Contains != nil:
		return fmt.Sprintf("%s with %q in it", kind, v.Contains.source)
	case v.Matches != nil:
		return fmt.Sprintf("%s that matches %s", kind, v.Matches)
	}
	return "any " + kind
}

// Random parts fit no message: what is compared is drawn anew.
func (v *bytesMatch) fits(data []byte, s *scope) bool {
	r := rand.New(rand.NewPCG(0, 0))
	switch {
	case v.Exact != nil:
		return bytes.Equal(data, v.Exact.bytes(s, r))
	case v.Starts != nil:
		return bytes.HasPrefix(data, v.Starts.bytes(s, r))
	case v.Contains != nil:
		return bytes.Contains(data, v.Contains.bytes(s, r))
	}
	return true
}

func (v *bytesMatch) String() string {
	switch {
	case v.Exact != nil:
		return "binary " + v.Exact.String()
	case v.Starts != nil:
		return "binary that starts with " + v.Starts.String()
	case v.Contains != nil:
		return fmt.Sprintf("binary with %v in it", v.Contains)
	}
	return "any binary message"
}

func (v binaryData) String() string {
	var parts []string
	for i := range v {
		p := &v[i]
		switch {
		case p.Hex != nil:
			parts = append(parts, fmt.Sprintf("% x", []byte(*p.Hex)))
		case p.Text != nil:
			parts = append(parts, strconv.Quote(p.Text.source))
		case p.Zeros > 0:
			parts = append(parts, fmt.Sprintf("%d zeros", p.Zeros))
		case p.Random > 0:
			parts = append(parts, fmt.Sprintf("%d random bytes", p.Random))
		default:
			for _, n := range []struct {
				kind  string
				value *value
			}{{"u8", p.U8}, {"u16", p.U16}, {"u32", p.U32}, {"u64", p.U64}, {"f64", p.F64}} {
				if n.value != nil {
					parts = append(parts, n.kind+" "+n.value.String())
				}
			}
		}
	}
	return strings.Join(parts, ", ")
}

// String is the value as the script has it.
func (v *value) String() string {
	switch v.is {
	case 't':
		return strconv.Quote(v.template.source)
	case 'l':
		items := make([]string, len(v.list))
		for i := range v.list {
			items[i] = v.list[i].String()
		}
		return "[" + strings.Join(items, ", ") + "]"
	case 'o':
		members := make([]string, len(v.object))
		for i := range v.object {
			members[i] = v.object[i].key + ": " + v.object[i].value.String()
		}
		return "{" + strings.Join(members, ", ") + "}"
	}
	return string(appendJSON(nil, v.constant))
}

func (v *closeMatch) fits(m *message, s *scope) bool {
	return m.kind == wire.Close && (v.Code == nil || *v.Code == m.code) && (v.Reason == nil || v.Reason.fits(m.data, s))
}

func (v *closeMatch) String() string {
	text := "any end of the connection"
	if v.Code != nil {
		text = fmt.Sprintf("close %d", *v.Code)
	}
	if v.Reason != nil {
		text += " with " + v.Reason.describe("reason")
	}
	return text
}

// pattern is what JSON has to hold at least.
type pattern struct {
	equal   *value          // a scalar
	list    []*pattern      // element by element
	members []patternMember // by path
	matches *regexp.Regexp  // of a text
	kind    string          // of anything
}

type patternMember struct {
	path    []string
	pattern *pattern
}

var jsonTypes = []string{"string", "number", "boolean", "null", "array", "object", "any"}

func (v *pattern) decode(d *decoder, n *yaml.Node) {
	if d.depth++; d.depth > maxDepth {
		d.fail(n, "this is nested too deeply: at most %d levels", maxDepth)
	}
	defer func() { d.depth-- }()
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fail(n, "anchors and aliases are not accepted: write it out")
	}
	switch n.Kind {
	case yaml.SequenceNode:
		v.list = []*pattern{}
		for _, item := range n.Content {
			p := &pattern{}
			p.decode(d, item)
			v.list = append(v.list, p)
		}
	case yaml.MappingNode:
		v.members = []patternMember{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if strings.HasPrefix(d.key(key), "$") {
				v.special(d, n, key, value)
				continue
			}
			m := patternMember{strings.Split(key.Value, "."), &pattern{}}
			if slices.ContainsFunc(v.members, func(other patternMember) bool { return slices.Equal(other.path, m.path) }) {
				d.fail(key, "%q is there twice", key.Value)
			}
			m.pattern.decode(d, value)
			v.members = append(v.members, m)
		}
	default:
		v.equal = &value{}
		v.equal.decode(d, n)
	}
}

// special is a mapping with the one member $matches or $type.
func (v *pattern) special(d *decoder, whole, key, value *yaml.Node) {
	if len(whole.Content) != 2 {
		d.fail(key, "%q has to stand alone", key.Value)
	}
	switch key.Value {
	case "$matches":
		var r pcre
		r.decode(d, value)
		v.matches = r.Regexp
	case "$type":
		if !slices.Contains(jsonTypes, value.Value) {
			d.fail(value, "%q is not a type of JSON%s", value.Value, suggest(value.Value, jsonTypes))
		}
		v.kind = value.Value
	default:
		d.fail(key, "%q is not known in a JSON pattern%s", key.Value, suggest(key.Value, []string{"$matches", "$type"}))
	}
}

func (v *pattern) fits(got any, s *scope) bool {
	switch {
	case v.equal != nil:
		return equal(got, v.equal.now(s))
	case v.matches != nil:
		text, ok := got.(string)
		return ok && v.matches.MatchString(text)
	case v.kind != "":
		return v.kind == "any" || v.kind == jsonType(got)
	case v.list != nil:
		list, ok := got.([]any)
		return ok && slices.EqualFunc(v.list, list, func(p *pattern, item any) bool { return p.fits(item, s) })
	case v.members != nil:
		if _, ok := got.(map[string]any); !ok && len(v.members) == 0 {
			return false
		}
		for _, m := range v.members {
			at := got
			for _, key := range m.path {
				var there bool
				if at, there = step(at, key); !there {
					return false
				}
			}
			if !m.pattern.fits(at, s) {
				return false
			}
		}
	}
	return true
}

// step goes to a member of an object or an element of a list, if it is there.
func step(of any, key string) (any, bool) {
	if object, ok := of.(map[string]any); ok {
		at, there := object[key]
		return at, there
	}
	list, ok := of.([]any)
	i, err := strconv.Atoi(key)
	if !ok || err != nil || i < 0 || i >= len(list) {
		return nil, false
	}
	return list[i], true
}

func jsonType(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "null"
}

func (v *pattern) String() string {
	if inner := v.inner(); inner != "" {
		return "JSON with " + inner
	}
	return "any JSON"
}

func (v *pattern) inner() string {
	switch {
	case v.equal != nil:
		return v.equal.String()
	case v.matches != nil:
		return "a text that matches " + v.matches.String()
	case v.kind == "any":
		return "anything"
	case v.kind != "":
		return "a value of type " + v.kind
	case v.list != nil:
		items := make([]string, len(v.list))
		for i, p := range v.list {
			items[i] = p.inner()
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	members := make([]string, len(v.members))
	for i, m := range v.members {
		members[i] = strings.Join(m.path, ".") + ": " + m.pattern.inner()
	}
	if len(members) == 0 {
		return ""
	}
	return "{" + strings.Join(members, ", ") + "}"
}
