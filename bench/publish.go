//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"strconv"
	"time"
)

// publisher sends messages to a broker, many in one write, over a connection of
// its own: PUBLISH commands of Redis, or PUBLISH packets of MQTT 3.1.1 at QoS 0.
// Written by hand it costs the load's core as little as can be.
type publisher struct {
	conn     net.Conn
	mqtt     bool
	channels []string
	last     []int // sequence number of each channel
	size     int   // of a payload
	buf      []byte
	payload  []byte
	gone     chan struct{} // closed when the broker hangs up
}

func newPublisher(addr string, mqtt bool, channels []string, size int) (*publisher, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if mqtt {
		// Protocol MQTT, level 4, clean session, no keep-alive, an id of the broker's choice.
		if _, err := conn.Write([]byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")); err != nil {
			conn.Close()
			return nil, err
		}
	}
	p := &publisher{conn: conn, mqtt: mqtt, channels: channels, last: make([]int, len(channels)), size: size, gone: make(chan struct{})}
	go func() { // read the replies, so that the broker does not stop
		defer close(p.gone)
		_, _ = bufio.NewReader(conn).WriteTo(discard{})
	}()
	return p, nil
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// add queues the next message of a channel.
func (p *publisher) add(channel int) {
	p.last[channel]++
	p.append(channel, p.last[channel])
}

// lastOf is the sequence number of a channel's last message.
func (p *publisher) lastOf(channel int) int { return p.last[channel] }

func (p *publisher) append(channel, seq int) {
	p.payload = appendPayload(p.payload[:0], seq, p.size)
	name := p.channels[channel]
	if p.mqtt {
		p.buf = append(p.buf, 0x30)
		p.buf = binary.AppendUvarint(p.buf, uint64(2+len(name)+len(p.payload))) // as MQTT writes it, too
		p.buf = binary.BigEndian.AppendUint16(p.buf, uint16(len(name)))
		p.buf = append(append(p.buf, name...), p.payload...)
		return
	}
	p.buf = append(p.buf, "*3\r\n$7\r\nPUBLISH\r\n$"...)
	p.buf = append(strconv.AppendInt(p.buf, int64(len(name)), 10), "\r\n"...)
	p.buf = append(append(p.buf, name...), "\r\n$"...)
	p.buf = append(strconv.AppendInt(p.buf, int64(len(p.payload)), 10), "\r\n"...)
	p.buf = append(append(p.buf, p.payload...), "\r\n"...)
}

// send writes what is queued.
func (p *publisher) send() error {
	_, err := p.conn.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

func (p *publisher) close() {
	_ = p.conn.Close()
	<-p.gone
}

// warmUp repeats a message on every channel until each client has seen one: only
// then is its subscription known to be open.
func (p *publisher) warmUp(ctx context.Context, f *fleet) error {
	return until(ctx, 30*time.Second, "every client's first message", func() (bool, error) {
		if f.count(&f.warmed) == len(f.clients) {
			return true, nil
		}
		if err := f.ended(); err != nil {
			return false, err
		}
		for channel := range p.channels {
			p.append(channel, 0)
		}
		err := p.send()
		time.Sleep(50 * time.Millisecond)
		return false, err
	})
}
