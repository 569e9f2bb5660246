package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const asJSON, asGraphQL, asEvents = "application/json", "application/graphql-response+json", "text/event-stream"

func TestOverHTTP(t *testing.T) {
	g := start(t)
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
	}{
		{"POST", "POST", "/graphql", `{"query":"{ hello }"}`, []string{"Content-Type", asJSON}, 200, `{"data":{"hello":"Hello from GraphQL-WS!"}}`},
		{"POST with charset", "POST", "/graphql", `{"query":"{ hello }"}`, []string{"Content-Type", asJSON + "; charset=utf-8"}, 200, `{"data":`},
		{"POST with variables and nulls", "POST", "/graphql", `{"query":"query Q($t: String!) { echo(text: $t) }","operationName":null,"variables":{"t":"あ"},"extensions":null}`, []string{"Content-Type", asJSON}, 200, `{"data":{"echo":"あ"}}`},
		{"GET", "GET", "/graphql?query={hello}", "", nil, 200, `{"data":{"hello":`},
		{"GET with variables", "GET", `/graphql?query=query+Q($t:String!){echo(text:$t)}&variables={"t":"x"}`, "", nil, 200, `{"data":{"echo":"x"}}`},
		{"GET without query", "GET", "/graphql", "", nil, 400, `no parameter`},
		{"GET with broken variables", "GET", "/graphql?query={hello}&variables=x", "", nil, 400, `variables`},
		{"mutation by GET", "GET", "/graphql?query=mutation{createRoom{id}}", "", nil, 405, `METHOD_NOT_ALLOWED`},
		{"subscription by POST", "POST", "/graphql", `{"query":"subscription { timeUpdates }"}`, []string{"Content-Type", asJSON}, 400, `SUBSCRIPTION_NOT_SUPPORTED`},
		{"subscription by GET", "GET", "/graphql?query=subscription{timeUpdates}", "", []string{"Accept", "*/*"}, 400, `Accept: text/event-stream`},
		{"a choice of operations", "GET", "/graphql?query=query+A{hello}mutation+B{createRoom{id}}&operationName=A", "", nil, 200, `{"data":{"hello":`},
		{"broken URL encoding", "GET", "/graphql?query=%zz", "", nil, 400, `URL encoding`},
		{"not UTF-8 in the URL", "GET", "/graphql?query={echo(text:\"%ff\")}", "", nil, 400, `UTF-8`},
		{"not UTF-8 in the body", "POST", "/graphql", "{\"query\":\"{ echo(text: \\\"\xff\\\") }\"}", []string{"Content-Type", asJSON}, 400, `UTF-8`},
		{"another charset", "POST", "/graphql", `{"query":"{ hello }"}`, []string{"Content-Type", asJSON + "; charset=utf-16"}, 415, `UNSUPPORTED_MEDIA_TYPE`},
		{"an upgrade that may be ignored", "GET", "/graphql?query={hello}", "", []string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"}, 200, `{"data":{"hello":`},
		{"names in other case", "POST", "/graphql", `{"Query":"{ hello }"}`, []string{"Content-Type", asJSON}, 400, `must be a string`},
		{"variables that are a list", "POST", "/graphql", `{"query":"{ hello }","variables":[],"extensions":1}`, []string{"Content-Type", asJSON}, 400, `\"variables\" must be an object; \"extensions\" must be an object`},
		{"PUT", "PUT", "/graphql", "", nil, 405, `METHOD_NOT_ALLOWED`},
		{"a form", "POST", "/graphql", "query={hello}", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, `UNSUPPORTED_MEDIA_TYPE`},
		{"no content type", "POST", "/graphql", `{"query":"{ hello }"}`, nil, 415, `UNSUPPORTED_MEDIA_TYPE`},
		{"a batch", "POST", "/graphql", `[{"query":"{ hello }"}]`, []string{"Content-Type", asJSON}, 400, `BAD_REQUEST`},
		{"no query", "POST", "/graphql", `{}`, []string{"Content-Type", asJSON}, 400, `\"query\" must be a string`},
		{"trailing text", "POST", "/graphql", `{"query":"{ hello }"} x`, []string{"Content-Type", asJSON}, 400, `BAD_REQUEST`},
		{"too large", "POST", "/graphql", `{"query":"` + strings.Repeat(" ", 10_001) + `"}`, []string{"Content-Type", asJSON}, 413, `PAYLOAD_TOO_LARGE`},
		{"an image wanted", "POST", "/graphql", `{"query":"{ hello }"}`, []string{"Content-Type", asJSON, "Accept", "image/png"}, 406, `NOT_ACCEPTABLE`},
		{"invalid document, old media type", "POST", "/graphql", `{"query":"{ nothing }"}`, []string{"Content-Type", asJSON, "Accept", asJSON}, 200, `Cannot query field`},
		{"invalid document, new media type", "POST", "/graphql", `{"query":"{ nothing }"}`, []string{"Content-Type", asJSON, "Accept", asGraphQL}, 400, `Cannot query field`},
		{"syntax error", "POST", "/graphql", `{"query":"{"}`, []string{"Content-Type", asJSON, "Accept", asGraphQL}, 400, `Expected Name`},
		{"too many tokens", "POST", "/graphql", `{"query":"{` + strings.Repeat(" hello", 600) + ` }"}`, []string{"Content-Type", asJSON}, 200, `DOCUMENT_TOO_LARGE`},
		{"field error", "POST", "/graphql", `{"query":"{ fail }"}`, []string{"Content-Type", asJSON}, 200, `"code":"DEMO_FAILURE"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace(test.path)
			status, body, header := g.do(t, test.method, path, test.body, test.header...)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s\nwant %d with %s", status, body, test.status, test.want)
			}
			if !json.Valid([]byte(body)) || !strings.HasPrefix(header.Get("Content-Type"), "application/") {
				t.Errorf("the answer is not JSON: %s %s", header.Get("Content-Type"), body)
			}
		})
	}
}

func TestMalformedBodyIsNotEchoed(t *testing.T) {
	g := start(t)
	_, body, _ := g.do(t, "POST", "/graphql", `{"query": secret-token`, "Content-Type", asJSON)
	if strings.Contains(body, "secret") {
		t.Errorf("the answer repeats the body: %s", body)
	}
}

func TestRefusalsSayWhichMethodsThereAre(t *testing.T) {
	g := start(t)
	for method, want := range map[string]string{"GET": "POST", "PUT": "GET, POST", "DELETE": "GET, POST"} {
		status, _, header := g.do(t, method, "/graphql?query=mutation%7BcreateRoom%7Bid%7D%7D", "", "Accept", asGraphQL+", "+asEvents)
		if status != 405 || header.Get("Allow") != want {
			t.Errorf("%s: got %d, Allow: %s; want %s", method, status, header.Get("Allow"), want)
		}
	}
	if n := g.Refusals()["METHOD_NOT_ALLOWED"]; n != 3 {
		t.Errorf("%d refusals were counted", n)
	}
}

func TestMediaTypeIsNegotiated(t *testing.T) {
	g := start(t)
	tests := []struct{ accept, want string }{
		{"", asJSON},
		{"*/*", asJSON},
		{"application/*", asJSON},
		{asGraphQL, asGraphQL},
		{"APPLICATION/GraphQL-response+json", asGraphQL},
		{asGraphQL + "; charset=UTF-8, " + asJSON + "; charset=utf-8", asGraphQL},
		{asJSON + ", " + asGraphQL, asGraphQL},
		{asGraphQL + ";q=0.8, " + asJSON, asJSON},
		{asGraphQL + ", " + asJSON + ";q=0.9", asGraphQL},
		{"text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", asJSON},
		{asJSON + ";q=0, */*", asGraphQL},
		{asJSON + ";q=0.1, */*;q=0.2", asGraphQL},
		{asGraphQL + ", application/graphql+json, " + asJSON + ", " + asEvents + ", multipart/mixed", asGraphQL}, // urql's
		{asEvents, asEvents},
		{asEvents + ", " + asJSON + ";q=0.5", asEvents},
		{asJSON + "; charset=utf-16, */*;q=0.1", asJSON},
		{"nonsense, " + asGraphQL, asGraphQL},
		// refused:
		{"text/html", ""},
		{"text/*", ""},
		{asJSON + "; charset=utf-16", ""},
		{asJSON + ";q=0", ""},
		{asGraphQL + ";q=2", ""},
		{"*/*;q=0", ""},
	}
	for _, test := range tests {
		t.Run(test.accept, func(t *testing.T) {
			status, _, header := g.do(t, "GET", "/graphql?query=%7Bhello%7D", "", "Accept", test.accept)
			if test.want == "" {
				if status != 406 {
					t.Errorf("got %d %s, want a refusal", status, header.Get("Content-Type"))
				}
				return
			}
			if got := header.Get("Content-Type"); status != 200 || got != test.want+"; charset=utf-8" {
				t.Errorf("got %d %s, want %s", status, got, test.want)
			}
			if header.Get("Vary") != "Accept" {
				t.Errorf("a cache is not told: Vary: %s", header.Get("Vary"))
			}
		})
	}
}

func TestRequestErrorsHaveNoData(t *testing.T) {
	g := start(t)
	for _, document := range []string{"{", "{ nothing }", "query ($t: String!) { echo(text: $t) }"} {
		body := g.query(t, document, nil)
		if strings.Contains(body, `"data"`) || !strings.HasPrefix(body, `{"errors":[{`) {
			t.Errorf("%s is answered with %s", document, body)
		}
	}
}

func TestLargeResponseBecomesAnError(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.WebSocket.PayloadBytes = 1000 })
	body := g.query(t, `query ($t: String!) { echo(text: $t) }`, map[string]any{"t": strings.Repeat("x", 1000)})
	if !strings.HasPrefix(body, `{"data":null,"errors":`) || !strings.Contains(body, `"code":"PAYLOAD_TOO_LARGE"`) {
		t.Errorf("got %s", body)
	}
}

// A client that never finishes its request is answered and let go, also where
// the body does not matter.
func TestStalledBodyIsRefused(t *testing.T) {
	g := start(t, func(cfg *Config) { cfg.Limits.BodyWait = 20 * time.Millisecond })
	for _, request := range []string{
		"POST /graphql HTTP/1.1\r\nContent-Type: application/json",
		"POST /graphql HTTP/1.1",
		"PUT /graphql HTTP/1.1",
		"GET /graphql?query=subscription%7BtimeUpdates%7D HTTP/1.1\r\nAccept: text/event-stream",
	} {
		socket := g.dial(t)
		fmt.Fprintf(socket, "%s\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", request)
		answer, err := io.ReadAll(socket) // to the end of the connection
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "REQUEST_TIMEOUT") {
			t.Errorf("%q is answered %q, %v", request, answer, err)
		}
	}
}

// dial opens a bare connection for up to ten seconds.
func (g *gateway) dial(t *testing.T) net.Conn {
	t.Helper()
	socket, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	_ = socket.SetDeadline(time.Now().Add(10 * time.Second))
	return socket
}
