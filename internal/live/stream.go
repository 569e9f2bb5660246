package live

import "context"

// Feeder is put into the context by an engine that feeds resolvers' channels
// itself and so needs no goroutine per subscription. Stream calls Attach while
// the operation is dispatched; false means that the engine will not feed it.
type Feeder interface {
	Attach(Feed) bool
}

// Feed is the engine's end of one subscription: it moves one event at a time
// from the Sub into the channel that the resolver returned.
type Feed interface {
	// Pull takes the next event. Put or Skip must follow before the next Pull.
	Pull() (Item, State)
	// Put converts the event that Pull took and puts it into the channel, which
	// must be empty. On an error the channel was left alone.
	Put() error
	// Skip lets go of the event that Pull took.
	Skip()
	// Taken reports whether the channel is empty. After a response was asked
	// for, false means that the response did not come from the resolver.
	Taken() bool
	// Kept is the Sub's; nil when its source keeps nothing.
	Kept() Kept
	// Wake, Err and Close are the Sub's.
	Wake(func())
	Err() error
	Close()
}

// Item is what Pull says of an event.
type Item struct {
	Pos  Position
	Gap  *Gap
	Done func() // the Event's; may be nil
}

// State is what Pull found.
type State int

// What Pull can find.
const (
	Empty State = iota // nothing waits; Wake's function will be called
	Fed                // an event was taken
	Ended              // the stream is over; see Err
)

type feederKey struct{}

// WithFeeder returns a context in which Stream attaches to f.
func WithFeeder(ctx context.Context, f Feeder) context.Context {
	return context.WithValue(ctx, feederKey{}, f)
}

// Stream turns a Sub into the channel that a subscription resolver returns.
// Under a Feeder the engine feeds the channel and closes the Sub. Without one
// a goroutine does, until the Sub ends or ctx does; it then closes both. A
// channel cannot say why it ended or that an event failed: without a Feeder
// such an event is left out.
func Stream[S, T any](ctx context.Context, sub Sub[S], convert func(Event[S]) (T, error)) <-chan T {
	f := &feed[S, T]{sub: sub, convert: convert, out: make(chan T, 1)}
	if feeder, ok := ctx.Value(feederKey{}).(Feeder); !ok || !feeder.Attach(f) {
		go f.run(ctx)
	}
	return f.out
}

// Value is the conversion of a stream whose values are the results.
func Value[T any](ev Event[T]) (T, error) { return ev.Value, nil }

type feed[S, T any] struct {
	sub     Sub[S]
	convert func(Event[S]) (T, error)
	out     chan T
	one     [1]Event[S]
}

func (f *feed[S, T]) Pull() (Item, State) {
	n, open := f.sub.Next(f.one[:])
	if n == 0 {
		if open {
			return Item{}, Empty
		}
		return Item{}, Ended
	}
	ev := &f.one[0]
	return Item{Pos: ev.Pos, Gap: ev.Gap, Done: ev.Done}, Fed
}

func (f *feed[S, T]) Put() error {
	value, err := f.convert(f.one[0])
	f.Skip()
	if err == nil {
		f.out <- value
	}
	return err
}

func (f *feed[S, T]) Skip() { f.one[0] = Event[S]{} }

func (f *feed[S, T]) Kept() Kept {
	kept, _ := f.sub.(Kept)
	return kept
}

func (f *feed[S, T]) Taken() bool      { return len(f.out) == 0 }
func (f *feed[S, T]) Wake(wake func()) { f.sub.Wake(wake) }
func (f *feed[S, T]) Err() error       { return f.sub.Err() }
func (f *feed[S, T]) Close()           { f.sub.Close() }

// run feeds the channel for a caller that is no engine.
func (f *feed[S, T]) run(ctx context.Context) {
	defer close(f.out)
	defer f.sub.Close()
	news := make(chan struct{}, 1)
	f.sub.Wake(func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	for {
		n, open := f.sub.Next(f.one[:])
		if n == 0 && !open {
			return
		}
		if n == 0 {
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
			continue
		}
		f.send(ctx, f.one[0])
		if ctx.Err() != nil {
			return
		}
	}
}

func (f *feed[S, T]) send(ctx context.Context, ev Event[S]) {
	if ev.Done != nil {
		defer ev.Done()
	}
	value, err := f.convert(ev)
	if err != nil {
		return
	}
	select {
	case f.out <- value:
	case <-ctx.Done():
	}
}
