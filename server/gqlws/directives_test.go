package gqlws

import (
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
)

func TestDirectivesOutOfPlaceAreNamed(t *testing.T) {
	const text = `directive @shared(replayLast: Boolean! = false, resume: String) on FIELD_DEFINITION
directive @overflow(policy: String!) on FIELD_DEFINITION
type Query { hello: String @shared
  bye: String @overflow(policy: "CLOSE")
}
type Subscription { words: String @shared @overflow(policy: "CLOSE")
  log(after: String): String @shared(resume: "after")
  diary(after: String): String @shared(resume: "since")
}
`
	schema := gqlparser.MustLoadSchema(&ast.Source{Name: "my.graphqls", Input: text})
	err := CheckSchema(schema)
	for _, want := range []string{"my.graphqls:3: @shared stands on Query.hello", "my.graphqls:4: @overflow stands on Query.bye", `my.graphqls:8: @shared(resume: "since") stands on Subscription.diary`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %s", err, want)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "words") || strings.Contains(err.Error(), ".log")) {
		t.Errorf("a rightful use is named, too: %v", err)
	}
}
