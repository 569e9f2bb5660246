package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Access says which pages may talk to the gateway and by which names it may be
// called. Browsers let any page open a WebSocket to any server, so the server
// has to look at who asks (Origin, against hijacking) and at what it was called
// (Host, against DNS rebinding).
type Access struct {
	loopback bool
	origins  map[string]bool
	hosts    map[string]bool
}

// NewAccess makes the rule. loopback: the gateway listens on this machine only,
// so every page of this machine is welcome, on whatever port. origins are exact,
// such as "https://app.example"; hosts are names without a port. An origin's
// host is a host, too.
func NewAccess(loopback bool, origins, hosts []string) (*Access, error) {
	a := &Access{loopback: loopback, origins: make(map[string]bool), hosts: make(map[string]bool)}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("origin %q is not of the form https://name or https://name:port, without a path", origin)
		}
		a.origins[strings.ToLower(origin)] = true
		a.hosts[strings.ToLower(u.Hostname())] = true
	}
	for _, host := range hosts {
		if host == "" || strings.ContainsAny(host, "/ @") || strings.Contains(host, "://") {
			return nil, fmt.Errorf("host %q is not a name or an address, without scheme and port", host)
		}
		a.hosts[strings.ToLower(strings.Trim(host, "[]"))] = true
	}
	return a, nil
}

// AllowOrigin reports whether the page that made the request may do so. A
// request without Origin is no page's.
func (a *Access) AllowOrigin(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	origin := strings.ToLower(values[0])
	if a.origins[origin] {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false // "null", file:, extensions
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	return a.loopback && isLoopbackName(u.Hostname())
}

// AllowHost reports whether the gateway may be called by the request's Host.
func (a *Access) AllowHost(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return isLoopbackName(host) || a.hosts[host]
}

func isLoopbackName(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// guardHost refuses to be called by other names, telling count the code.
func (a *Access) guardHost(next http.Handler, count func(code string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.AllowHost(r) {
			count("HOST_FORBIDDEN")
			refuse(w, http.StatusForbidden, "HOST_FORBIDDEN", fmt.Sprintf("This gateway does not answer to the name %q. Start it with --host to allow it.", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guard refuses what Access does not allow, telling count the code, and answers
// preflights.
func (a *Access) guard(next http.Handler, count func(code string)) http.Handler {
	return a.guardHost(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.AllowOrigin(r) {
			count("ORIGIN_FORBIDDEN")
			refuse(w, http.StatusForbidden, "ORIGIN_FORBIDDEN", fmt.Sprintf("Pages of %q may not use this gateway. Start it with --origin to allow them.", r.Header.Get("Origin")))
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			h := w.Header()
			h.Add("Vary", "Origin")
			h.Set("Access-Control-Allow-Origin", origin) // never with credentials
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				h.Set("Access-Control-Allow-Methods", "GET, POST")
				h.Set("Access-Control-Allow-Headers", "Content-Type, Accept, Authorization")
				h.Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	}), count)
}
