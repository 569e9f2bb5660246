package mqttbridge

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

const (
	firstRetry = 250 * time.Millisecond // doubled with each failure
	lastRetry  = 2 * time.Second
	batch      = 256 // filters in one SUBSCRIBE or UNSUBSCRIBE
)

// run connects, serves the connection until it is lost, and begins again.
func (b *Bridge) run() {
	retry, failed := firstRetry, false
	for b.ctx.Err() == nil {
		c, err := b.connect()
		if err == nil {
			failed = false
			began := time.Now()
			b.serve(c)
			if time.Since(began) > lastRetry { // else: thrown out at once, again and again
				retry = firstRetry
			}
		} else if !failed && b.ctx.Err() == nil {
			failed = true // one line for each outage
			b.log.Warn("mqtt broker cannot be reached, trying on", "error", err)
		}
		b.settleOnce()
		sleep(b.ctx, retry)
		retry = min(2*retry, lastRetry)
	}
}

// settleOnce ends the wait of those who came before the first attempt.
func (b *Bridge) settleOnce() {
	select {
	case <-b.settled:
	default:
		close(b.settled)
	}
}

// serve sends what is to be sent until the connection is lost, the broker no
// longer answers, or the bridge is closed.
func (b *Bridge) serve(c *connection) {
	b.up(c)
	b.settleOnce()
	ctx, cancel := context.WithCancel(b.ctx)
	b.work.Go(func() { c.acks.run(ctx) })
	err := b.exchange(c)
	b.down(c)
	c.close()
	cancel()
	if b.ctx.Err() == nil {
		b.log.Warn("mqtt broker lost, connecting again", "error", err)
	}
}

func (b *Bridge) exchange(c *connection) error {
	for {
		gone := b.takeLeaving()
		if len(gone) > 0 {
			if err := b.unsubscribe(c, gone); err != nil {
				return err
			}
			continue
		}
		due, wait := b.takeDue(time.Now())
		if len(due) > 0 {
			if err := b.subscribe(c, due); err != nil {
				return err
			}
			continue
		}
		if err := b.idle(c, wait); err != nil {
			return err
		}
	}
}

// idle waits until there may be something to send. No wait: until kicked.
func (b *Bridge) idle(c *connection, wait time.Duration) error {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-b.kick:
	case <-c.lost:
		return errLost
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	return nil
}

// up makes the connection the bridge's, has every filter subscribed, and puts
// the outage in front of whatever the connection will bring.
func (b *Bridge) up(c *connection) {
	b.log.Info("mqtt broker connected")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = c
	b.setState(bridges.Connected)
	b.inbox.put(item{outage: &outage{lastGood: b.lastGood, joined: b.joined}})
	for f := range b.filters.all() {
		if len(f.subs) > 0 && f.losses < maxLosses {
			b.schedule(f, 0)
		}
	}
}

// down releases everyone who waits for an answer: their subscriptions stand
// and will be served by the next connection.
func (b *Bridge) down(c *connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = nil
	b.setState(bridges.Connecting)
	b.lastGood = c.lastHeard()
	for f := range b.filters.all() {
		f.granted, f.sent = false, false
		f.next.release(nil)
		f.next = nil
	}
	b.due = nil
	for _, l := range b.leaving {
		close(l.done)
	}
	b.leaving = nil
}

// subscribe sends one SUBSCRIBE and tells the answer to those who wait for it.
// An error means that the connection is of no use any more.
func (b *Bridge) subscribe(c *connection, asked []asking) error {
	want := make(map[string]byte, len(asked))
	for _, a := range asked {
		want[a.filter.name] = byte(a.qos)
	}
	ctx, cancel := context.WithTimeout(b.ctx, answerTimeout)
	defer cancel()
	token := c.client.SubscribeMultiple(want, nil)
	if err := c.wait(ctx, token); err != nil {
		for _, a := range asked {
			b.unanswered(a)
		}
		return err
	}
	codes := token.(interface{ Result() map[string]byte }).Result()
	for _, a := range asked {
		if codes[a.filter.name] == refused {
			b.refuse(a)
		} else {
			b.grant(a)
		}
	}
	return nil
}

func (b *Bridge) grant(a asking) {
	b.mu.Lock()
	a.filter.granted, a.filter.losses = true, 0
	a.filter.startWaiting(time.Now().Add(retainedWait))
	b.mu.Unlock()
	a.answer.release(nil)
}

// unanswered leaves a filter to the next connection. Some brokers refuse a
// filter by closing the connection; such a filter would keep all others from
// ever being served, so it does not get many chances.
func (b *Bridge) unanswered(a asking) {
	b.mu.Lock()
	if b.ctx.Err() == nil {
		a.filter.losses++
	}
	refused := a.filter.losses >= maxLosses
	b.mu.Unlock()
	if refused {
		b.refuse(a)
	} else {
		a.answer.release(nil) // the subscription stands
	}
}

func errRefused(filter string) error {
	return live.Errorf(bridges.CodeTopicRefused, "The MQTT broker refused the topic filter %q.", filter)
}

// refuse ends every subscription of a filter.
func (b *Bridge) refuse(a asking) {
	err := errRefused(a.filter.name)
	b.log.Warn("mqtt broker refused a filter", "filter", a.filter.name)
	b.mu.Lock()
	a.filter.granted = false
	b.mu.Unlock()
	b.hub.End(a.filter.name, err)
	a.answer.release(err)
}

func (b *Bridge) unsubscribe(c *connection, gone []leaving) error {
	defer func() {
		for _, l := range gone {
			close(l.done)
		}
	}()
	names := make([]string, len(gone))
	for i, l := range gone {
		names[i] = l.name
	}
	ctx, cancel := context.WithTimeout(b.ctx, answerTimeout)
	defer cancel()
	return c.wait(ctx, c.client.Unsubscribe(names...))
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
