package mqttbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sluice-gateway/sluice/bridges"
)

const (
	connectTimeout = 5 * time.Second  // for the network and the broker's CONNACK together
	answerTimeout  = 10 * time.Second // for a SUBACK or UNSUBACK
	writeTimeout   = 5 * time.Second  // for one packet
	keepAlive      = 10 * time.Second
	pingTimeout    = 5 * time.Second
	goodbye        = time.Second // for a clean DISCONNECT
)

// refused is the return code of a SUBACK for a filter that the broker does not
// grant. paho does not make it an error (MQTT 3.1.1, section 3.9.3).
const refused = 0x80

var (
	errLost     = errors.New("connection lost")
	errNoAnswer = errors.New("broker does not answer")
)

// connection is one network connection, with a paho client of its own.
type connection struct {
	client paho.Client
	lost   chan struct{} // closed by paho when the connection is gone
	acks   *acks
	heard  atomic.Int64 // when the broker was last heard of, Unix nanoseconds

	stopAbort func() bool // ends the watch over the handshake
}

// connect makes one attempt.
func (b *Bridge) connect() (*connection, error) {
	c := &connection{lost: make(chan struct{}), acks: newAcks()}
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{b.broker}
	o.SetClientID(b.cfg.ClientID)
	o.SetProtocolVersion(4)   // without, each failure is tried again as MQTT 3.1
	o.SetCleanSession(true)   // an outage is a gap
	o.SetAutoReconnect(false) // see the package comment
	o.SetConnectTimeout(connectTimeout)
	o.SetKeepAlive(keepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetWriteTimeout(bridges.PublishTimeout) // for a publication to be taken for sending
	o.SetOrderMatters(true)                   // messages reach the handler one by one
	o.SetAutoAckDisabled(true)                // acks sends them
	o.SetStore(noStore{})
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { b.receive(c, m) })
	o.SetConnectionLostHandler(func(paho.Client, error) { close(c.lost) })
	o.SetCustomOpenConnectionFn(func(u *url.URL, o paho.ClientOptions) (net.Conn, error) {
		return b.dial(c, u, o)
	})
	c.client = paho.NewClient(o)

	token := c.client.Connect()
	<-token.Done() // bounded by connectTimeout, cut short by the end of b.ctx
	if c.stopAbort != nil {
		c.stopAbort()
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	return c, nil
}

// dial opens the network connection. It does what paho would do, but can be
// stopped, and it watches the traffic.
func (b *Bridge) dial(c *connection, u *url.URL, o paho.ClientOptions) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(b.ctx, connectTimeout)
	defer cancel()
	var (
		conn net.Conn
		err  error
	)
	switch u.Scheme {
	case "mqtt", "tcp":
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	case "mqtts", "ssl":
		conn, err = (&tls.Dialer{Config: b.cfg.TLS}).DialContext(ctx, "tcp", u.Host)
	default: // ws, wss
		bare := *u
		bare.User = nil // they belong into CONNECT
		conn, err = paho.NewWebsocket(bare.String(), b.cfg.TLS, connectTimeout, o.HTTPHeaders, o.WebsocketOptions)
	}
	if err != nil {
		return nil, err
	}
	c.stopAbort = context.AfterFunc(b.ctx, func() { conn.Close() })
	return &watched{Conn: conn, heard: &c.heard}, nil
}

// wait waits for the broker's answer.
func (c *connection) wait(ctx context.Context, token paho.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-c.lost:
		return errLost
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNoAnswer, context.Cause(ctx))
	}
}

// close says goodbye, or just hangs up when the broker does not listen.
func (c *connection) close() {
	c.client.Disconnect(uint(goodbye.Milliseconds()))
}

// lastHeard says when the broker was last heard of.
func (c *connection) lastHeard() time.Time { return time.Unix(0, c.heard.Load()) }

// watched is a network connection that knows when it last carried something,
// and on which no write blocks for ever: paho sets a deadline for PUBLISH
// alone, so that a broker which reads nothing would stall acknowledgements and
// the very ping that should find that out.
type watched struct {
	net.Conn
	heard *atomic.Int64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// noStore keeps nothing: with a clean session nothing outlives its connection.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
