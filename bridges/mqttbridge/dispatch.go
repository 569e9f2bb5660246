package mqttbridge

import (
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/internal/live"
)

// receive is paho's handler. It never blocks.
func (b *Bridge) receive(c *connection, m paho.Message) {
	lost := b.inbox.put(item{
		acks: c.acks,
		ack:  m.Ack,
		message: &bridges.Message{
			Topic:      m.Topic(),
			Payload:    m.Payload(),
			QoS:        bridges.QoS(m.Qos()),
			Retained:   m.Retained(),
			ReceivedAt: time.Now(),
		},
	})
	for _, m := range lost {
		b.countLost(m)
	}
}

// countLost counts a message for those who miss it. They are told with the next
// one that is dispatched to them: what is dispatched now came before.
func (b *Bridge) countLost(m *bridges.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for f := range b.filters.matching(m.Topic) {
		subs := f.subs
		if m.Retained {
			subs = f.newcomers
		}
		for _, s := range subs {
			s.lost++
		}
	}
}

// dispatch delivers what the inbox holds, in order.
func (b *Bridge) dispatch() {
	var to []*subscription // used again and again
	for {
		it, ok := b.inbox.take(b.ctx)
		if !ok {
			return
		}
		if it.outage != nil {
			b.tellOutage(it.outage)
			continue
		}
		to = b.route(to[:0], it.message)
		ev := live.Event[*bridges.Message]{Value: it.message}
		if it.message.QoS > bridges.AtMostOnce {
			ev.Done = live.ShareDone(it.acks.expect(it.ack), len(to))
		}
		for _, s := range to {
			s.queue.Push(ev, it.message.Size())
		}
		clear(to)
	}
}

// route appends those who get the message.
func (b *Bridge) route(to []*subscription, m *bridges.Message) []*subscription {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrived++
	for f := range b.filters.matching(m.Topic) {
		if m.Retained {
			to = f.takeRetained(to, m, b.arrived)
		} else {
			to = append(to, f.subs...)
			f.saw(m, b.arrived)
		}
	}
	for _, s := range to {
		if s.lost > 0 {
			s.queue.Mark(live.Gap{Reason: live.GapOverflow, Missed: s.lost})
			s.lost = 0
		}
	}
	return to
}

// tellOutage makes the next message of everyone who was there before the
// connection carry a gap.
func (b *Bridge) tellOutage(o *outage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for f := range b.filters.all() {
		for _, s := range f.subs {
			if s.id <= o.joined {
				s.queue.Mark(live.Gap{Reason: live.GapOutage, LastGood: later(o.lastGood, s.since)})
			}
		}
	}
}
