package graph

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs/sessions"
	"github.com/sluice-gateway/sluice/lessons"
)

// Client is where a request came from. An execution that many share has none.
type Client struct {
	Address netip.Addr // the zero value: not known
	Base    string     // how it reached the gateway, such as ws://localhost:8080
	Locale  model.Locale
}

type clientKey struct{}

// WithClient returns a context with the client in it.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientOf returns the client; the zero value: there is none.
func ClientOf(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	c.Locale = cmp.Or(c.Locale, model.LocaleEn)
	return c
}

// LabTopic is the topic of the cursors of a lab session's wire events.
func LabTopic(id string) string { return "lab/" + id }

// labSession is a session as this client is told of it.
func (r *Resolver) labSession(ctx context.Context, one *sessions.Session, err error) (model.LabSession, error) {
	if err != nil {
		return model.LabSession{}, err
	}
	client, own := ClientOf(ctx), ""
	if lesson := r.Classroom.Course().Lesson(one.Lesson); lesson != nil {
		own = strings.TrimPrefix(lesson.Demo.Path, "/")
	}
	return model.LabSession{
		Session: one, Base: client.Base, Own: own, Locale: client.Locale, Seal: r.sealWire(one.ID),
		Verdicts: func() []lessons.Verdict { list, _ := r.Classroom.Verdicts(one.ID); return list },
	}, nil
}

// sealWire makes the cursors of a session's wire events.
func (r *Resolver) sealWire(id string) func(number uint64) string {
	return func(number uint64) string { return r.Cursors.Seal(LabTopic(id), live.Position{Lo: number}) }
}

// watch opens the stream of a session's wire events behind a cursor, if it is
// not empty. Over a connection that is itself watched each event would make
// another, for ever.
func (r *Resolver) watch(ctx context.Context, id, cursor string) (live.Sub[wire.Event], error) {
	if bridges.LabOf(ctx) != "" {
		return nil, live.Errorf("LAB_WATCHED", "A lab session's own connections are watched, so wireEvents would tell of itself here without end: subscribe at the gateway's /graphql.")
	}
	if cursor == "" {
		return r.Labs.Watch(ctx, id, nil)
	}
	if _, err := r.Labs.Find(id); err != nil {
		return nil, err
	}
	after, err := r.Cursors.Open(ctx, LabTopic(id), cursor)
	if err != nil {
		return nil, err
	}
	return r.Labs.Watch(ctx, id, &after)
}

// wireEvent makes what a subscriber of that session is told.
func (r *Resolver) wireEvent(id string) func(live.Event[wire.Event]) (model.WireEvent, error) {
	seal := r.sealWire(id)
	return func(ev live.Event[wire.Event]) (model.WireEvent, error) {
		return model.NewWireEvent(ev.Value, seal), nil
	}
}

// play has a session play to its own servers.
func (r *Resolver) play(ctx context.Context, session string, waitMs int, p sessions.Play) (model.RawAnswer, error) {
	one, err := r.Labs.Find(session)
	if err != nil {
		return model.RawAnswer{}, err
	}
	if p.Wait, err = checkPause("waitMs", waitMs); err != nil {
		return model.RawAnswer{}, err
	}
	p.As = func(played context.Context) context.Context { return WithClient(played, ClientOf(ctx)) }
	played, err := one.Run(ctx, p)
	if err != nil {
		return model.RawAnswer{}, err
	}
	answer := model.RawAnswer{Answer: model.WireBytes{Bytes: played.Answer}, Closed: played.Closed}
	if played.Status != 0 {
		answer.Status = &played.Status
	}
	return answer, nil
}

// rawFrames makes the steps of frames to play.
func rawFrames(frames []model.RawFrameInput) ([]sessions.Step, error) {
	steps := make([]sessions.Step, len(frames))
	for i, in := range frames {
		var random [4]byte
		_, _ = rand.Read(random[:]) // it never fails
		var err error
		if steps[i].Bytes, err = model.RawFrame(in, random); err != nil {
			return nil, err
		}
		if steps[i].Pause, err = checkPause("pauseMs", in.PauseMs); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

func checkPause(name string, ms int) (time.Duration, error) {
	return time.Duration(ms) * time.Millisecond, checkRange(name, ms, 0, int(sessions.MaxWait.Milliseconds()))
}
