package redislog

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// The wait between two attempts to connect grows from minBackoff to maxBackoff.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

// Watch implements eventlog.Store.
func (s *Store) Watch(grown func(topic string), all func()) {
	s.grown, s.all = grown, all
	s.work.Go(s.watch)
}

// watch listens for what is appended, connecting again and again.
func (s *Store) watch() {
	backoff := minBackoff
	for {
		began := time.Now()
		err := s.listen()
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		if s.away == nil {
			s.cfg.Logger.Warn("The event log's Redis is away", "error", err)
		}
		s.away = err
		s.mu.Unlock()
		if time.Since(began) > 2*maxBackoff { // it was there for a while
			backoff = minBackoff
		}
		select {
		case <-time.After(backoff):
		case <-s.ctx.Done():
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

var errSilent = errors.New("redislog: the server does not answer")

// listen makes a connection, hears what is published, and returns when the
// connection is lost. Once it stands, everything may have grown meanwhile.
func (s *Store) listen() error {
	pubsub := s.client.Subscribe(s.ctx)
	defer pubsub.Close()
	stop := context.AfterFunc(s.ctx, func() { _ = pubsub.Close() })
	defer stop()
	if err := pubsub.Subscribe(s.ctx, channel); err != nil {
		return err
	}
	if _, err := pubsub.ReceiveTimeout(s.ctx, callWithin); err != nil { // the confirmation
		return err
	}
	if _, err := s.look(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.away != nil {
		s.cfg.Logger.Info("The event log's Redis is back")
	}
	s.away = nil
	s.mu.Unlock()
	s.all()

	looked := time.Now()
	for asked := false; ; {
		wait := s.cfg.PingEvery
		if asked {
			wait = min(wait, callWithin)
		}
		message, err := pubsub.ReceiveTimeout(s.ctx, wait)
		var timeout net.Error
		switch {
		case err == nil:
			asked = false
			if m, ok := message.(*redis.Message); ok {
				s.grown(m.Payload)
			}
		case !errors.As(err, &timeout) || !timeout.Timeout():
			return err
		case asked:
			return errSilent
		default:
			asked = true
			if err := pubsub.Ping(s.ctx); err != nil {
				return err
			}
		}
		if time.Since(looked) >= s.cfg.PingEvery {
			looked = time.Now()
			changed, err := s.look()
			if err != nil {
				return err
			}
			if changed { // emptied under our eyes
				s.all()
			}
		}
	}
}

// look reads the identity.
func (s *Store) look() (changed bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, callWithin)
	defer cancel()
	_, changed, err = s.identify(ctx)
	return changed, err
}
