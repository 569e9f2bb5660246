package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"golang.org/x/text/language"
	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/graph"
	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/labs/sessions"
)

// clients knows each client by its address: how many streams it holds open and
// how fast it publishes.
type clients struct {
	proxies    []netip.Prefix // whose X-Forwarded-For is believed
	total      int            // streams of all clients
	perAddress int            // streams of one; loopback is exempt
	rate       rate.Limit     // mutations per second of one
	burst      int

	mu       sync.Mutex
	open     int
	streams  map[netip.Addr]int
	limiters *lru.LRU[*rate.Limiter] // by address; the least recently used are forgotten
}

func newClients(l Limits, proxies []netip.Prefix) *clients {
	return &clients{
		proxies: proxies, total: l.Connections, perAddress: l.ConnectionsPerAddress,
		rate: rate.Limit(l.PublishPerSecond), burst: l.PublishBurst,
		streams: make(map[netip.Addr]int), limiters: lru.New[*rate.Limiter](10_000),
	}
}

// identify puts into the context of a request who made it, unless that is known:
// a lab session plays requests for a client, from this machine.
func (c *clients) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if graph.ClientOf(r.Context()).Address.IsValid() {
			next.ServeHTTP(w, r)
			return
		}
		client := graph.Client{Address: c.address(r), Base: "ws://" + r.Host, Locale: localeOf(r)}
		if r.TLS != nil || c.trusted(parseAddress(r.RemoteAddr)) && r.Header.Get("X-Forwarded-Proto") == "https" {
			client.Base = "wss://" + r.Host
		}
		next.ServeHTTP(w, r.WithContext(graph.WithClient(r.Context(), client)))
	})
}

var (
	languages = language.NewMatcher([]language.Tag{language.English, language.Japanese})
	locales   = []model.Locale{model.LocaleEn, model.LocaleJa}
)

// localeOf is the one of the course's languages that a request likes best.
func localeOf(r *http.Request) model.Locale {
	wanted, _, _ := language.ParseAcceptLanguage(r.Header.Get("Accept-Language")) // what is none is no wish
	_, index, _ := languages.Match(wanted...)
	return locales[index]
}

// onlyClient returns a context with nothing of a request but who made it, and
// through which lab session, with which it ends.
func onlyClient(r *http.Request) context.Context {
	ctx := context.Background()
	if lab := sessions.From(r.Context()); lab != nil {
		ctx = sessions.With(lab.Context(), lab)
	}
	ctx = bridges.WithLab(ctx, bridges.LabOf(r.Context()))
	return graph.WithClient(ctx, graph.ClientOf(r.Context()))
}

// inLab tells the rules of topics which lab session a request came through.
func inLab(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lab := sessions.From(r.Context()); lab != nil {
			r = r.WithContext(bridges.WithLab(r.Context(), lab.Name))
		}
		next.ServeHTTP(w, r)
	})
}

// ofLab returns the public name of a client's lab session, empty without one, and
// a context with nothing else. What clients may read depends on no more, so those
// of one session may share executions.
func ofLab(ctx context.Context) (string, context.Context) {
	lab := bridges.LabOf(ctx)
	return lab, bridges.WithLab(context.Background(), lab)
}

// address is the peer's, or behind trusted proxies the last one in
// X-Forwarded-For that is not a trusted proxy's: what stands before it, the
// client may have written itself. Of IPv6 it is the network, see network.
func (c *clients) address(r *http.Request) netip.Addr {
	peer := parseAddress(r.RemoteAddr)
	if !c.trusted(peer) {
		return network(peer)
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr := parseAddress(strings.TrimSpace(hop))
		if !addr.IsValid() {
			break
		}
		if peer = addr; !c.trusted(addr) {
			break
		}
	}
	return network(peer)
}

// network is what a public IPv6 address is counted by: its first 64 bits, since
// whoever has one address has all of its network (RFC 6177, section 2). Other
// addresses stand for themselves.
func network(addr netip.Addr) netip.Addr {
	if !addr.Is6() || !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return addr
	}
	return netip.PrefixFrom(addr.WithZone(""), 64).Masked().Addr()
}

func (c *clients) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(c.proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func parseAddress(s string) netip.Addr {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// admit takes a place for a stream (a WebSocket or an SSE response), or says
// which limit stands against it. release gives it back and may be called once.
func (c *clients) admit(r *http.Request) (release func(), refusal string) {
	addr := graph.ClientOf(r.Context()).Address
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open >= c.total:
		return nil, fmt.Sprintf("The gateway has %d open connections, which is the most it may have: try again later.", c.open)
	case !addr.IsLoopback() && c.streams[addr] >= c.perAddress:
		return nil, fmt.Sprintf("Your address has %d open connections, which is the most it may have: close some, or try again later.", c.streams[addr])
	}
	c.open++
	c.streams[addr]++
	return func() { c.leave(addr) }, ""
}

func (c *clients) leave(addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.streams[addr]--; c.streams[addr] == 0 {
		delete(c.streams, addr)
	}
}

// mayPublish takes n tokens of the client's.
func (c *clients) mayPublish(ctx context.Context, n int) bool {
	addr := graph.ClientOf(ctx).Address
	c.mu.Lock()
	defer c.mu.Unlock()
	limiter, ok := c.limiters.Get(ctx, addr.String())
	if !ok {
		limiter = rate.NewLimiter(c.rate, c.burst)
		c.limiters.Add(ctx, addr.String(), limiter)
	}
	return limiter.AllowN(time.Now(), n)
}

// publishing is the gqlgen extension that holds clients to their rate of
// mutations. Each root field counts, and a message to a room twice.
type publishing struct{ *clients }

var (
	_ graphql.HandlerExtension        = publishing{}
	_ graphql.OperationContextMutator = publishing{}
)

// ExtensionName implements graphql.HandlerExtension.
func (publishing) ExtensionName() string { return "PublishRate" }

// Validate implements graphql.HandlerExtension.
func (publishing) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationContext implements graphql.OperationContextMutator.
func (p publishing) MutateOperationContext(ctx context.Context, opCtx *graphql.OperationContext) *gqlerror.Error {
	if opCtx.Operation.Operation != ast.Mutation {
		return nil
	}
	fields := graphql.CollectFields(opCtx, opCtx.Operation.SelectionSet, []string{"Mutation"})
	n := len(fields)
	for _, field := range fields {
		if field.Name == "sendMessage" { // people read what is in a room, so it counts twice
			n++
		}
	}
	switch {
	case n > p.burst:
		return coded("RATE_LIMITED", "The mutation has %d fields, more than the burst of %d that may come at once: send them one after the other.", n, p.burst)
	case !p.mayPublish(ctx, n):
		return coded("RATE_LIMITED", "You publish faster than %g times a second: wait a moment.", float64(p.rate))
	}
	return nil
}
