package server

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/rooms"
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

// player plays one conversation.
type player struct {
	*socket
	gateway *gateway
	token   string
	differs string // what the last … stood for
}

func play(t *testing.T, token string, lines []string) {
	p := &player{&socket{t, nil}, start(t), token, ""}
	p.connect()
	defer func() { p.Conn.Close() }()
	for _, line := range lines {
		verb, text, _ := strings.Cut(line, " ")
		switch verb {
		case ">":
			p.send(strings.ReplaceAll(text, "…", p.differs))
		case "<":
			p.hear(text)
		case "*":
			p.happen(text)
		case "x":
			_, _, err := p.ReadMessage()
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || fmt.Sprintf("%d %s", closed.Code, closed.Text) != text {
				t.Fatalf("ended with %v, want %s", err, text)
			}
		default:
			t.Fatalf("what is %q?", line)
		}
	}
}

func (p *player) connect() {
	p.Helper()
	d := websocket.Dialer{Subprotocols: []string{p.token}}
	ws, resp, err := d.Dial(strings.Replace(p.gateway.url, "http", "ws", 1)+"/graphql", nil)
	if err != nil {
		p.Fatal(err)
	}
	resp.Body.Close()
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	p.Conn = ws
}

// hear compares what comes, with … standing for anything.
func (p *player) hear(want string) {
	p.Helper()
	parts := strings.Split(want, "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	got := p.read()
	found := regexp.MustCompile("^" + strings.Join(parts, "(.*)") + "$").FindStringSubmatch(got)
	if found == nil {
		p.Fatalf("\n got %s\nwant %s", got, want)
	}
	if len(found) > 1 {
		p.differs = found[len(found)-1]
	}
}

var (
	delivery = regexp.MustCompile(`^the broker delivers "(.*)" to (.*)$`)
	sending  = regexp.MustCompile(`^"(.*)" is sent to the lobby$`)
)

// happen does what a line with * says, on the in-memory broker and log.
func (p *player) happen(what string) {
	p.Helper()
	g := p.gateway
	if m := delivery.FindStringSubmatch(what); m != nil {
		until(p.T, g.mqtt, m[2])
		if _, err := g.mqtt.Publish(p.Context(), bridges.Publication{Topic: m[2], Payload: []byte(m[1])}); err != nil {
			p.Fatal(err)
		}
		return
	}
	if m := sending.FindStringSubmatch(what); m != nil {
		p.tell(m[1])
		return
	}
	switch what {
	case "the broker is away for a while":
		g.mqtt.Mark(live.Gap{Reason: live.GapOutage, LastGood: time.Now()})
	case "the connection is lost":
		p.Conn.Close()
	case "the client connects again":
		p.connect()
	case "1 to 1001 are sent to the lobby, which keeps 1000":
		for i := range 1001 {
			p.tell(strconv.Itoa(i + 1))
		}
	default:
		p.Fatalf("the test does not know how to let this happen: %s", what)
	}
}

func (p *player) tell(content string) {
	p.Helper()
	if _, err := p.gateway.rooms.Send(p.Context(), rooms.Draft{Room: "lobby", Author: "test", Content: content}); err != nil {
		p.Fatal(err)
	}
}
