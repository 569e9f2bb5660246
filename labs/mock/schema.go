package mock

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// Schema is the JSON Schema of scripts (draft 2020-12), made from the types that
// Parse fills. What it accepts Parse may still refuse: it knows no expressions
// and no variables.
func Schema() []byte {
	b := &schemaBuilder{defs: make(map[string]any)}
	schema := b.of(reflect.TypeFor[root](), "")
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "Script of the Sluice mock server"
	schema["$defs"] = b.defs
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		panic(err) // of maps, lists, texts and numbers
	}
	return text.Bytes()
}

type object = map[string]any

type schemaBuilder struct{ defs map[string]any }

// scalars is whatever YAML or JSON may write for a text.
var scalars = []string{"string", "number", "boolean"}

// written are the schemas of the types that read themselves.
func (b *schemaBuilder) written(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[duration]():
		return object{"type": "string", "pattern": `^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$`}
	case reflect.TypeFor[pingEvery]():
		return object{"type": "string", "pattern": `^([0-9.]+(ms|s|m))+$|^never$`}
	case reflect.TypeFor[span]():
		return object{"type": "array", "items": object{"type": "number"}, "minItems": 2, "maxItems": 2}
	case reflect.TypeFor[pcre](), reflect.TypeFor[condition](), reflect.TypeFor[template]():
		return object{"type": scalars}
	case reflect.TypeFor[value](), reflect.TypeFor[jsonData](), reflect.TypeFor[constant](), reflect.TypeFor[pattern]():
		return object{}
	case reflect.TypeFor[hexBytes]():
		return object{"type": []string{"string", "integer"}, "pattern": `^(\s*[0-9a-fA-F]{2})*\s*$`}
	case reflect.TypeFor[binaryData]():
		part := b.of(reflect.TypeFor[part](), "")
		return object{"anyOf": []any{b.written(reflect.TypeFor[hexBytes]()), object{"type": "array", "items": part, "maxItems": maxActions}}}
	}
	return nil
}

// of is the schema of a type, with what a tag says of its bounds.
func (b *schemaBuilder) of(t reflect.Type, tag reflect.StructTag) object {
	if written := b.written(t); written != nil {
		return written
	}
	most := func(name string, s object) object {
		if n, err := strconv.Atoi(tag.Get("max")); err == nil {
			s[name] = n
		}
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.of(t.Elem(), tag)
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int:
		s := most("maximum", object{"type": "integer"})
		if n, err := strconv.Atoi(tag.Get("min")); err == nil {
			s["minimum"] = n
		}
		return s
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.String:
		if words := tag.Get("enum"); words != "" {
			return object{"enum": strings.Split(words, ",")}
		}
		return most("maxLength", object{"type": scalars})
	case reflect.Slice:
		return most("maxItems", object{"type": "array", "items": b.of(t.Elem(), ""), "minItems": 1})
	case reflect.Map:
		return most("maxProperties", object{"type": "object", "additionalProperties": b.of(t.Elem(), "")})
	}
	if t == reflect.TypeFor[root]() {
		return b.structure(t)
	}
	if _, known := b.defs[t.Name()]; !known {
		b.defs[t.Name()] = nil // which ends the recursion
		b.defs[t.Name()] = b.structure(t)
	}
	return object{"$ref": "#/$defs/" + t.Name()}
}

// structure is the schema of a struct: a mapping, a word that may stand alone,
// or the value of the field that needs no word.
func (b *schemaBuilder) structure(t reflect.Type) object {
	list, one := fieldsOf(t)
	properties, required, choices, words, forms := object{}, []string{}, []any{}, []string{}, []any{}
	for _, f := range list {
		if f.has("bare") {
			words = append(words, f.key)
			if f.kind.Kind() == reflect.Bool {
				continue
			}
		}
		property := b.of(f.kind, f.tag)
		if f.has("short") {
			forms = append(forms, property)
		}
		properties[f.key] = describedAs(property, f.tag.Get("doc"))
		if f.has("required") {
			required = append(required, f.key)
		}
		if !f.has("with") {
			choices = append(choices, object{"required": []string{f.key}})
		}
	}
	mapping := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		mapping["required"] = required
	}
	if one {
		mapping["oneOf"] = choices
	}
	if len(words) > 0 {
		forms = append(forms, object{"enum": words})
	}
	if len(forms) == 0 {
		return mapping
	}
	return object{"anyOf": append(forms, mapping)}
}

// describedAs is a copy with a description.
func describedAs(s object, doc string) object {
	c := object{"description": doc}
	for key, value := range s {
		c[key] = value
	}
	return c
}
