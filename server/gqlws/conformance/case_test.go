package conformance

// level is how much a sentence asks for. The documents of the protocols seldom
// use the words of RFC 2119: what they state as a fact about a server is a MUST
// here, "should" and "recommended" a SHOULD, "may" and "can" a MAY.
type level string

const (
	must   level = "MUST"
	should level = "SHOULD"
	may    level = "MAY"
	open   level = "open" // no document says; the case's note is what we decided
)

// testCase is one conversation and the sentence that it checks.
type testCase struct {
	id    string
	quote string // words of the document, or a question that it leaves open
	level level
	note  string // what the case does, or what we decided
	play  func(*client)
}

// document is one table of the record.
type document struct {
	key   string // begins the full names of its cases
	title string
	file  string // its copy, in which the quotes must be found; may be empty
	about string
	cases []testCase
	// asksNothing are sentences that ask nothing of a server, by the reason.
	asksNothing []excuse
}

type excuse struct{ quote, why string }

// documents are all there is to conform to.
var documents = []document{
	{
		key:         "modern",
		title:       "graphql-transport-ws",
		file:        "testdata/graphql-transport-ws.md",
		about:       "[PROTOCOL.md of graphql-ws](https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md)",
		cases:       modernCases,
		asksNothing: modernAsksNothing,
	},
	{
		key:         "legacy",
		title:       "graphql-ws, the older protocol",
		file:        "testdata/graphql-ws.md",
		about:       "[PROTOCOL.md of subscriptions-transport-ws](https://github.com/apollographql/subscriptions-transport-ws/blob/master/PROTOCOL.md)",
		cases:       legacyCases,
		asksNothing: legacyAsksNothing,
	},
	{
		key:   "socket",
		title: "Handshake and frames",
		about: "[RFC 6455](https://www.rfc-editor.org/rfc/rfc6455), as far as the protocols rely on it",
		cases: socketCases,
	},
}

func (d document) name(c testCase) string { return d.key + "/" + c.id }

// each calls f for every case of every document.
func each(f func(document, testCase)) {
	for _, d := range documents {
		for _, c := range d.cases {
			f(d, c)
		}
	}
}
