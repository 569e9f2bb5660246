//go:build linux

package hostile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// doubling is a document whose fragments double on each level.
func doubling(levels int) string {
	var b strings.Builder
	fmt.Fprint(&b, `{ __type(name: "Query") { ...f0 } }`)
	for i := range levels {
		fmt.Fprintf(&b, " fragment f%d on __Type { ofType { ...f%d } o: ofType { ...f%d } }", i, i+1, i+1)
	}
	fmt.Fprintf(&b, " fragment f%d on __Type { name }", levels)
	return b.String()
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestDocumentsThatEatTheValidatorAreRefusedOnEveryDoor(t *testing.T) {
	g := start(t)
	large, complicated, deep := "DOCUMENT_TOO_LARGE", "DOCUMENT_TOO_COMPLEX", "DOCUMENT_TOO_DEEP"
	for _, test := range []struct{ name, document, code string }{
		{"2 MB of nested lists", "{ echo(text: " + repeat("[", 1<<20) + repeat("]", 1<<20) + ") }", ""},
		{"30 kB of nested lists", "{ echo(text: " + repeat("[", 15_000) + repeat("]", 15_000) + ") }", "GRAPHQL_PARSE_FAILED"},
		{"1,900 nested lists, open", "{ echo(text: " + repeat("[", 1900), "GRAPHQL_PARSE_FAILED"},
		{"fragments that double 12 times", doubling(12), complicated},
		{"fragments that double 40 times", doubling(40), complicated},
		{"a fragment that spreads itself", `{ ...f } fragment f on Query { hello ...f }`, "GRAPHQL_VALIDATION_FAILED"},
		{"4,000 copies of a field", "{" + repeat(" hello", 4000) + "}", large},
		{"1,900 copies of a field", "{" + repeat(" hello", 1900) + "}", complicated},
		{"10,000 aliases", "{" + numbered(10_000, " a%d: hello") + "}", large},
		{"600 aliases", "{" + numbered(600, " a%d: hello") + "}", complicated},
		{"100,000 directives", "{ hello" + repeat(" @a", 100_000) + "}", ""},
		{"900 directives", "{ hello" + repeat(" @a", 900) + "}", complicated},
		{"1,900 levels", repeat("{ hello ", 950), "GRAPHQL_PARSE_FAILED"},
		{"500 levels", repeat("{a", 500) + repeat("}", 500), deep},
		{"200 levels of inline fragments", "{" + repeat("... {", 200) + "hello" + repeat("}", 200) + "}", ""},
		{"100 fragments", "{ hello }" + numbered(100, " fragment f%d on Query { hello }"), complicated},
		{"400 operations", numbered(400, " query q%d { hello }"), "GRAPHQL_VALIDATION_FAILED"},
		{"600 variables", "query(" + numbered(390, " $v%d: Int") + ") { hello }", "GRAPHQL_VALIDATION_FAILED"},
		{"a string without an end", `{ echo(text: "` + repeat("a", 30_000), "GRAPHQL_PARSE_FAILED"},
		{"a block string without an end", `{ echo(text: """` + repeat("\\", 30_000), "GRAPHQL_PARSE_FAILED"},
		{"30 kB of comments", repeat("#\n", 15_000) + "{ hello }", ""},
		{"nothing", "", ""},
		{"null bytes", "{ hello \x00 }", "GRAPHQL_PARSE_FAILED"},
		{"a number of 30,000 digits", "{ slow(ms: " + repeat("9", 30_000) + ") }", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for door, ask := range doors {
				begin := time.Now()
				codes := ask(t, g, test.document)
				if took := time.Since(begin); took > servedWithin() {
					t.Errorf("%s: the answer took %v", door, took)
				}
				if test.code != "" && !slices.Contains(codes, test.code) && !slices.Contains(codes, "TOO LONG") {
					t.Errorf("%s: got %v, want %s", door, codes, test.code)
				}
				if len(codes) > 21 {
					t.Errorf("%s: %d errors", door, len(codes))
				}
			}
		})
	}
}

// doors are the ways for a document to come in. Each returns the codes of the
// errors; "TOO LONG" when the door refuses it unread.
var doors = map[string]func(t *testing.T, g *gateway, document string) []string{
	"POST": func(t *testing.T, g *gateway, document string) []string {
		a := g.query(t, document)
		if a.status == http.StatusRequestEntityTooLarge {
			return []string{"TOO LONG"}
		}
		return a.codes
	},
	"GET": func(t *testing.T, g *gateway, document string) []string {
		l := dial(t, g)
		l.send("GET /graphql?query=" + url.QueryEscape(document) + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n\r\n")
		response := l.response()
		if response == nil || response.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
			return []string{"TOO LONG"}
		}
		return read(t, time.Now(), response).codes
	},
	"SSE": func(t *testing.T, g *gateway, document string) []string {
		body, _ := json.Marshal(map[string]string{"query": document})
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url("/graphql"), strings.NewReader(string(body)))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "text/event-stream")
		response, err := fresh.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		a := read(t, time.Now(), response)
		if a.status == http.StatusRequestEntityTooLarge {
			return []string{"TOO LONG"}
		}
		_, data, _ := strings.Cut(a.text, "data: ")
		data, _, _ = strings.Cut(data, "\n")
		_, codes := parseResult([]byte(data))
		return append(codes, a.codes...)
	},
	"WebSocket": func(t *testing.T, g *gateway, document string) []string {
		s := openSocket(t, g)
		s.subscribe("1", document)
		m, err := s.message()
		if err != nil {
			return []string{"TOO LONG"} // closed with 1009
		}
		_, codes := parseResult(m.Payload)
		if m.Type == "error" {
			_, codes = parseResult([]byte(`{"errors":` + string(m.Payload) + `}`))
		}
		return codes
	},
}

func TestOnlyOneJSONRequestIsReadFromABody(t *testing.T) {
	g := start(t)
	query := `{"query":"{ hello }"}`
	for _, test := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"a batch", "application/json", "[" + query + "]", 400},
		{"a batch of 2,000", "application/json", "[" + repeat(query+",", 2000) + query + "]", 400},
		{"two requests", "application/json", query + query, 400},
		{"a form", "application/x-www-form-urlencoded", "query=%7Bhello%7D", 415},
		{"JSON as a form", "application/x-www-form-urlencoded", query, 415},
		{"JSON as text", "text/plain", query, 415},
		{"an upload", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n" + query + "\r\n--x--", 415},
		{"GraphQL text", "application/graphql", "{ hello }", 415},
		{"no type", "", query, 415},
		{"UTF-16", "application/json; charset=utf-16", query, 415},
		{"nothing", "application/json", "", 400},
		{"null", "application/json", "null", 400},
		{"invalid UTF-8", "application/json", `{"query":"{ echo(text:\"` + secret + "\xff" + `\") }"}`, 400},
		{"10,001 levels of variables", "application/json", `{"query":"{ hello }","variables":{"a":` + repeat("[", 10_001) + repeat("]", 10_001) + `}}`, 400},
		{"a large body", "application/json", `{"query":"{ hello }","variables":{"a":"` + repeat("a", 1<<20) + `"}}`, 413},
		{"malformed, with something private", "application/json", `{"password":"` + secret, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := g.post(t, test.contentType, []byte(test.body))
			if a.status != test.status {
				t.Errorf("got status %d, %.200s", a.status, a.text)
			}
			if strings.Contains(a.text, secret) || len(a.text) > 1000 {
				t.Errorf("the answer repeats the request: %.200s", a.text)
			}
		})
	}
}

// The gateway keeps documents that it has seen, parsed, for clients that send
// the same one again.
func TestAThousandLongDocumentsDoNotFillTheMemory(t *testing.T) {
	g := start(t)
	for i := range 1000 {
		a := g.query(t, fmt.Sprintf("query q%d { hello } #%s", i, repeat("x", 32_000)))
		if a.status != 200 {
			t.Fatalf("document %d: %d, %.300s", i, a.status, a.text)
		}
	}
}

func TestAThousandDocumentsOfManyFieldsDoNotFillTheMemory(t *testing.T) {
	g := start(t)
	for i := range 1000 {
		a := g.query(t, fmt.Sprintf("query q%d { gatewayStats {%s } }", i, repeat(" at", 200)))
		if a.status != 200 {
			t.Fatalf("document %d: %d, %.300s", i, a.status, a.text)
		}
	}
}

// What a client does wrong is told to the client. The log is for those who run
// the gateway, and a client must not be able to fill it.
func TestMistakesOfClientsDoNotFillTheLog(t *testing.T) {
	g := start(t)
	for _, document := range []string{
		`{ slow(ms: 3000000000) }`,
		`{ slow(ms: 99999) }`,
		`{ slow(ms: "` + secret + `") }`,
		`{ fail }`,
		`{ fail(code: "` + secret + `") }`,
		`{ nothing(a: "` + secret + `") }`,
		`mutation { publishMQTT(input: {topic: "demo/x", payload: "` + secret + `", encoding: BASE64}) { receivers } }`,
		`mutation { publishRedis(input: {channel: "sluice:x", payload: "` + secret + `"}) { receivers } }`,
		`mutation { sendMessage(input: {content: ""}) { id } }`,
		`query($n: Int!) { slow(ms: $n) }`,
		`{ hello`,
	} {
		for range 30 {
			if a := g.query(t, document); len(a.codes) == 0 {
				t.Errorf("%s: no error: %s", document, a.text)
			} else if a.has("INTERNAL") {
				t.Errorf("%s is taken for a fault of the gateway: %s", document, a.text)
				break
			}
		}
	}
	for _, body := range []string{
		`{"query":"query($n: Int!) { slow(ms: $n) }","variables":{"n":30000000000}}`,
		`{"query":"query($n: Int!) { slow(ms: $n) }","variables":{"n":1e400}}`,
		`{"query":"query($n: Int!) { slow(ms: $n) }","variables":{"n":1.5}}`,
		`{"query":"query($n: String!) { echo(text: $n) }","variables":{"n":{"a":"` + secret + `"}}}`,
		`{"query":"mutation($i: PublishMQTTInput!) { publishMQTT(input: $i) { receivers } }","variables":{"i":{"topic":"a","payload":"` + secret + `","encoding":"X"}}}`,
		`{"query":"mutation($i: PublishMQTTInput!) { publishMQTT(input: $i) { receivers } }","variables":{"i":{"topic":"a","payload":[],"qos":7}}}`,
		`{"query":"mutation($i: PublishMQTTInput!) { publishMQTT(input: $i) { receivers } }","variables":{"i":[[[]]]}}`,
	} {
		for range 30 {
			if a := g.post(t, "application/json", []byte(body)); len(a.codes) == 0 {
				t.Errorf("%s: no error: %s", body, a.text)
			} else if a.has("INTERNAL") {
				t.Errorf("%s is taken for a fault of the gateway: %s", body, a.text)
				break
			}
		}
	}
}
