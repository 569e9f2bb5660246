package server

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// TestProtocolPage plays every conversation in docs/protocol.md.
func TestProtocolPage(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	transcripts := regexp.MustCompile("(?s)```transcript ([a-z-]+)\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(transcripts) == 0 {
		t.Fatal("no transcripts")
	}
	for _, transcript := range transcripts {
		lines := strings.Split(strings.TrimSpace(transcript[2]), "\n")
		t.Run(lines[min(2, len(lines)-1)], func(t *testing.T) { play(t, transcript[1], lines) })
	}
}

func play(t *testing.T, token string, lines []string) {
	g := start(t)
	d := websocket.Dialer{Subprotocols: []string{token}}
	ws, resp, err := d.Dial(strings.Replace(g.url, "http", "ws", 1)+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	defer ws.Close()
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	s := &socket{t, ws}
	for _, line := range lines {
		verb, text, _ := strings.Cut(line, " ")
		switch verb {
		case ">":
			s.send(text)
		case "<":
			if got := s.read(); !alike(text, got) {
				t.Fatalf("\n got %s\nwant %s", got, text)
			}
		case "*":
			g.happen(t, text)
		case "x":
			_, _, err := ws.ReadMessage()
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || fmt.Sprintf("%d %s", closed.Code, closed.Text) != text {
				t.Fatalf("ended with %v, want %s", err, text)
			}
		default:
			t.Fatalf("what is %q?", line)
		}
	}
}

// alike compares with … standing for anything.
func alike(want, got string) bool {
	parts := strings.Split(want, "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got)
}

var delivery = regexp.MustCompile(`^the broker delivers "(.*)" to (.*)$`)

// happen does what a line with * says, on the in-memory broker.
func (g *gateway) happen(t *testing.T, what string) {
	t.Helper()
	if m := delivery.FindStringSubmatch(what); m != nil {
		until(t, g.mqtt, m[2])
		if _, err := g.mqtt.Publish(t.Context(), bridges.Publication{Topic: m[2], Payload: []byte(m[1])}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if what != "the broker is away for a while" {
		t.Fatalf("the test does not know how to let this happen: %s", what)
	}
	g.mqtt.Mark(live.Gap{Reason: live.GapOutage, LastGood: time.Now()})
}
