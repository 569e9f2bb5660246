package mock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// Error says why a script is refused.
type Error struct {
	Line, Column int // of what is wrong, from 1; Column 0: unknown
	Reason       string
}

func (e *Error) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// Parse reads a script in YAML or JSON. Its error is an *Error.
func Parse(text []byte) (script *Script, err error) {
	if len(text) > maxScript {
		return nil, &Error{Line: 1, Reason: fmt.Sprintf("the script has %d bytes: at most %d are accepted", len(text), maxScript)}
	}
	var document, another yaml.Node
	reader := yaml.NewDecoder(bytes.NewReader(text))
	if err := reader.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, notYAML(err)
	}
	if len(document.Content) == 0 {
		return nil, &Error{Line: 1, Reason: "the script is empty: it needs rules, or paths with rules"}
	}
	if err := reader.Decode(&another); !errors.Is(err, io.EOF) {
		return nil, &Error{Line: max(another.Line, 1), Reason: "a script is one document: what follows the first one is not read"}
	}
	defer func() {
		switch wrong := recover().(type) {
		case nil:
		case *Error:
			script, err = nil, wrong
		default:
			panic(wrong)
		}
	}()
	top := document.Content[0]
	d := &decoder{}
	d.declare(top)
	script = &Script{}
	d.decode(top, reflect.ValueOf(&script.root).Elem(), "", "the script")
	d.check(top, script)
	return script, nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// notYAML is an error of the library as ours.
func notYAML(err error) *Error {
	var list *yaml.TypeError
	text := err.Error()
	if errors.As(err, &list) && len(list.Errors) > 0 {
		text = list.Errors[0]
	}
	found := yamlLine.FindStringSubmatch(text)
	line, _ := strconv.Atoi(found[1])
	reason, _, _ := strings.Cut(found[2], "\n")
	return &Error{Line: max(line, 1), Reason: "this is neither YAML nor JSON: " + reason}
}

// oneOf marks a struct of which one field is to be given.
type oneOf struct{}

// position is the line of what was decoded.
type position int

// decoder fills the types of script.go from YAML's nodes. It panics with an *Error.
type decoder struct {
	vars  []string
	depth int
}

// custom are types that read themselves.
type custom interface {
	decode(d *decoder, n *yaml.Node)
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	panic(&Error{Line: max(n.Line, 1), Column: n.Column, Reason: fmt.Sprintf(format, args...)})
}

var variableName = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]{0,63}$`)

// declare finds the variables before anything refers to them.
func (d *decoder) declare(top *yaml.Node) {
	if top.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		if key := top.Content[i].Value; key != "vars" && key != "draw" || top.Content[i+1].Kind != yaml.MappingNode {
			continue
		}
		for j := 0; j+1 < len(top.Content[i+1].Content); j += 2 {
			n := top.Content[i+1].Content[j]
			switch {
			case !variableName.MatchString(n.Value):
				d.fail(n, "%q cannot be the name of a variable: a small letter, then letters, digits and _, at most 64", n.Value)
			case slices.Contains(d.vars, n.Value):
				d.fail(n, "%q is declared twice", n.Value)
			case reserved(n.Value):
				d.fail(n, "%q has a meaning of its own in expressions: choose another name", n.Value)
			case len(d.vars) == maxVars:
				d.fail(n, "there are too many variables: at most %d", maxVars)
			}
			d.vars = append(d.vars, n.Value)
		}
	}
}

func reserved(word string) bool {
	for _, n := range names {
		if n.name == word {
			return true
		}
	}
	for _, f := range functions {
		if f.name == word {
			return true
		}
	}
	return slices.Contains([]string{"and", "or", "not", "true", "false", "null"}, word)
}

// decode fills v from n. what names v in errors.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, tag reflect.StructTag, what string) {
	if d.depth++; d.depth > maxDepth {
		d.fail(n, "this is nested too deeply: at most %d levels", maxDepth)
	}
	defer func() { d.depth-- }()
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n, "anchors and aliases are not accepted: write it out")
	case n.Tag == "!!null":
		d.fail(n, "%s needs a value", what)
	}
	if c, ok := v.Addr().Interface().(custom); ok {
		c.decode(d, n)
		d.bounds(n, v, tag, what)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), tag, what)
		return
	case reflect.Struct:
		d.fields(n, v, what)
		return
	case reflect.Map:
		d.mapping(n, v, tag, what)
		return
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.fail(n, "%s is a list", what)
		}
		if most, _ := strconv.Atoi(tag.Get("max")); len(n.Content) > most {
			d.fail(n, "%s has %d elements: at most %d are accepted", what, len(n.Content), most)
		} else if len(n.Content) == 0 {
			d.fail(n, "%s is empty", what)
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			d.decode(item, v.Index(i), "", "an element of "+what)
		}
		return
	}
	if n.Kind != yaml.ScalarNode {
		d.fail(n, "%s is %s", what, describe(v.Kind()))
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		err = n.Decode(v.Addr().Interface())
	case reflect.Int:
		var i int64
		i, err = strconv.ParseInt(n.Value, 10, 64)
		v.SetInt(i)
	case reflect.Uint64:
		var u uint64
		u, err = strconv.ParseUint(n.Value, 10, 64)
		v.SetUint(u)
	}
	if err != nil {
		d.fail(n, "%s is %s, not %q", what, describe(v.Kind()), n.Value)
	}
	d.bounds(n, v, tag, what)
}

func describe(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Uint64:
		return "a whole number from 0 to 2^64-1"
	}
	return "a text"
}

// bounds holds numbers, durations and texts to their tags.
func (d *decoder) bounds(n *yaml.Node, v reflect.Value, tag reflect.StructTag, what string) {
	if words := tag.Get("enum"); words != "" && !slices.Contains(strings.Split(words, ","), v.String()) {
		d.fail(n, "%s is %s, not %q", what, strings.ReplaceAll(words, ",", " or "), v.String())
	}
	low, high := tag.Get("min"), tag.Get("max")
	limit := func(text string) int64 {
		if v.Type() == reflect.TypeFor[duration]() {
			t, _ := time.ParseDuration(text)
			return int64(t)
		}
		i, _ := strconv.ParseInt(text, 10, 64)
		return i
	}
	switch v.Kind() {
	case reflect.String:
		if high != "" && int64(len(n.Value)) > limit(high) {
			d.fail(n, "%s has %d bytes: at most %s are accepted", what, len(n.Value), high)
		}
	case reflect.Int, reflect.Int64:
		if low != "" && v.Int() < limit(low) {
			d.fail(n, "%s is %s: at least %s is accepted", what, n.Value, low)
		}
		if high != "" && v.Int() > limit(high) {
			d.fail(n, "%s is %s: at most %s is accepted", what, n.Value, high)
		}
	}
}

// mapping fills a map with names of the script's own.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, tag reflect.StructTag, what string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s is a mapping from names to values", what)
	}
	if most, _ := strconv.Atoi(tag.Get("max")); len(n.Content)/2 > most {
		d.fail(n, "%s has %d members: at most %d are accepted", what, len(n.Content)/2, most)
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := reflect.ValueOf(d.key(n.Content[i]))
		if v.MapIndex(key).IsValid() {
			d.fail(n.Content[i], "%q is there twice", n.Content[i].Value)
		}
		element := reflect.New(v.Type().Elem()).Elem()
		d.decode(n.Content[i+1], element, "", strconv.Quote(n.Content[i].Value))
		v.SetMapIndex(key, element)
	}
}

// key is the key of a mapping.
func (d *decoder) key(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Anchor != "" {
		d.fail(n, "a key is a text")
	}
	return n.Value
}

// field is a field of a struct of script.go, those of its inline structs too.
type field struct {
	key   string
	tag   reflect.StructTag
	index []int
	kind  reflect.Type
}

func (f *field) has(tag string) bool {
	_, ok := f.tag.Lookup(tag)
	return ok
}

// fieldsOf lists the fields with a key; one says that one of them is to be given.
func fieldsOf(t reflect.Type) (list []field, one bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch key := f.Tag.Get("key"); key {
		case "":
			one = one || f.Type == reflect.TypeFor[oneOf]()
		case ",inline":
			inner, _ := fieldsOf(f.Type)
			for _, g := range inner {
				g.index = append(slices.Clone(f.Index), g.index...)
				list = append(list, g)
			}
		default:
			list = append(list, field{key, f.Tag, f.Index, f.Type})
		}
	}
	return list, one
}

// fields fills a struct.
func (d *decoder) fields(n *yaml.Node, v reflect.Value, what string) {
	if at := v.FieldByName("At"); at.IsValid() {
		at.SetInt(int64(n.Line))
	}
	list, one := fieldsOf(v.Type())
	if n.Kind != yaml.MappingNode {
		d.short(n, v, list, what)
		return
	}
	keys := make([]string, len(list))
	for i, f := range list {
		keys[i] = f.key
	}
	var chosen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at := slices.Index(keys, d.key(key))
		if at < 0 {
			d.fail(key, "%q is not known in %s%s", key.Value, what, suggest(key.Value, keys))
		}
		f := list[at]
		if f.has("bare") && f.kind.Kind() == reflect.Bool {
			d.fail(key, "%q takes no value: write it alone", key.Value)
		}
		target := v.FieldByIndex(f.index)
		if !target.IsZero() || slices.Contains(chosen, key.Value) {
			d.fail(key, "%q is there twice", key.Value)
		}
		d.decode(n.Content[i+1], target, f.tag, strconv.Quote(key.Value))
		if !f.has("with") {
			chosen = append(chosen, key.Value)
		}
	}
	if one && len(chosen) != 1 {
		if len(chosen) == 0 {
			d.fail(n, "%s needs one of %s", what, strings.Join(options(list), ", "))
		}
		d.fail(n, "%s has %s: it can be only one of them", what, strings.Join(chosen, " and "))
	}
	for _, f := range list {
		if f.has("required") && !slices.Contains(chosen, f.key) {
			d.fail(n, "%s needs %q", what, f.key)
		}
	}
}

// options are the words that one can choose from.
func options(list []field) (keys []string) {
	for _, f := range list {
		if !f.has("with") {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// short fills a struct from a value that is no mapping: from a word that may
// stand alone, or from the value of the field that needs no word.
func (d *decoder) short(n *yaml.Node, v reflect.Value, list []field, what string) {
	var words []string
	for _, f := range list {
		if f.has("short") {
			d.decode(n, v.FieldByIndex(f.index), f.tag, what)
			return
		}
		if !f.has("bare") {
			continue
		}
		words = append(words, f.key)
		if n.Kind == yaml.ScalarNode && n.Value == f.key {
			target := v.FieldByIndex(f.index)
			if target.Kind() == reflect.Bool {
				target.SetBool(true)
			} else {
				target.Set(reflect.New(target.Type().Elem()))
			}
			return
		}
	}
	if len(words) == 0 {
		d.fail(n, "%s is a mapping with %s", what, strings.Join(options(list), ", "))
	}
	if n.Kind == yaml.ScalarNode {
		all := options(list)
		if slices.Contains(all, n.Value) {
			d.fail(n, "%q needs a value", n.Value)
		}
		d.fail(n, "%q is not known as %s%s", n.Value, what, suggest(n.Value, all))
	}
	d.fail(n, "%s is a word or a mapping with one of %s", what, strings.Join(options(list), ", "))
}

// suggest names the nearest known word, or all of them when none is near.
func suggest(word string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	distance := func(s string) int { return levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(s)) }
	nearest := slices.MinFunc(known, func(a, b string) int { return distance(a) - distance(b) })
	if len(word) <= 64 && distance(nearest) <= (len(nearest)+1)/2 {
		return fmt.Sprintf(": did you mean %q?", nearest)
	}
	return ": known are " + strings.Join(known, ", ")
}

// check is what no single type can see.
func (d *decoder) check(top *yaml.Node, s *Script) {
	behaviours := map[string]*behaviour{"the script": &s.Behaviour}
	for path, b := range s.root.Paths {
		if len(path) < 2 || path[0] != '/' || strings.ContainsAny(path, "?# ") || path[len(path)-1] == '/' {
			d.fail(find(top, "paths", path), "%q cannot be a path: it begins with /, such as /chat, and does not end with one", path)
		}
		behaviours[path] = b
	}
	if len(s.root.Paths) == 0 && !s.Behaviour.speaks() {
		d.fail(top, "the script says nothing: it needs rules, expect, or paths")
	}
	for name, drawn := range s.Draw {
		if drawn.Int != nil && math.Ceil(drawn.Int.from) > math.Floor(drawn.Int.to) {
			d.fail(find(top, "draw", name, "int"), "there is no whole number between %v and %v", drawn.Int.from, drawn.Int.to)
		}
	}
	for _, b := range behaviours {
		for _, subprotocol := range b.Subprotocols {
			if !wire.IsToken(subprotocol) {
				d.fail(find(top, "subprotocols"), "%q cannot be a subprotocol: it has to be a token (RFC 6455, section 4.1)", subprotocol)
			}
		}
		if b.RequireSubprotocol && len(b.Subprotocols) == 0 {
			d.fail(find(top, "require_subprotocol"), "require_subprotocol needs subprotocols to choose from")
		}
		for _, r := range b.Rules {
			d.checkActions(r.Do, 0, r.On.Connect)
		}
	}
}

// speaks reports whether anything is said of paths that have no name.
func (b *behaviour) speaks() bool { return len(b.Rules) > 0 || b.Expect != nil }

// find is the value at a path of keys, as far as there is one.
func find(n *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Kind == yaml.MappingNode && n.Content[i].Value == key {
				n = n.Content[i+1]
				break
			}
		}
	}
	return n
}

// checkActions looks at a list of actions: within a repeat that comes every
// so often, or after a connect.
func (d *decoder) checkActions(list []*action, every time.Duration, connect bool) {
	sends := 0
	for _, a := range list {
		at := &yaml.Node{Line: int(a.At)}
		switch {
		case a.Send != nil, a.Echo, a.Error != nil, a.Ping != nil, a.Pong != nil, a.Raw != nil:
			sends++
		}
		switch {
		case a.Echo && connect:
			d.fail(at, "there is nothing to echo when a connection opens")
		case a.Close != nil && !sendable(a.Close.Code):
			d.fail(at, "%d cannot stand in a Close frame: 1000 to 1003, 1007 to 1014 and 3000 to 4999 can (RFC 6455, section 7.4). A lost connection, which is reported as 1006, is cut", a.Close.Code)
		case a.Wait != nil && a.Wait.To != nil && *a.Wait.To < *a.Wait.From:
			d.fail(at, "a wait goes from the shorter time to the longer")
		case a.Repeat != nil && every > 0:
			d.fail(at, "a repeat cannot stand in a repeat")
		case a.Repeat != nil:
			d.checkActions(a.Repeat.Do, time.Duration(*a.Repeat.Every), connect)
		}
		for name := range a.Set {
			if !slices.Contains(d.vars, name) {
				d.fail(at, "%q cannot be set: it is no variable (they are declared under vars or draw)%s", name, suggest(name, d.vars))
			}
		}
	}
	if every > 0 && time.Duration(sends)*time.Second > every*maxRate {
		d.fail(&yaml.Node{Line: int(list[0].At)}, "%d messages every %v are too many: at most %d a second", sends, every, maxRate)
	}
}

// sendable reports whether a code may stand in a Close frame (RFC 6455, section
// 7.4, and IANA's registry).
func sendable(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}
