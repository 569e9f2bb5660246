//go:build linux

package hostile

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A body that never comes must not hold a connection, whatever the request is
// for: most doors answer without reading it, and net/http then waits for it.
func TestThreeHundredHalfOpenConnectionsAreDropped(t *testing.T) {
	g := start(t, "header-wait=1s", "body-wait=1s")
	head := func(line, more string) string {
		return line + " HTTP/1.1\r\nHost: " + g.addr + "\r\n" + more + "Content-Length: 100\r\n\r\n"
	}
	jsonType := "Content-Type: application/json\r\n"
	kinds := []struct{ name, opening string }{
		{"silent", ""},
		{"slow header", "POST /graphql HTTP/1.1\r\nHost: " + g.addr + "\r\nX-Slow: "},
		{"slow body of an operation", head("POST /graphql", jsonType)},
		{"slow chunks", "POST /graphql HTTP/1.1\r\nHost: " + g.addr + "\r\n" + jsonType + "Transfer-Encoding: chunked\r\n\r\n1000\r\n"},
		{"slow body of a type that is refused", head("POST /graphql", "Content-Type: text/plain\r\n")},
		{"slow body of a method that is refused", head("PUT /graphql", "")},
		{"slow body of a query by GET", head("GET /graphql?query=%7Bhello%7D", "")},
		{"slow body of a page", head("GET /", "")},
		{"slow body of a page that takes none", head("POST /graphiql", "")},
		{"slow body of a path that is not there", head("POST /nothing", "")},
		{"slow body of a health check", head("GET /healthz", "")},
		{"slow body of a page that may not come", head("POST /graphql", jsonType+"Origin: https://evil.example\r\n")},
		{"slow body of a WebSocket without a subprotocol", head("GET /graphql", "Connection: Upgrade\r\nUpgrade: websocket\r\n")},
	}
	var lines []*line
	var names []string
	for i := range 300 {
		kind := kinds[min(i/100, 2)] // 100 silent, 100 slow headers, 100 slow bodies
		if i >= 200 {
			kind = kinds[2+i%(len(kinds)-2)]
		}
		l := dial(t, g)
		l.send(kind.opening)
		lines, names = append(lines, l), append(names, kind.name)
	}
	stop := make(chan struct{})
	trickled := make(chan struct{})
	go func() { // a byte now and then keeps nothing alive
		defer close(trickled)
		pace := time.NewTicker(200 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-pace.C:
			case <-stop:
				return
			}
			for _, l := range lines[100:] {
				l.send("a")
			}
		}
	}()
	begin := time.Now()
	stuck := make(map[string]int)
	for i, l := range lines {
		if _, closed := l.rest(max(5*time.Second-time.Since(begin), 50*time.Millisecond)); !closed {
			stuck[names[i]]++
		}
	}
	close(stop)
	<-trickled
	for name, n := range stuck {
		t.Errorf("%s: %d connections are open after 5 s", name, n)
	}
}

// Neither large pages nor many answers wait for ever for a client that asks
// and does not read.
func TestClientsThatDoNotReadTheirAnswersAreDropped(t *testing.T) {
	g := start(t, "write-deadline=1s", "http-idle=1s")
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\n\r\n" }
	query := `{"query":"{ echo(text:\"` + repeat("a", 20_000) + `\") }"}`
	for _, request := range []string{
		repeat(get(largestAsset(t)), 20),
		repeat(get("/"), 3000),
		repeat(get("/healthz"), 8000),
		repeat(get("/nothing"), 8000),
		repeat(get("/graphql?query=%7Bhello%7D"), 8000),
		repeat("POST /graphql HTTP/1.1\r\nHost: "+g.addr+"\r\nContent-Type: application/json\r\nContent-Length: "+fmt.Sprint(len(query))+"\r\n\r\n"+query, 200),
		repeat("DELETE /graphql HTTP/1.1\r\nHost: "+g.addr+"\r\n\r\n", 8000),
		repeat("GET /graphql HTTP/1.1\r\nHost: evil.example\r\n\r\n", 8000),
	} {
		for range 3 {
			l := dialBuffer(t, g, 4096)
			go l.send(request) // ends with the connection: the gateway stops reading, too
		}
	}
	g.settles(t) // while the clients still hold their connections
}

// largestAsset is the path of the largest file of the pages.
func largestAsset(t *testing.T) string {
	t.Helper()
	path, size := "/home/home.css", int64(0)
	root := "../../web/dist"
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) == ".html" {
			return err
		}
		if info, err := d.Info(); err == nil && info.Size() > size {
			path, size = "/"+filepath.ToSlash(strings.TrimPrefix(name, root+string(os.PathSeparator))), info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHeadersBeyondTheLimitAreRefused(t *testing.T) {
	g := start(t)
	for name, headers := range map[string]string{
		"2,500 headers":               numbered(2500, "X-%d: a\r\n"),
		"a header of 1 MB":            "X: " + repeat("a", 1<<20) + "\r\n",
		"an Origin of 1 MB":           "Origin: http://" + repeat("a", 1<<20) + "\r\n",
		"a target of 1 MB":            "",
		"a header without an end":     "X: " + repeat("a", 4<<20),
		"folded lines without an end": "X: a\r\n" + repeat(" a\r\n", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			target := "/"
			if headers == "" {
				target += repeat("a", 1<<20)
			}
			l := dial(t, g)
			go l.send("GET " + target + " HTTP/1.1\r\nHost: " + g.addr + "\r\n" + headers + "\r\n")
			text, closed := l.rest(5 * time.Second)
			if !closed || text != "" && !strings.HasPrefix(text, "HTTP/1.1 431") && !strings.HasPrefix(text, "HTTP/1.1 400") {
				t.Errorf("closed %t, answered %.200q", closed, text)
			}
		})
	}
}

// What stands behind a body must never be taken for a second request: a proxy
// in front may have counted the body another way.
func TestARequestWithTwoLengthsIsAnsweredOnceAtMost(t *testing.T) {
	g := start(t, "body-wait=200ms")
	smuggled := "GET /healthz HTTP/1.1\r\nHost: " + g.addr + "\r\n\r\n"
	body := `{"query":"{ hello }"}`
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	for _, path := range []string{"/graphql", "/", "/graphiql/", "/healthz", "/nothing"} {
		for name, request := range map[string]string{
			"length and chunks":    fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s", len(chunk), chunk),
			"chunks and length":    fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n%s", chunk),
			"two lengths":          "Content-Length: 0\r\nContent-Length: 21\r\n\r\n" + body,
			"a list of lengths":    "Content-Length: 0, 21\r\n\r\n" + body,
			"a negative length":    "Content-Length: -1\r\n\r\n" + body,
			"a signed length":      "Content-Length: +21\r\n\r\n" + body,
			"two encodings":        "Transfer-Encoding: chunked, identity\r\n\r\n" + chunk,
			"an unknown encoding":  "Transfer-Encoding: xchunked\r\nContent-Length: 21\r\n\r\n" + body,
			"chunked twice":        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
			"a space in the name":  "Content-Length : 21\r\n\r\n" + body,
			"a huge chunk":         "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + body,
			"a signed chunk":       "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + body,
			"long chunk extension": "Transfer-Encoding: chunked\r\n\r\n1;" + repeat("a", 100_000) + "\r\n{\r\n0\r\n\r\n",
		} {
			for _, method := range []string{"POST", "GET"} {
				l := dial(t, g)
				go l.send(method + " " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nContent-Type: application/json\r\n" + request + smuggled)
				text, closed := l.rest(5 * time.Second)
				if answers := strings.Count(text, "HTTP/1.1 "); !closed || answers > 1 {
					t.Errorf("%s %s, %s: closed %t, %d answers: %.300q", method, path, name, closed, answers, text)
				}
			}
		}
	}
}

func TestStrangeRequestsAreAnsweredOrRefused(t *testing.T) {
	g := start(t, "header-wait=500ms", "body-wait=500ms")
	host := "Host: " + g.addr + "\r\n"
	for _, test := range []struct{ name, request, want string }{
		{"HTTP/1.0 without a Host", "GET /healthz HTTP/1.0\r\n\r\n", "200"},
		{"HTTP/1.0 without a Host, GraphQL", "GET /graphql?query=%7Bhello%7D HTTP/1.0\r\n\r\n", "403"},
		{"HTTP/1.0 and a WebSocket", "GET /graphql HTTP/1.0\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n", "*"},
		{"HTTP/1.1 without a Host", "GET /healthz HTTP/1.1\r\n\r\n", "400"},
		{"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", "400"},
		{"a Host with a path", "GET / HTTP/1.1\r\nHost: 127.0.0.1/../evil\r\n\r\n", "4"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "*"},
		{"HTTP/9.9", "GET / HTTP/9.9\r\n" + host + "\r\n", "505"},
		{"no version", "GET /\r\n\r\n", "400"},
		{"absolute-form", "GET http://" + g.addr + "/healthz HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"absolute-form of another host", "GET http://evil.example/graphql?query=%7Bhello%7D HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"absolute-form against another Host", "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "403"},
		{"a URL of the brokers", "GET redis://127.0.0.1/graphql HTTP/1.1\r\n" + host + "\r\n", "*"},
		{"CONNECT", "CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\n", "40"},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "*"},
		{"TRACE", "TRACE /graphql HTTP/1.1\r\n" + host + "Cookie: " + secret + "\r\n\r\n", "405"},
		{"DEBUG", "DEBUG / HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"a method of 1,000 letters", repeat("A", 1000) + " /graphql HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"a method in lower case", "get /graphql?query=%7Bhello%7D HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + repeat("a", 500), "*"},
		{"a Redis command", "*1\r\n$4\r\nPING\r\n\r\n", "400"},
		{"line breaks of the other kind", "GET /healthz HTTP/1.1\n" + "Host: " + g.addr + "\n\n", "200"},
		{"a null byte in a header", "GET /healthz HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", "400"},
		{"100-continue that is not meant", "POST /graphql HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n", "*"},
		{"an unknown expectation", "GET / HTTP/1.1\r\n" + host + "Expect: cake\r\n\r\n", "*"},
		{"a query of % signs", "GET /graphql?query=" + repeat("%", 1000) + " HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"10,000 parameters", "GET /graphql?" + repeat("a&", 5000) + " HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"a mutation by GET", "GET /graphql?query=mutation%7BcreateRoom%7Bid%7D%7D HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"an Accept of 2,000 types", "GET /graphql?query=%7Bhello%7D HTTP/1.1\r\n" + host + "Accept: " + repeat("a/b;q=1,", 1900) + "\r\n\r\n", "406"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := dial(t, g)
			l.send(test.request)
			response := l.response()
			switch {
			case response == nil && test.want == "*":
			case response == nil:
				t.Error("no answer")
			case test.want != "*" && !strings.HasPrefix(fmt.Sprint(response.StatusCode), test.want):
				t.Errorf("answered %s", response.Status)
			case response.StatusCode >= 500 && response.StatusCode != 505:
				t.Errorf("answered %s", response.Status)
			}
			if response != nil {
				if body, _ := io.ReadAll(response.Body); strings.Contains(string(body), secret) {
					t.Errorf("the answer repeats the request: %.200q", body)
				}
			}
		})
	}
}

func TestNoPathLeadsOutOfThePages(t *testing.T) {
	g := start(t)
	up := []string{
		"../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "%2e%2e%5c", "....//", "..;/", ".%00./", "..%c0%af", "..%252f", "%c0%ae%c0%ae/",
	}
	for _, page := range []string{"/", "/home/", "/graphiql/", "/graphiql/assets/", "/playground/"} {
		for _, u := range up {
			for _, file := range []string{"etc/passwd", "web.go", "index.html"} {
				for _, deep := range []int{1, 2, 12} {
					l := dial(t, g)
					path := page + repeat(u, deep) + file
					l.send("GET " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n\r\n")
					text, _ := l.rest(5 * time.Second)
					if strings.Contains(text, "root:") || strings.Contains(text, "package web") {
						t.Errorf("%s was answered with a file: %.200q", path, text)
					}
					if !strings.HasPrefix(text, "HTTP/1.1 3") && !strings.HasPrefix(text, "HTTP/1.1 4") {
						t.Errorf("%s was answered %.100q", path, text)
					}
					if location := header(text, "Location"); strings.HasPrefix(location, "//") || strings.Contains(location, "://") {
						t.Errorf("%s leads to another host: %s", path, location)
					}
					l.Close()
				}
			}
		}
	}
	for _, path := range []string{"//evil.example/", "//evil.example/graphiql", "/\\evil.example/graphiql", "/graphiql?//evil.example", "//graphiql", "/graphiql%0d%0aX-Injected:%20a", "/graphiql/%0d%0aX-Injected:%20a", "/graphiql?a=%0d%0aX-Injected:%20a", "/home/.hidden", "/home/", "/home/index.html", "/graphiql/assets/", "/home/\xff"} {
		l := dial(t, g)
		l.send("GET " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n\r\n")
		text, _ := l.rest(5 * time.Second)
		if location := header(text, "Location"); strings.HasPrefix(location, "//") || strings.HasPrefix(location, "/\\") || strings.Contains(location, "://") {
			t.Errorf("%q leads to another host: %s", path, location)
		}
		if strings.Contains(text, "\r\nX-Injected") || strings.HasPrefix(text, "HTTP/1.1 5") && !strings.HasPrefix(text, "HTTP/1.1 503") {
			t.Errorf("%q was answered %.300q", path, text)
		}
	}
}

// header is the value of a header in the text of a response.
func header(text, name string) string {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return value
		}
	}
	return ""
}

func TestPagesOfOthersAreKeptOut(t *testing.T) {
	g := start(t)
	_, port, _ := strings.Cut(g.addr, ":")
	own := "Host: " + g.addr + "\r\n"
	doors := map[string]string{
		"query":     "GET /graphql?query=%7Bhello%7D HTTP/1.1\r\n",
		"page":      "GET / HTTP/1.1\r\n",
		"WebSocket": "GET /graphql HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n",
		"stream":    "GET /graphql?query=subscription%7BtimeUpdates%7D HTTP/1.1\r\nAccept: text/event-stream\r\n",
		"preflight": "OPTIONS /graphql HTTP/1.1\r\nAccess-Control-Request-Method: POST\r\n",
	}
	forbidden := []string{
		own + "Origin: https://evil.example\r\n",
		own + "Origin: null\r\n",
		own + "Origin: \r\n",
		own + "Origin: file://\r\n",
		own + "Origin: chrome-extension://abcdef\r\n",
		own + "Origin: http://localhost.evil.example\r\n",
		own + "Origin: http://127.0.0.1.evil.example\r\n",
		own + "Origin: http://127.0.0.1@evil.example\r\n",
		own + "Origin: http://evil.example#http://localhost\r\n",
		own + "Origin: http://evil.example?http://localhost\r\n",
		own + "Origin: http://evil.example\\@localhost\r\n",
		own + "Origin: http://0x7f000001\r\n",
		own + "Origin: http://127.1\r\n",
		own + "Origin: javascript://localhost/%0a\r\n",
		own + "Origin: ws://localhost\r\n",
		own + "Origin: http://localhost, https://evil.example\r\n",
		own + "Origin: http://localhost\r\nOrigin: https://evil.example\r\n",
		own + "Origin: http://localhost%00.evil.example\r\n",
		own + "Origin: http://localhost%0d%0aX-Injected: a\r\n",
		own + "Origin: http://[::1].evil.example\r\n",
		"Host: evil.example\r\n",
		"Host: evil.example:" + port + "\r\nOrigin: http://evil.example:" + port + "\r\n",
		"Host: localhost.evil.example\r\n",
		"Host: 127.0.0.1.evil.example\r\n",
		"Host: 127.0.0.1:80:80\r\n",
		"Host: localhost.\r\n",
		"Host: user@localhost\r\n",
		"Host: 0.0.0.0\r\n",
		"Host: \r\n",
	}
	for name, door := range doors {
		for _, headers := range forbidden {
			l := dial(t, g)
			l.send(door + headers + "Connection: close\r\n\r\n")
			text, closed := l.rest(5 * time.Second)
			if !closed || !strings.HasPrefix(text, "HTTP/1.1 403") && !strings.HasPrefix(text, "HTTP/1.1 400") {
				t.Errorf("%s with %q was answered %.100q", name, headers, text)
			}
			if header(text, "Access-Control-Allow-Origin") != "" || strings.Contains(text, "\r\nX-Injected") {
				t.Errorf("%s with %q got headers it must not: %.500q", name, headers, text)
			}
			l.Close()
		}
	}
	for _, origin := range []string{"http://localhost", "http://127.0.0.1:5173", "https://[::1]:3000", "http://" + g.addr} {
		l := dial(t, g)
		l.send(doors["query"] + own + "Origin: " + origin + "\r\nConnection: close\r\n\r\n")
		text, _ := l.rest(5 * time.Second)
		if !strings.HasPrefix(text, "HTTP/1.1 200") || header(text, "Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s was answered %.300q", origin, text)
		}
	}
	response, err := fresh.Get("http://" + g.addr + "/debug/vars")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("the debug pages are on the main address: %s", response.Status)
	}
}
