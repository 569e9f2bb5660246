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
	// Pull takes the next event, converts it and puts it into the channel,
	// which must be empty. Unless State is Fed, the channel was left alone.
	Pull() (Item, State)
	// Taken reports whether the channel is empty. After a response was asked
	// for, false means that the response did not come from the resolver.
	Taken() bool
	// Wake, Err and Close are the Sub's.
	Wake(func())
	Err() error
	Close()
}

// Item is what Pull says of an event.
type Item struct {
	Pos Position
	Gap *Gap
	Err error // the event could not be converted; the stream goes on
}

// State is what Pull found.
type State int

// What Pull can find.
const (
	Empty State = iota // nothing waits; Wake's function will be called
	Fed                // an event is in the channel, or Item.Err is set
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
	ev := f.one[0]
	f.one[0] = Event[S]{}
	item := Item{Pos: ev.Pos, Gap: ev.Gap}
	value, err := f.convert(ev)
	if err != nil {
		item.Err = err
		return item, Fed
	}
	f.out <- value
	return item, Fed
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
		value, err := f.convert(f.one[0])
		if err != nil {
			continue
		}
		select {
		case f.out <- value:
		case <-ctx.Done():
			return
		}
	}
}
