package web

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// site is the home page as it is embedded, with bundles of our choice.
func site(t *testing.T, bundles fstest.MapFS) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	for name, file := range bundles {
		files[name] = file
	}
	entries, err := embedded.ReadDir("home")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		b, err := fs.ReadFile(embedded, "home/"+entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		files["home/"+entry.Name()] = &fstest.MapFile{Data: b}
	}
	return files
}

func TestServing(t *testing.T) {
	h := newHandler(site(t, fstest.MapFS{
		"dist/graphiql/index.html":          {Data: []byte("<p>the IDE")},
		"dist/graphiql/assets/main-h4sh.js": {Data: []byte("1")},
		"dist/graphiql/assets/font.ttf":     {Data: []byte("1")},
		"dist/graphiql/.hidden":             {Data: []byte("1")},
		"dist/secret.txt":                   {Data: []byte("1")},
	}), Info{})

	for _, c := range []struct {
		path        string
		status      int
		contentType string
		cache       string
	}{
		{"/", 200, "text/html; charset=utf-8", "no-store"},
		{"/home/home.js", 200, "text/javascript; charset=utf-8", "no-cache"},
		{"/home/home.css", 200, "text/css; charset=utf-8", "no-cache"},
		{"/home/icon.svg", 200, "image/svg+xml", "no-cache"},
		{"/graphiql/", 200, "text/html; charset=utf-8", "no-cache"},
		{"/graphiql/assets/main-h4sh.js", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/graphiql/assets/font.ttf", 200, "font/ttf", "public, max-age=31536000, immutable"},
		{"/playground/", 503, "text/html; charset=utf-8", "no-store"},

		{"/home/", 404, "", "no-store"}, // its index.html is a template, for "/"
		{"/home/index.html", 404, "", "no-store"},
		{"/home/placeholder.html", 404, "", "no-store"},
		{"/graphiql/.hidden", 404, "", "no-store"},
		{"/graphiql/assets", 404, "", "no-store"},
		{"/graphiql/assets/", 404, "", "no-store"},
		{"/graphiql/assets/main-old.js", 404, "", "no-store"},
		{"/playground/assets/main.js", 404, "", "no-store"},
		{"/graphiql/%2e%2e/secret.txt", 404, "", "no-store"},
		{"/graphiql/..%2fsecret.txt", 404, "", "no-store"},
		{"/graphiql//etc/passwd", 404, "", "no-store"},
		{"/nothing", 404, "", ""},
	} {
		r := get(t, h, c.path)
		if isRedirect(r.StatusCode) { // ServeMux cleans some paths first
			r = get(t, h, r.Header.Get("Location"))
		}
		if r.StatusCode != c.status {
			t.Errorf("GET %s: status %d, want %d", c.path, r.StatusCode, c.status)
		}
		if got := r.Header.Get("Content-Type"); c.contentType != "" && got != c.contentType {
			t.Errorf("GET %s: type %q, want %q", c.path, got, c.contentType)
		}
		if got := r.Header.Get("Cache-Control"); c.cache != "" && got != c.cache {
			t.Errorf("GET %s: Cache-Control %q, want %q", c.path, got, c.cache)
		}
		if got := r.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("GET %s: X-Content-Type-Options %q", c.path, got)
		}
		if got := r.Header.Get("Content-Security-Policy"); c.status != 404 && !strings.HasPrefix(got, "default-src 'none'; script-src 'self'; ") {
			t.Errorf("GET %s: Content-Security-Policy %q", c.path, got)
		}
	}
}

func isRedirect(status int) bool { return status >= 300 && status < 400 }

func TestSlashIsAdded(t *testing.T) {
	for _, name := range []string{"graphiql", "playground"} {
		r := get(t, Handler("", Info{}), "/"+name+"?x=1")
		if got := r.Header.Get("Location"); !isRedirect(r.StatusCode) || got != name+"/?x=1" {
			t.Errorf("GET /%s: status %d to %q", name, r.StatusCode, got)
		}
	}
}

func TestPlaceholderBecomesTheIDE(t *testing.T) {
	files := site(t, nil)
	h := newHandler(files, Info{})
	r := get(t, h, "/graphiql/")
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("not built: status %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}
	if page := body(t, r); !strings.Contains(page, "GraphiQL is not built yet") || !strings.Contains(page, "make web") {
		t.Errorf("the placeholder does not say what to do:\n%s", page)
	}
	files["dist/graphiql/index.html"] = &fstest.MapFile{Data: []byte("<p>the IDE")}
	if r := get(t, h, "/graphiql/"); r.StatusCode != http.StatusOK {
		t.Errorf("built: status %d", r.StatusCode)
	}
}

func TestFromDisk(t *testing.T) {
	h := Handler(".", Info{})
	if r := get(t, h, "/"); r.StatusCode != http.StatusOK {
		t.Errorf("home page: status %d", r.StatusCode)
	}
	if r := get(t, h, "/graphiql/../web.go"); r.StatusCode == http.StatusOK {
		t.Error("a file outside of the bundle is served")
	}
}

func TestHomeCommands(t *testing.T) {
	page := body(t, get(t, Handler("", Info{Version: "1.2.3", MQTTAddr: "127.0.0.1:40123", RedisAddr: "[::1]:40124"}), "/"))
	for _, want := range []string{
		"mosquitto_pub -h 127.0.0.1 -p 40123 ",
		"redis-cli -h ::1 -p 40124 ",
		"curl http://example.com/graphql ",
		"npx wscat -c ws://example.com/echo",
		"Sluice 1.2.3",
		`href="graphiql/"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the home page lacks %q", want)
		}
	}
	page = body(t, get(t, Handler("", Info{NoIDEs: true}), "/"))
	if !strings.Contains(page, "mosquitto_pub -h YOUR_MQTT_HOST -p 1883 ") || strings.Contains(page, "graphiql/") {
		t.Error("without brokers and IDEs the home page is wrong")
	}
}

// A Host header is anybody's to choose, and the command is there to be pasted.
func TestHomeDoesNotRepeatAStrangeHost(t *testing.T) {
	for _, host := range []string{"x;id", "$(id)", "a b", "<b>", "x'y"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		Handler("", Info{}).ServeHTTP(w, r)
		if page := w.Body.String(); !strings.Contains(page, "curl http://127.0.0.1:8080/graphql ") {
			t.Errorf("Host %q is repeated", host)
		}
	}
}

func TestMethodsAndProduction(t *testing.T) {
	w := httptest.NewRecorder()
	Handler("", Info{}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	for _, path := range []string{"/graphiql", "/graphiql/", "/playground/"} {
		if r := get(t, Handler("", Info{NoIDEs: true}), path); r.StatusCode != http.StatusNotFound {
			t.Errorf("without IDEs GET %s: status %d", path, r.StatusCode)
		}
	}
}
