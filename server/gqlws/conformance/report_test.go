package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// record is what a run has found: for each case what the server did instead of
// what was wanted, or nothing if it passed.
type record struct {
	ours, stock map[string]string
	gqlgen      string // its version
}

// report is docs/conformance.md.
func report(r record) string {
	var b strings.Builder
	b.WriteString(`# Conformance

<!-- Written by a test run, never by hand: go test ./server/gqlws/conformance -update -->

Every sentence of the two protocol documents that asks something of a server, and what they leave open, as conversations over real WebSockets. The cases are in ` + "`server/gqlws/conformance`" + `; a test fails when a sentence of a document is missing there, when our transport fails a case, or when this file is not what the run has found.

- **Level**: the documents seldom use the words of RFC 2119. What they state as a fact about a server is a MUST here, "should" and "recommended" a SHOULD, "may" and "can" a MAY. What they allow a client, a server has to take: that is a MUST as well. *open*: no document says, and the note is what we decided.
- **Ours**: ` + "`server/gqlws`" + `, on gorilla/websocket.
- **gqlgen stock**: ` + "`transport.Websocket`" + ` of gqlgen ` + r.gqlgen + ` on its default library, coder/websocket, with the same schema and the same settings as far as it has them. Where the case is open, a *no* only says that it decided otherwise.

`)
	counts(&b, r)
	for _, d := range documents {
		section(&b, d, r)
	}
	return b.String()
}

// counts is the table at the top: passed of all.
func counts(b *strings.Builder, r record) {
	b.WriteString("| Document | Level | Cases | Ours | gqlgen stock |\n|---|---|--:|--:|--:|\n")
	var all tally
	for _, d := range documents {
		for _, l := range []level{must, should, may, open} {
			t := count(d, l, r)
			if t.cases > 0 {
				fmt.Fprintf(b, "| %s | %s | %d | %d | %d |\n", d.title, l, t.cases, t.ours, t.stock)
			}
			all.cases, all.ours, all.stock = all.cases+t.cases, all.ours+t.ours, all.stock+t.stock
		}
	}
	fmt.Fprintf(b, "| **All** | | **%d** | **%d** | **%d** |\n", all.cases, all.ours, all.stock)
}

type tally struct{ cases, ours, stock int }

func count(d document, l level, r record) (t tally) {
	for _, c := range d.cases {
		if c.level != l {
			continue
		}
		t.cases++
		if r.ours[d.name(c)] == "" {
			t.ours++
		}
		if r.stock[d.name(c)] == "" {
			t.stock++
		}
	}
	return t
}

func section(b *strings.Builder, d document, r record) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n", d.title, d.about)
	isOpen := func(c testCase) bool { return c.level == open }
	said := slices.DeleteFunc(slices.Clone(d.cases), isOpen)
	left := slices.DeleteFunc(slices.Clone(d.cases), func(c testCase) bool { return !isOpen(c) })
	table(b, d, r, "Sentence", said)
	if len(left) > 0 {
		fmt.Fprintf(b, "\n### What it leaves open\n")
		table(b, d, r, "Question", left)
	}
	if len(d.asksNothing) > 0 {
		b.WriteString("\n### Sentences that ask nothing of a server\n\n| Sentence | Why |\n|---|---|\n")
		for _, e := range d.asksNothing {
			fmt.Fprintf(b, "| %s | %s |\n", cell(e.quote), cell(e.why))
		}
	}
}

func table(b *strings.Builder, d document, r record, first string, cases []testCase) {
	fmt.Fprintf(b, "\n| %s | Level | Ours | gqlgen stock | Note |\n|---|---|---|---|---|\n", first)
	for _, c := range cases {
		ours, stock := r.ours[d.name(c)], r.stock[d.name(c)]
		note := "`" + c.id + "`"
		if c.note != "" {
			note += ": " + cell(c.note)
		}
		if stock != "" {
			note += ". Stock: " + cell(stock)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", cell(c.quote), c.level, verdict(ours), verdict(stock), note)
	}
}

func verdict(seen string) string {
	if seen == "" {
		return "yes"
	}
	return "**no**"
}

// cell makes text fit into a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ", "_", `\_`, "*", `\*`).Replace(text)
}
