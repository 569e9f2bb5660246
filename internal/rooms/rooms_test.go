package rooms

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/presence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRooms(t *testing.T) *Rooms {
	t.Helper()
	log, members := eventlog.New(eventlog.NewMemory(eventlog.Retention{}, nil), eventlog.Config{}), presence.NewMemory()
	t.Cleanup(func() {
		log.Close()
		_ = members.Close()
	})
	return New(log, members)
}

func TestMessagesComeBackAsTheyWereSent(t *testing.T) {
	r := newRooms(t)
	for _, d := range []Draft{
		{Author: "ann", Content: "hello"},
		{Author: strings.Repeat("あ", MaxAuthor), Content: strings.Repeat("😀", MaxContent)},
		{Author: "a\x00b", Content: "\x00\n\u2028<script>"},
	} {
		d.Room = Create()
		sent, err := r.Send(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		kept, _, err := r.History(t.Context(), d.Room, "", 1)
		if err != nil || len(kept) != 1 || kept[0] != sent || sent.Author != d.Author || sent.Content != d.Content {
			t.Errorf("sent %+v, kept %+v, %v", d, kept, err)
		}
	}
}

func TestDraftsAreChecked(t *testing.T) {
	r := newRooms(t)
	ok := Draft{ID: "a-Z_0.9:", Room: Lobby, Author: "ann", Content: "hi"}
	with := func(change func(*Draft)) Draft {
		d := ok
		change(&d)
		return d
	}
	tests := []struct {
		name  string
		draft Draft
		code  string
	}{
		{"all is well", ok, ""},
		{"at the bounds", with(func(d *Draft) {
			d.ID, d.Author, d.Content = strings.Repeat("i", 64), strings.Repeat("a", MaxAuthor), strings.Repeat("c", MaxContent)
		}), ""},
		{"a long id", with(func(d *Draft) { d.ID = strings.Repeat("i", 65) }), "MESSAGE_INVALID"},
		{"an id with a space", with(func(d *Draft) { d.ID = "a b" }), "MESSAGE_INVALID"},
		{"a long author", with(func(d *Draft) { d.Author = strings.Repeat("a", MaxAuthor+1) }), "MESSAGE_INVALID"},
		{"no author", with(func(d *Draft) { d.Author = " " }), "MESSAGE_INVALID"},
		{"a long content", with(func(d *Draft) { d.Content = strings.Repeat("c", MaxContent+1) }), "MESSAGE_INVALID"},
		{"no content", with(func(d *Draft) { d.Content = "\n" }), "MESSAGE_INVALID"},
		{"a room by name", with(func(d *Draft) { d.Room = "cellar" }), "ROOM_INVALID"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := r.Send(context.Background(), test.draft)
			var told *live.Error
			if code := ""; errors.As(err, &told) {
				code = told.Code
				if code != test.code {
					t.Errorf("got %v, want %q", err, test.code)
				}
			} else if err != nil || test.code != "" {
				t.Errorf("got %v, want %q", err, test.code)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode("ann", "hello"))
	f.Add([]byte{format, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		author, content, err := decode(data)
		if err != nil {
			return
		}
		if a, c, err := decode(encode(author, content)); err != nil || a != author || c != content {
			t.Errorf("%q %q came back as %q %q, %v", author, content, a, c, err)
		}
	})
}
