package mock

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// What Parse accepts the schema accepts, and it refuses what it can see.
func TestTheSchemaAgreesWithTheParser(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("mock.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("mock.json")
	if err != nil {
		t.Fatal(err)
	}
	good := examples(t)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "default.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		good[file] = string(text)
	}
	if len(good) < 5 {
		t.Fatalf("only %d scripts", len(good))
	}
	validate := func(script string) error {
		var tree any
		if err := yaml.Unmarshal([]byte(script), &tree); err != nil {
			t.Fatal(err)
		}
		return schema.Validate(tree)
	}
	for name, script := range good {
		if _, err := Parse([]byte(script)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := validate(script); err != nil {
			t.Errorf("the schema refuses %s: %v", name, err)
		}
	}
	for _, c := range refusals {
		if !c.unseen && validate(c.script) == nil {
			t.Errorf("the schema accepts %s", c.name)
		}
	}
}
