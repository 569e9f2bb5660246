package gqlws

import (
	"errors"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
)

// CheckSchema reports where a schema uses @shared or @overflow in a way that
// has no meaning: anywhere but on the fields of its subscription type, or with a
// resume that names no argument. Call it at start; errors name file and line.
func CheckSchema(schema *ast.Schema) error {
	var errs []error
	for _, definition := range schema.Types {
		if definition == schema.Subscription {
			errs = append(errs, checkResume(definition))
			continue
		}
		for _, field := range definition.Fields {
			for _, name := range []string{"shared", "overflow"} {
				if d := field.Directives.ForName(name); d != nil {
					errs = append(errs, fmt.Errorf("%s:%d: @%s stands on %s.%s: it is for the fields of a subscription type",
						d.Position.Src.Name, d.Position.Line, name, definition.Name, field.Name))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func checkResume(subscription *ast.Definition) error {
	var errs []error
	for _, field := range subscription.Fields {
		d := field.Directives.ForName("shared")
		if d == nil {
			continue
		}
		resume := d.Arguments.ForName("resume")
		if resume != nil && resume.Value.Kind == ast.StringValue && field.Arguments.ForName(resume.Value.Raw) == nil {
			errs = append(errs, fmt.Errorf("%s:%d: @shared(resume: %q) stands on %s.%s, which has no such argument",
				d.Position.Src.Name, d.Position.Line, resume.Value.Raw, subscription.Name, field.Name))
		}
	}
	return errors.Join(errs...)
}
