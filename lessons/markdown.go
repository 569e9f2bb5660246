package lessons

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	chroma "github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/yuin/goldmark"
	highlighting "github.com/yuin/goldmark-highlighting/v2"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	source "github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Body is a lesson's text in one language.
//
// Links to other lessons are relative to a page whose path ends in the lesson's
// slug, as are images. Code has the classes of chroma. Diagrams are
// <pre class="diagram" data-lang="diagram">, escaped and as they were written.
type Body struct {
	Headings []Heading // in order, of levels 2 and 3

	html func() string
}

// HTML is the text. It is rendered when it is asked for the first time: to
// highlight its code takes more time than all else at the start of the gateway.
func (b Body) HTML() string { return b.html() }

// Heading is a place in a Body.
type Heading struct {
	Level int
	ID    string // of its element
	Text  string
}

// bodies renders a lesson's texts and holds them to each other.
func (c *Course) bodies(files fs.FS, slug string) (Bodies, error) {
	en, errEN := c.body(files, slug, "en.md")
	ja, errJA := c.body(files, slug, "ja.md")
	if err := errors.Join(errEN, errJA); err != nil {
		return Bodies{}, err
	}
	for _, what := range []string{"level 2 headings", "fences", "images"} {
		if en.counts[what] != ja.counts[what] {
			return Bodies{}, &Error{File: path.Join(slug, "ja.md"), Reason: fmt.Sprintf("it has %d %s, but en.md has %d", ja.counts[what], what, en.counts[what])}
		}
	}
	return Bodies{en.Body, ja.Body}, nil
}

// page is a text being read.
type page struct {
	Body
	course *Course
	files  fs.FS
	slug   string
	file   string
	source []byte
	ids    *headingIDs
	counts map[string]int
	faults []error
}

func (c *Course) body(files fs.FS, slug, name string) (*page, error) {
	p := &page{course: c, files: files, slug: slug, file: path.Join(slug, name), ids: &headingIDs{}, counts: make(map[string]int)}
	var err error
	if p.source, err = fs.ReadFile(files, p.file); err != nil {
		return nil, &Error{File: p.file, Reason: "it cannot be read: " + err.Error()}
	}
	root := markdown.Parser().Parse(source.NewReader(p.source), parser.WithContext(parser.NewContext(parser.WithIDs(p.ids))))
	p.walk(root)
	if err := errors.Join(p.faults...); err != nil {
		return nil, err
	}
	p.html = sync.OnceValue(func() string {
		var out bytes.Buffer
		if err := markdown.Renderer().Render(&out, p.source, root); err != nil {
			panic(fmt.Sprintf("lessons: %s cannot be rendered: %v", p.file, err)) // nothing that is written can bring this about
		}
		return out.String()
	})
	return p, nil
}

var markdown = goldmark.New(
	goldmark.WithExtensions(
		extension.Table,
		highlighting.NewHighlighting(highlighting.WithFormatOptions(chroma.WithClasses(true))),
	),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(diagrams{}, 100))),
)

// walk checks every node, and takes out what is not rendered as it is written.
func (p *page) walk(root ast.Node) {
	var links []*ast.Link
	var fences []*ast.FencedCodeBlock
	_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // never fails
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			p.heading(n)
		case *ast.HTMLBlock, *ast.RawHTML:
			p.fail(n, "raw HTML is not accepted")
		case *ast.FencedCodeBlock:
			p.counts["fences"]++
			fences = append(fences, n)
		case *ast.CodeBlock:
			p.fail(n, "code stands in a fence that names its language")
		case *ast.Image:
			p.image(n)
		case *ast.AutoLink:
			p.link(n, string(n.URL(p.source)))
		case *ast.Link:
			links = append(links, n)
		}
		return ast.WalkContinue, nil
	})
	for _, n := range links { // once all headings are known
		if ahead := p.link(n, string(n.Destination)); ahead {
			unwrap(n)
		}
	}
	for _, n := range fences {
		p.fence(n)
	}
}

func (p *page) fail(n ast.Node, format string, args ...any) {
	at := 0
	for block := n; block != nil; block = block.Parent() {
		if t, ok := block.FirstChild().(*ast.Text); ok && block == n {
			at = t.Segment.Start
			break
		}
		if block.Type() == ast.TypeBlock && block.Lines() != nil && block.Lines().Len() > 0 {
			at = block.Lines().At(0).Start
			break
		}
	}
	p.faults = append(p.faults, located(p.file, p.source, faultf(offset(at), format, args...)))
}

func (p *page) heading(n *ast.Heading) {
	switch n.Level {
	case 1:
		p.fail(n, "a lesson's title is in lesson.json: headings begin at level 2")
	case 2:
		p.counts["level 2 headings"]++
	}
	if n.Level > 3 {
		return
	}
	id, _ := n.AttributeString("id")
	name, _ := id.([]byte)
	p.Headings = append(p.Headings, Heading{n.Level, string(name), plainText(n, p.source)})
}

// plainText is what a node says, without its marks.
func plainText(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // never fails
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(n.Segment.Value(source))
			}
		case *ast.String:
			if entering {
				b.Write(n.Value)
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

func (p *page) image(n *ast.Image) {
	p.counts["images"]++
	name := string(n.Destination)
	if u, err := url.Parse(name); err != nil || u.IsAbs() || strings.HasPrefix(name, "/") || !fs.ValidPath(name) {
		p.fail(n, "the image %q is not a file of the lesson's folder", name)
		return
	}
	if _, err := fs.Stat(p.files, path.Join(p.slug, name)); err != nil {
		p.fail(n, "the image %q is not there", name)
	}
	if strings.TrimSpace(plainText(n, p.source)) == "" {
		p.fail(n, "the image %q has no text for who does not see it", name)
	}
}

// link checks where a link goes. ahead: to a lesson that is not written yet.
func (p *page) link(n ast.Node, to string) (ahead bool) {
	u, err := url.Parse(to)
	switch {
	case err != nil:
		p.fail(n, "the link %q is none", to)
	case u.Scheme == "https" && u.Host != "":
	case u.IsAbs() || u.Host != "":
		p.fail(n, "the link %q goes neither to https: nor to a lesson", to)
	case u.Path == "":
		if !slices.ContainsFunc(p.Headings, func(h Heading) bool { return h.ID == u.Fragment }) {
			p.fail(n, "the link %q goes to no heading of this text", to)
		}
	case !slices.Contains(p.course.slugs(), u.Path):
		p.fail(n, "the link %q goes to no lesson", to)
	default:
		return planned(p.files, u.Path)
	}
	return false
}

// unwrap puts a node's children into its place.
func unwrap(n ast.Node) {
	parent := n.Parent()
	for child := n.FirstChild(); child != nil; {
		next := child.NextSibling()
		parent.InsertBefore(parent, n, child)
		child = next
	}
	parent.RemoveChild(parent, n)
}

// fence checks a fence's language, and makes a diagram of one.
func (p *page) fence(n *ast.FencedCodeBlock) {
	language := string(n.Language(p.source))
	switch {
	case language == "":
		p.fail(n, "a fence names its language; that of plain text is text")
	case language == "diagram" || language == "mermaid":
		d := &diagram{language: language}
		d.SetLines(n.Lines())
		n.Parent().ReplaceChild(n.Parent(), n, d)
	case lexers.Get(language) == nil:
		p.fail(n, "the language %q of a fence is not known", language)
	}
}

// diagram is a fence that the page draws.
type diagram struct {
	ast.BaseBlock
	language string
}

var kindDiagram = ast.NewNodeKind("Diagram")

func (*diagram) Kind() ast.NodeKind              { return kindDiagram }
func (*diagram) IsRaw() bool                     { return true }
func (d *diagram) Dump(source []byte, level int) { ast.DumpHelper(d, source, level, nil, nil) }

// diagrams renders them as they are written.
type diagrams struct{}

func (diagrams) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(kindDiagram, func(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			d := n.(*diagram)
			_, err := fmt.Fprintf(w, "<pre class=\"diagram\" data-lang=\"%s\">%s</pre>\n", d.language, html.EscapeString(string(d.Lines().Value(source))))
			return ast.WalkSkipChildren, err
		}
		return ast.WalkContinue, nil
	})
}

// headingIDs makes ids of headings in any language.
type headingIDs struct{ taken []string }

// Generate implements parser.IDs.
func (h *headingIDs) Generate(value []byte, _ ast.NodeKind) []byte {
	var b strings.Builder
	for _, r := range strings.ToLower(string(value)) {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	id := strings.Trim(b.String(), "-")
	if id == "" {
		id = "section"
	}
	base := id
	for n := 2; slices.Contains(h.taken, id); n++ {
		id = base + "-" + strconv.Itoa(n)
	}
	h.taken = append(h.taken, id)
	return []byte(id)
}

// Put implements parser.IDs.
func (h *headingIDs) Put(value []byte) { h.taken = append(h.taken, string(value)) }
