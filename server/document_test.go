package server

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var testLimits = DocumentLimits{
	Bytes: 32 << 10, Tokens: 2000, Depth: 12, IntrospectionDepth: 20, Aliases: 30, Directives: 50,
	Fragments: 50, RootFields: 20, Selections: 1000, Complexity: 500, Errors: 20,
}

func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// nest puts one selection into n others.
func nest(n int, field string) string {
	return strings.Repeat(field+" {", n) + " x " + strings.Repeat("}", n)
}

// TestDocumentLimits tries each limit at its bound and one past it.
func TestDocumentLimits(t *testing.T) {
	words := func(n int) string { return "{" + strings.Repeat(" a", n-2) + "}" } // the braces count
	spread := func(n int) string { return "{ ...f0 }" + repeat(n, "fragment f%d on Q { a }") }
	few := testLimits
	few.Selections, few.RootFields = 1<<30, 1<<30
	tests := []struct {
		name     string
		limits   DocumentLimits
		at, past string
		code     string
	}{
		{"bytes", testLimits, "{a}" + strings.Repeat(" ", 32<<10-3), "{a}" + strings.Repeat(" ", 32<<10-2), "DOCUMENT_TOO_LARGE"},
		{"tokens", few, words(2000), words(2001), "DOCUMENT_TOO_LARGE"},
		{"depth", testLimits, "{" + nest(11, "a") + "}", "{" + nest(12, "a") + "}", "DOCUMENT_TOO_DEEP"},
		{"depth by fragments", testLimits, "{ a { ...f } } fragment f on Q { " + nest(10, "a") + "}", "{ a { ...f } } fragment f on Q { " + nest(11, "a") + "}", "DOCUMENT_TOO_DEEP"},
		{"introspection depth", testLimits, "{ __schema {" + nest(19, "a") + "} }", "{ __schema {" + nest(20, "a") + "} }", "DOCUMENT_TOO_DEEP"},
		{"aliases", few, "{" + repeat(30, " b%d: a") + "}", "{" + repeat(31, " b%d: a") + "}", "DOCUMENT_TOO_COMPLEX"},
		{"directives", testLimits, "{ a" + strings.Repeat(" @d", 50) + "}", "{ a" + strings.Repeat(" @d", 51) + "}", "DOCUMENT_TOO_COMPLEX"},
		{"fragments", testLimits, spread(50), spread(51), "DOCUMENT_TOO_COMPLEX"},
		{"root fields", testLimits, "{" + strings.Repeat(" a", 20) + "}", "{" + strings.Repeat(" a", 21) + "}", "DOCUMENT_TOO_COMPLEX"},
		{"root fields by fragments", testLimits, "{ ...f ...f } fragment f on Q {" + strings.Repeat(" a", 10) + "}", "{ ...f ...f ...f } fragment f on Q {" + strings.Repeat(" a", 10) + "}", "DOCUMENT_TOO_COMPLEX"},
		{"selections", testLimits, "{ a {" + strings.Repeat(" a", 999) + "} }", "{ a {" + strings.Repeat(" a", 1000) + "} }", "DOCUMENT_TOO_COMPLEX"},
		{
			"selections by fragments", testLimits,
			"{ a { ...f ...f } } fragment f on Q {" + strings.Repeat(" a", 499) + "}",
			"{ a { ...f ...f } } fragment f on Q {" + strings.Repeat(" a", 500) + "}", "DOCUMENT_TOO_COMPLEX",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			guard := newDocumentGuard(test.limits, 1000, func(string) {})
			if err := guard.check(test.at); err != nil {
				t.Errorf("at the bound: %v", err)
			}
			err := guard.check(test.past)
			if err == nil || err.Extensions["code"] != test.code || !strings.Contains(err.Message, test.code) {
				t.Errorf("past the bound: %v", err)
			}
		})
	}
}

// TestHostileDocumentsAreCheap: what costs a validator exponential or quadratic
// time is refused in a moment.
func TestHostileDocumentsAreCheap(t *testing.T) {
	doubling := "{ __schema { types { ...f0 } } }" + repeat(39, "fragment f%[1]d on __Type { ofType { ...g%[1]d } ...g%[1]d }")
	for i := range 39 {
		doubling = strings.Replace(doubling, fmt.Sprintf("...g%d }", i), fmt.Sprintf("...f%d }", i+1), 2)
	}
	doubling += "fragment f39 on __Type { name }"
	tests := map[string]string{
		"doubling fragments":     doubling,
		"copies of a field":      "{" + strings.Repeat(" hello", 4000) + "}",
		"aliases":                "{" + repeat(10_000, " a%d: hello") + "}",
		"directives":             "{ hello" + strings.Repeat(" @x", 100_000) + "}",
		"nested lists":           "{ echo(text: " + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + ") }",
		"nested lists, small":    "{ echo(text: " + strings.Repeat("[", 15_000) + strings.Repeat("]", 15_000) + ") }",
		"fragments in a circle":  "{ ...a } fragment a on Query { ...b ...b } fragment b on Query { ...a ...a hello }",
		"nothing but open marks": strings.Repeat("{a", 10_000),
	}
	g := start(t)
	for name, document := range tests {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			body := g.query(t, document, nil)
			if !strings.Contains(body, `"errors"`) {
				t.Errorf("it was served: %.200s", body)
			}
			if len(body) > 20_000 {
				t.Errorf("the answer has %d bytes", len(body))
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	g := start(t)
	many := g.query(t, "query("+repeat(30, "$v%d: Nothing ")+") { hello }", nil)
	if n := strings.Count(many, `"message"`); n != 21 || !strings.Contains(many, "ERRORS_CUT") {
		t.Errorf("%d errors: %s", n, many)
	}
}

// TestIntrospectionOfGraphiQLPasses: the query that GraphiQL really sends, and
// that of Playground.
func TestIntrospectionOfGraphiQLPasses(t *testing.T) {
	text, err := os.ReadFile("testdata/introspection.graphql")
	if err != nil {
		t.Fatal(err)
	}
	g := start(t)
	if body := g.query(t, string(text), nil); !strings.Contains(body, `"queryType":{"name":"Query"`) || strings.Contains(body, `"errors"`) {
		t.Errorf("%.500s", body)
	}
}
