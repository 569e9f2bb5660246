package lessons

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a file of the course.
type Error struct {
	File         string
	Line, Column int // from 1; 0: the file as a whole
	Reason       string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// offset is a place in a file, in bytes.
type offset int64

// here is embedded by what remembers where it was written.
type here struct{ at offset }

func (h *here) placed(at offset) { h.at = at }

// fault is an error at a place; its file is not known yet.
type fault struct {
	at     offset
	reason string
}

func (f *fault) Error() string { return f.reason }

func faultf(at offset, format string, args ...any) error {
	return &fault{at, fmt.Sprintf(format, args...)}
}

// located turns the faults in err into Errors of a file with this text.
func located(file string, text []byte, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, one := range joined.Unwrap() {
			list = append(list, located(file, text, one))
		}
		return errors.Join(list...)
	}
	var f *fault
	if !errors.As(err, &f) {
		return err
	}
	before := text[:min(int(f.at), len(text))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + len([]rune(string(before[bytes.LastIndexByte(before, '\n')+1:])))
	return &Error{file, line, column, f.reason}
}

// node is a JSON value that knows where it stands, which encoding/json does not tell.
type node struct {
	at    offset
	value any // nil, bool, json.Number, string, []*node or []member
}

type member struct {
	at    offset // of the key
	key   string
	value *node
}

// maxDepth bounds how deep JSON of a lesson, or of an answer, may be nested.
const maxDepth = 32

// parse reads one JSON value. A key that is there twice is an error.
func parse(text []byte) (*node, error) {
	p := jsonParser{text: text, in: json.NewDecoder(bytes.NewReader(text))}
	p.in.UseNumber()
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.in.Token(); !errors.Is(err, io.EOF) {
		return nil, faultf(p.next(), "there is something behind the JSON value")
	}
	return n, nil
}

type jsonParser struct {
	text []byte
	in   *json.Decoder
}

// next is where the next token begins.
func (p *jsonParser) next() offset {
	at := p.in.InputOffset()
	for at < int64(len(p.text)) && strings.IndexByte(" \t\r\n,:", p.text[at]) >= 0 {
		at++
	}
	return offset(at)
}

func (p *jsonParser) token() (json.Token, offset, error) {
	at := p.next()
	t, err := p.in.Token()
	if err == nil {
		return t, at, nil
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		place := syntax.Offset
		if place != p.in.InputOffset() {
			place-- // within a value it counts the byte that is wrong, between two it does not
		}
		return nil, 0, faultf(offset(max(place, 0)), "this is not JSON: %v", err)
	}
	return nil, 0, faultf(offset(len(p.text)), "the JSON ends too early")
}

func (p *jsonParser) value(depth int) (*node, error) {
	t, at, err := p.token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, faultf(at, "the JSON is nested too deeply: at most %d levels", maxDepth)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return &node{at, t}, nil
	}
	n := &node{at: at}
	if delim == '[' {
		list := []*node{}
		for p.in.More() {
			element, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, element)
		}
		n.value = list
	} else {
		members := []member{}
		seen := make(map[string]bool)
		for p.in.More() {
			t, at, err := p.token()
			if err != nil {
				return nil, err
			}
			key := t.(string) // the decoder accepts nothing else
			if seen[key] {
				return nil, faultf(at, "the key %q is there twice", key)
			}
			seen[key] = true
			value, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			members = append(members, member{at, key, value})
		}
		n.value = members
	}
	_, _, err = p.token() // the end of it
	return n, err
}

// plain returns the value as encoding/json would have it.
func (n *node) plain() any {
	switch v := n.value.(type) {
	case json.Number:
		f, _ := v.Float64() // out of range: ±Inf, which equals nothing that is seen
		return f
	case []*node:
		list := make([]any, len(v))
		for i, element := range v {
			list[i] = element.plain()
		}
		return list
	case []member:
		object := make(map[string]any, len(v))
		for _, m := range v {
			object[m.key] = m.value.plain()
		}
		return object
	}
	return n.value
}

// kind names what the value is, for errors.
func (n *node) kind() string {
	switch n.value.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	case string:
		return "a text"
	case []*node:
		return "a list"
	}
	return "an object"
}

// binder is a type that reads itself from a node.
type binder interface{ bind(n *node) error }

// bind puts n into the value that target points at. A struct takes the keys of
// its json tags; a field whose tag has omitzero may be missing, every
// other may not. A struct that embeds here is told the place.
func bind(n *node, target any) error {
	return bindValue(n, reflect.ValueOf(target).Elem())
}

func bindValue(n *node, v reflect.Value) error {
	if b, ok := v.Addr().Interface().(binder); ok {
		return b.bind(n)
	}
	wrong := func(wanted string) error { return faultf(n.at, "here stands %s, wanted is %s", n.kind(), wanted) }
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*node]() { // to be read later
			v.Set(reflect.ValueOf(n))
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return bindValue(n, v.Elem())
	case reflect.String:
		s, ok := n.value.(string)
		if !ok {
			return wrong("a text")
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := n.value.(bool)
		if !ok {
			return wrong("true or false")
		}
		v.SetBool(b)
	case reflect.Int:
		number, ok := n.value.(json.Number)
		i, err := number.Int64()
		if !ok || err != nil {
			return wrong("a whole number")
		}
		v.SetInt(i)
	case reflect.Float64:
		number, ok := n.value.(json.Number)
		f, err := number.Float64()
		if !ok || err != nil {
			return wrong("a number")
		}
		v.SetFloat(f)
	case reflect.Slice:
		list, ok := n.value.([]*node)
		if !ok {
			return wrong("a list")
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		var faults []error
		for i, element := range list {
			faults = append(faults, bindValue(element, v.Index(i)))
		}
		return errors.Join(faults...)
	case reflect.Map:
		members, ok := n.value.([]member)
		if !ok {
			return wrong("an object")
		}
		v.Set(reflect.MakeMap(v.Type()))
		var faults []error
		for _, m := range members {
			value := reflect.New(v.Type().Elem()).Elem()
			faults = append(faults, bindValue(m.value, value))
			v.SetMapIndex(reflect.ValueOf(m.key), value)
		}
		return errors.Join(faults...)
	case reflect.Interface:
		if value := n.plain(); value != nil {
			v.Set(reflect.ValueOf(value))
		}
	case reflect.Struct:
		return bindStruct(n, v)
	default:
		panic("lessons: no JSON for " + v.Type().String())
	}
	return nil
}

func bindStruct(n *node, v reflect.Value) error {
	members, ok := n.value.([]member)
	if !ok {
		return faultf(n.at, "here stands %s, wanted is an object", n.kind())
	}
	if p, ok := v.Addr().Interface().(interface{ placed(offset) }); ok {
		p.placed(n.at)
	}
	fields := make(map[string]reflect.Value)
	var names, required []string
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag := f.Tag.Get("json")
		if tag == "" || tag == "-" {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		fields[name] = v.Field(i)
		names = append(names, name)
		if option != "omitzero" {
			required = append(required, name)
		}
	}
	var faults []error
	for _, m := range members {
		field, ok := fields[m.key]
		if !ok {
			faults = append(faults, faultf(m.at, "the key %q is not known here: known are %s", m.key, strings.Join(names, ", ")))
			continue
		}
		faults = append(faults, bindValue(m.value, field))
	}
	for _, name := range required {
		if !slices.ContainsFunc(members, func(m member) bool { return m.key == name }) {
			faults = append(faults, faultf(n.at, "the key %q is missing", name))
		}
	}
	return errors.Join(faults...)
}
