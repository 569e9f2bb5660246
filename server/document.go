package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/99designs/gqlgen/complexity"
	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
)

// DocumentLimits bound a GraphQL document. They are looked at before it is
// validated, because validation is what hostile documents make expensive:
// fragments that double on each level cost it exponential time, copies of one
// field quadratic time. Counts are of the document as written, but for depth,
// root fields and selections, which follow fragments.
type DocumentLimits struct {
	Bytes              int
	Tokens             int // words and signs
	Depth              int // levels of selections
	IntrospectionDepth int // levels below __schema and __type
	Aliases            int
	Directives         int
	Fragments          int
	RootFields         int
	Selections         int
	Complexity         int // fields of the operation that runs, after validation
	Errors             int // in one answer
}

// documentGuard is the gqlgen extension that holds documents to their limits,
// the same on every transport.
type documentGuard struct {
	limits  DocumentLimits
	payload int               // bytes of one result's data
	count   func(code string) // told what is refused in a response
	schema  graphql.ExecutableSchema
	passed  *documentCache[struct{}] // documents that have been looked at
}

var (
	_ graphql.HandlerExtension          = (*documentGuard)(nil)
	_ graphql.OperationParameterMutator = (*documentGuard)(nil)
	_ graphql.OperationContextMutator   = (*documentGuard)(nil)
	_ graphql.ResponseInterceptor       = (*documentGuard)(nil)
)

func newDocumentGuard(limits DocumentLimits, payload int, count func(code string)) *documentGuard {
	return &documentGuard{limits: limits, payload: payload, count: count, passed: newDocumentCache[struct{}](documentBytes)}
}

// ExtensionName implements graphql.HandlerExtension.
func (*documentGuard) ExtensionName() string { return "DocumentGuard" }

// Validate implements graphql.HandlerExtension.
func (g *documentGuard) Validate(schema graphql.ExecutableSchema) error {
	g.schema = schema
	return nil
}

// MutateOperationParameters implements graphql.OperationParameterMutator: it
// refuses a document before gqlgen parses and validates it.
func (g *documentGuard) MutateOperationParameters(ctx context.Context, params *graphql.RawParams) *gqlerror.Error {
	// The transports have read what concerns them, and gqlgen would keep the rest
	// for as long as the operation runs: 256 KiB of JSON are several MB in memory.
	params.Extensions = nil
	if _, ok := g.passed.Get(ctx, params.Query); ok {
		return nil
	}
	if err := g.check(params.Query); err != nil {
		return err
	}
	g.passed.Add(ctx, params.Query, struct{}{})
	return nil
}

// MutateOperationContext implements graphql.OperationContextMutator: it refuses
// a valid operation that selects too many fields.
func (g *documentGuard) MutateOperationContext(ctx context.Context, opCtx *graphql.OperationContext) *gqlerror.Error {
	n := complexity.Calculate(ctx, g.schema, opCtx.Operation, opCtx.Variables)
	if n > g.limits.Complexity {
		return coded("DOCUMENT_TOO_COMPLEX", "The operation has a complexity of %d: at most %d is accepted.", n, g.limits.Complexity)
	}
	return nil
}

// InterceptResponse implements graphql.ResponseInterceptor: it cuts a long list
// of errors. It also counts data that is too large, which the encoding of the
// result replaces, once for all who share the result.
func (g *documentGuard) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	response := next(ctx)
	if response != nil && len(response.Errors) > g.limits.Errors {
		cut := len(response.Errors) - g.limits.Errors
		response.Errors = append(response.Errors[:g.limits.Errors:g.limits.Errors],
			coded("ERRORS_CUT", "%d more errors are not listed: at most %d are.", cut, g.limits.Errors))
		g.count("ERRORS_CUT")
	}
	if response != nil && len(response.Data) > g.payload {
		g.count("PAYLOAD_TOO_LARGE")
	}
	return response
}

// check reports the first limit that a document breaks. A document that does
// not parse passes: gqlgen says better what is wrong with it.
func (g *documentGuard) check(text string) *gqlerror.Error {
	if len(text) > g.limits.Bytes {
		return coded("DOCUMENT_TOO_LARGE", "The document has %d bytes: at most %d are accepted.", len(text), g.limits.Bytes)
	}
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, g.limits.Tokens)
	if err != nil {
		var syntax *gqlerror.Error
		if errors.As(err, &syntax) && strings.Contains(syntax.Message, "token limit") {
			return coded("DOCUMENT_TOO_LARGE", "The document has more than %d words and signs.", g.limits.Tokens)
		}
		return nil
	}
	return g.measure(document)
}

func (g *documentGuard) measure(document *ast.QueryDocument) *gqlerror.Error {
	m := &measure{limit: g.limits.Selections, fragments: make(map[string]*extent)}
	for _, f := range document.Fragments {
		if m.fragments[f.Name] == nil {
			m.fragments[f.Name] = &extent{definition: f}
		}
		m.count(f.Directives, f.SelectionSet)
	}
	if n := len(document.Fragments); n > g.limits.Fragments {
		return tooComplex(n, "fragments", g.limits.Fragments)
	}
	for _, op := range document.Operations {
		m.count(op.Directives, op.SelectionSet)
	}
	switch {
	case m.aliases > g.limits.Aliases:
		return tooComplex(m.aliases, "aliases", g.limits.Aliases)
	case m.directives > g.limits.Directives:
		return tooComplex(m.directives, "directives", g.limits.Directives)
	}
	for _, op := range document.Operations {
		whole := m.walk(op.SelectionSet)
		switch {
		case whole.roots > g.limits.RootFields:
			return tooComplex(whole.roots, "root fields", g.limits.RootFields)
		case whole.selections > g.limits.Selections:
			return coded("DOCUMENT_TOO_COMPLEX", "The document has more than %d fields when its fragments are written out.", g.limits.Selections)
		case whole.depth > g.limits.Depth:
			return coded("DOCUMENT_TOO_DEEP", "The document is %d levels deep: at most %d are accepted.", whole.depth, g.limits.Depth)
		case whole.introspection > g.limits.IntrospectionDepth:
			return coded("DOCUMENT_TOO_DEEP", "The introspection is %d levels deep: at most %d are accepted.", whole.introspection, g.limits.IntrospectionDepth)
		}
	}
	return nil
}

// measure walks a document once. A fragment is measured once however often it
// is spread, so the walk takes time in proportion to the text.
type measure struct {
	limit               int
	fragments           map[string]*extent
	aliases, directives int
}

// extent is what a selection set amounts to.
type extent struct {
	depth         int // levels, without those below introspection fields
	introspection int // levels of introspection fields, the deepest
	selections    int // fields after expansion, held at limit+1
	roots         int // fields of its first level, after expansion

	definition *ast.FragmentDefinition // of a fragment
	state      walkState
}

type walkState int

const (
	unseen walkState = iota
	walking
	walked
)

// count adds up what is written, without following fragments.
func (m *measure) count(directives ast.DirectiveList, set ast.SelectionSet) {
	m.directives += len(directives)
	for _, selection := range set {
		switch s := selection.(type) {
		case *ast.Field:
			if s.Alias != s.Name {
				m.aliases++
			}
			m.count(s.Directives, s.SelectionSet)
		case *ast.InlineFragment:
			m.count(s.Directives, s.SelectionSet)
		case *ast.FragmentSpread:
			m.directives += len(s.Directives)
		}
	}
}

// walk measures a selection set with its fragments written out.
func (m *measure) walk(set ast.SelectionSet) extent {
	var whole extent
	for _, selection := range set {
		var part extent
		switch s := selection.(type) {
		case *ast.Field:
			part = m.field(s)
		case *ast.InlineFragment:
			part = m.walk(s.SelectionSet)
		case *ast.FragmentSpread:
			part = m.fragment(s.Name)
		}
		whole.depth = max(whole.depth, part.depth)
		whole.introspection = max(whole.introspection, part.introspection)
		whole.selections = min(whole.selections+part.selections, m.limit+1)
		whole.roots = min(whole.roots+part.roots, m.limit+1)
	}
	return whole
}

func (m *measure) field(f *ast.Field) extent {
	below := m.walk(f.SelectionSet)
	part := extent{
		depth: below.depth + 1, introspection: below.introspection,
		selections: min(below.selections+1, m.limit+1), roots: 1,
	}
	if f.Name == "__schema" || f.Name == "__type" {
		part.introspection = max(part.introspection, below.depth)
		part.depth = 1
	}
	return part
}

// fragment measures a fragment the first time it is spread. One that spreads
// itself counts once: validation refuses it, in better words.
func (m *measure) fragment(name string) extent {
	f := m.fragments[name]
	if f == nil || f.state == walking {
		return extent{}
	}
	if f.state == unseen {
		f.state = walking
		whole := m.walk(f.definition.SelectionSet)
		f.depth, f.introspection, f.selections, f.roots = whole.depth, whole.introspection, whole.selections, whole.roots
		f.state = walked
	}
	return *f
}

func tooComplex(n int, what string, limit int) *gqlerror.Error {
	return coded("DOCUMENT_TOO_COMPLEX", "The document has %d %s: at most %d are accepted.", n, what, limit)
}

// coded is an error of the gateway itself, as graph.Present writes those of
// resolvers.
func coded(code, format string, args ...any) *gqlerror.Error {
	return &gqlerror.Error{
		Message:    fmt.Sprintf(format, args...) + " (" + code + ")",
		Extensions: map[string]any{"code": code},
	}
}
