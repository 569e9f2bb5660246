package load

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/labs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a load server and returns its URL.
func start(t *testing.T, cfg Config) (*Server, string) {
	t.Helper()
	s := New(cfg)
	return s, listen(t, s, s.Shutdown)
}

// listen serves a handler until the test ends.
func listen(t *testing.T, h http.Handler, shutdown func(context.Context) error) string {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := shutdown(ctx); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

// faulty serves a server with faults: what becomes of each message of a client.
func faulty(t *testing.T, o labs.Options, play func(*labs.Socket) error) string {
	t.Helper()
	door := labs.NewDoor(labs.DoorConfig{})
	return listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { door.Serve(w, r, o, play) }), door.Shutdown)
}

// quick completes a plan for a test.
func quick(p Plan) Plan {
	if p.Connections == 0 {
		p.Connections = 10
	}
	if p.Hold == 0 {
		p.Hold = time.Second
	}
	p.Ramp, p.WarmUp = 100*time.Millisecond, 100*time.Millisecond
	return p
}

// play runs a plan that has to work.
func play(t *testing.T, plan Plan) Result {
	t.Helper()
	result, err := Run(t.Context(), quick(plan), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := json.MarshalIndent(result, "", "  ")
			t.Logf("%s", text)
		}
	})
	return result
}
