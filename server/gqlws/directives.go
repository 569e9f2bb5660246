package gqlws

import (
	"errors"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
)

// CheckSchema reports where a schema uses @shared or @overflow in a way that
// has no meaning: anywhere but on the fields of its subscription type. Call it
// at start; errors name file and line.
func CheckSchema(schema *ast.Schema) error {
	var errs []error
	for _, definition := range schema.Types {
		if definition == schema.Subscription {
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
