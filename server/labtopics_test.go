package server

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bridges"
)

// inLab is the gateway as a client in a lab session reaches it.
func (g *gateway) inLab(t *testing.T, publicName string) *gateway {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.ServeHTTP(w, r.WithContext(bridges.WithLab(r.Context(), publicName)))
	}))
	t.Cleanup(func() {
		_ = g.stop() // ends the sockets, for which srv would wait
		srv.Close()
	})
	lab := *g
	lab.url = srv.URL
	return &lab
}

// TestLabsTopicsAreTheirOwn asks for the same document as clients of two sessions
// and as one of none, also while an execution of it runs that is shared.
func TestLabsTopicsAreTheirOwn(t *testing.T) {
	g := start(t)
	a, b := g.inLab(t, "a"), g.inLab(t, "b")
	for _, test := range []struct {
		broker             *bridges.Memory
		topic              string
		subscribe, publish string
	}{
		{g.mqtt, "lab/a/x", `mqttMessages(topic: "lab/a/x")`, `publishMQTT(input: {topic: "lab/a/x", payload: "own"})`},
		{g.redis, "lab:a:x", `redisMessages(channel: "lab:a:x")`, `publishRedis(input: {channel: "lab:a:x", payload: "own"})`},
	} {
		t.Run(test.topic, func(t *testing.T) {
			document := "subscription { " + test.subscribe + " { payload } }"
			publish := "mutation { " + test.publish + " { acknowledgedAt } }"
			refused := func() {
				t.Helper()
				for _, other := range []*gateway{g, b} {
					s := other.socket(t)
					s.subscribe("1", document)
					if got := s.read(); !strings.Contains(got, "TOPIC_FORBIDDEN") {
						t.Errorf("another's client got %s", got)
					}
					if got := other.listenByPOST(t, document).event(); !strings.Contains(got, "TOPIC_FORBIDDEN") {
						t.Errorf("another's client got %q by server-sent events", got)
					}
					if got := other.query(t, publish, nil); !strings.Contains(got, "TOPIC_FORBIDDEN") {
						t.Errorf("another's client published: %s", got)
					}
				}
			}
			refused()
			first, second := a.socket(t), a.socket(t)
			first.subscribe("1", document)
			until(t, test.broker, test.topic)
			refused()
			withReady := `{"query":` + strconv.Quote(document) + `,"extensions":{"sluice":{"ready":true}}}`
			second.send(`{"id":"1","type":"subscribe","payload":` + withReady + `}`)
			second.read()
			stream := listen(t, http.DefaultClient, http.MethodPost, a.url+"/graphql", withReady)
			if got := stream.event(); !strings.Contains(got, `"ready":true`) {
				t.Fatalf("the stream began with %s", got)
			}
			if answer := a.query(t, publish, nil); !strings.Contains(answer, "acknowledgedAt") {
				t.Fatalf("the session's own client could not publish: %s", answer)
			}
			if got := stream.event(); !strings.Contains(got, `"payload":"own"`) {
				t.Errorf("the session's own client got %s by server-sent events", got)
			}
			for _, s := range []*socket{first, second} {
				if got := s.read(); !strings.Contains(got, `"payload":"own"`) {
					t.Errorf("the session's own client got %s", got)
				}
			}
		})
	}
}
