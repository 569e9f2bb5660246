// Package web is what a browser sees of the gateway: the home page, GraphiQL
// and GraphQL Playground, all served from the binary and without a request to
// another host.
//
// The home page is embedded as it is written. The two IDEs are bundles that
// `make web` builds into dist; where one has not been built, a placeholder says
// so with status 503 and becomes the IDE once the build is done. It is not 200,
// so that a health check cannot take it for the page, and it is never cached.
//
// The pages talk to /graphql of the host that served them, found relative to
// their own address: the gateway also works behind a proxy that adds a prefix.
package web

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"time"
)

//go:embed all:dist home
var embedded embed.FS

// Info is what the pages tell about this gateway. All of it may be empty.
type Info struct {
	Version string
	// The brokers as a visitor's own command line reaches them, host:port.
	// Empty: the commands on the home page carry a word to replace.
	MQTTAddr, RedisAddr string
	// NoIDEs leaves out GraphiQL and Playground: they are 404 and not linked.
	NoIDEs bool
}

// Handler serves "/" and "/home/" (the home page and its files), "/graphiql/"
// and "/playground/"; without the slash at the end it redirects there. Anything
// else is 404, and methods other than GET and HEAD are 405. A WebSocket upgrade
// on "/" is the caller's to take first.
//
// With dir, the path of this package's folder, files are read from disk at each
// request instead of from the binary, so that a bundle shows as soon as it is built.
func Handler(dir string, info Info) http.Handler {
	if dir != "" {
		return newHandler(os.DirFS(dir), info)
	}
	return newHandler(embedded, info)
}

// What a page may load. 'self' in connect-src includes WebSockets to the same
// host and port. Both IDEs put style elements into the page while they run.
const (
	cspHome = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'" + cspAll
	cspIDE  = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"font-src 'self' data:; worker-src 'self'; connect-src 'self'" + cspAll
	cspAll = "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func newHandler(files fs.FS, info Info) http.Handler {
	pages := http.NewServeMux()
	pages.Handle("/{$}", withCSP(cspHome, page(files, "home/index.html", http.StatusOK, func(r *http.Request) any {
		return newHomeData(r, info)
	})))
	pages.Handle("/home/", withCSP(cspHome, http.StripPrefix("/home/", serveFiles(sub(files, "home"), nil))))
	if !info.NoIDEs {
		for name, title := range map[string]string{"graphiql": "GraphiQL", "playground": "GraphQL Playground"} {
			placeholder := page(files, "home/placeholder.html", http.StatusServiceUnavailable, func(*http.Request) any { return title })
			pages.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
				// Relative, so that a prefix of a proxy stays. http.Redirect would make it absolute.
				w.Header().Set("Location", (&url.URL{Path: name + "/", RawQuery: r.URL.RawQuery}).String())
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			pages.Handle("/"+name+"/", withCSP(cspIDE, http.StripPrefix("/"+name+"/", serveFiles(sub(files, "dist/"+name), placeholder))))
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "This page can only be read (GET, HEAD).", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		pages.ServeHTTP(w, r)
	})
}

func withCSP(policy string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		next.ServeHTTP(w, r)
	})
}

// sub cannot fail: every dir given to it is a constant and a valid path.
func sub(files fs.FS, dir string) fs.FS {
	s, err := fs.Sub(files, dir)
	if err != nil {
		panic(err)
	}
	return s
}

// serveFiles serves files by their name; hidden and HTML files are not found. With
// a placeholder they are the files of a bundle: its index.html is the root, which
// is answered by placeholder as long as there is none. Names under assets/ carry
// a hash of their content.
func serveFiles(files fs.FS, placeholder http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, root := r.URL.Path, r.URL.Path == "" && placeholder != nil
		if root {
			name = "index.html"
		}
		content, err := fs.ReadFile(files, name) // refuses "..", absolute and empty names
		switch {
		case root && errors.Is(err, fs.ErrNotExist):
			placeholder.ServeHTTP(w, r)
			return
		case err != nil || strings.HasPrefix(path.Base(name), ".") || (!root && path.Ext(name) == ".html"):
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, "There is no such page.", http.StatusNotFound)
			return
		}
		cache := "no-cache"
		if strings.HasPrefix(name, "assets/") {
			cache = "public, max-age=31536000, immutable"
		}
		w.Header().Set("Cache-Control", cache)
		w.Header().Set("Content-Type", contentType(name))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

// contentType does not depend on what the operating system believes about
// JavaScript: with nosniff a wrong type is a blank page.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json", ".map":
		return "application/json"
	case ".svg":
		return "image/svg+xml"
	case ".ttf":
		return "font/ttf"
	case ".woff2":
		return "font/woff2"
	case ".txt", ".md":
		return "text/plain; charset=utf-8"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

// page renders one template with the given status. The file is parsed at each
// request: it is small, and on disk it may have changed.
func page(files fs.FS, name string, status int, data func(*http.Request) any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		t, err := template.ParseFS(files, name)
		if err == nil {
			err = t.Execute(&b, data(r))
		}
		if err != nil {
			http.Error(w, "The page could not be made: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", contentType(name))
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "2")
		}
		w.WriteHeader(status)
		_, _ = w.Write(b.Bytes()) // the reader may be gone; nobody else wants to know
	})
}

type homeData struct {
	Info
	Origin               string // of this gateway, as the visitor typed it
	SocketOrigin         string // the same for WebSockets
	MQTTHost, MQTTPort   string
	RedisHost, RedisPort string
}

func newHomeData(r *http.Request, info Info) homeData {
	d := homeData{Info: info, Origin: "http://127.0.0.1:8080"}
	if plainHost.MatchString(r.Host) {
		d.Origin = "http://" + r.Host
		if r.TLS != nil {
			d.Origin = "https://" + r.Host
		}
	}
	d.SocketOrigin = "ws" + strings.TrimPrefix(d.Origin, "http")
	d.MQTTHost, d.MQTTPort = splitAddr(info.MQTTAddr, "YOUR_MQTT_HOST", "1883")
	d.RedisHost, d.RedisPort = splitAddr(info.RedisAddr, "YOUR_REDIS_HOST", "6379")
	return d
}

// plainHost keeps what is special to a shell out of a command that people copy.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.\-:\[\]]+$`)

func splitAddr(addr, host, port string) (string, string) {
	h, p, err := net.SplitHostPort(addr)
	if err != nil || !plainHost.MatchString(h) {
		return host, port
	}
	return h, p
}
