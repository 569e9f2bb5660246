package mqttws

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// RelayConfig is what a Relay needs. Zero fields take the defaults in brackets.
type RelayConfig struct {
	// URL is the broker: mqtt://[user:password@]host[:port], or mqtts for TLS.
	// Clients come to it as this user, whatever they call themselves.
	URL   string
	Rules Rules
	// Prefix is put before client ids, so that clients of one prefix can take over
	// each other's sessions and nobody else's [none].
	Prefix      string
	PacketBytes int               // of a packet, from either side [1 MiB]
	Refused     func(code string) // counts refusals [nobody]
}

// Rules say what a client may do. An error is a refusal.
type Rules interface {
	CheckRead(filter string) error
	CheckPublish(topic string) error
}

// Relay takes clients of MQTT 3.1.1 to a broker and holds them to rules.
//
// A filter that may not be read is refused in SUBACK, with 0x80; the others go to
// the broker. A publication that is not allowed is acknowledged as its QoS wants,
// and dropped: a server cannot refuse one but by closing the connection (MQTT
// 3.1.1, section 3.3.5), and Mosquitto does as this does. So it is with what the
// broker sends and the client may not read, which a wildcard may match.
// A will that is not allowed refuses the connection, with CONNACK 5.
type Relay struct {
	cfg     RelayConfig
	address string
	tls     bool
}

// NewRelay makes a Relay. Its error shows nothing of the URL that might be a
// password.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	cfg.PacketBytes = cmp.Or(cfg.PacketBytes, 1<<20)
	if cfg.Refused == nil {
		cfg.Refused = func(string) {}
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("mqttws: the broker URL cannot be read")
	}
	r := &Relay{cfg: cfg}
	port := "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "ssl":
		r.tls, port = true, "8883"
	default:
		return nil, fmt.Errorf("mqttws: a relay reaches brokers at mqtt, tcp, mqtts and ssl, and not at %q", u.Scheme)
	}
	r.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	return r, nil
}

const (
	connectWithin = 10 * time.Second // for CONNECT, and for the broker's answer
	writeWithin   = 10 * time.Second // for one packet
	maxPending    = 1000             // packets of one kind under way from one end

	disconnectWithin = time.Second // for the broker to close a connection after DISCONNECT
)

// Return codes of CONNACK (section 3.2.2.3).
const (
	badLevel      = 1
	badIdentifier = 2
	unavailable   = 3
	notAuthorized = 5
)

// Connect serves one connection until either side ends it (see Config.Connect).
// ctx ends the search for the broker alone.
func (r *Relay) Connect(ctx context.Context, conn net.Conn) error {
	client := newEnd(conn)
	_ = conn.SetReadDeadline(time.Now().Add(connectWithin))
	p, err := readPacket(client.in, r.cfg.PacketBytes)
	if err != nil {
		return err
	}
	c, err := p.connect()
	if err != nil {
		return err
	}
	if code := r.judge(&c); code != 0 {
		return client.refuse(c.level, code)
	}
	_ = conn.SetReadDeadline(time.Time{})
	broker, err := r.open(ctx, c, client)
	if err != nil {
		return err
	}
	relayed := relayed{Relay: r, client: client, broker: broker, asked: make(map[uint16][]bool)}
	return relayed.run()
}

// judge reports why a CONNECT is refused, or 0; then it is the broker's.
func (r *Relay) judge(c *connect) (code byte) {
	switch {
	case c.level != 4:
		return badLevel
	case c.clientID == "" && !c.clean || len(r.cfg.Prefix+c.clientID) > 1<<16-1:
		return badIdentifier
	case c.will != nil && r.cfg.Rules.CheckPublish(c.will.topic) != nil:
		r.cfg.Refused("TOPIC_FORBIDDEN")
		return notAuthorized
	}
	if c.clientID != "" { // else the broker makes one
		c.clientID = r.cfg.Prefix + c.clientID
	}
	u, _ := url.Parse(r.cfg.URL)
	c.user, c.password = u.User.Username(), nil
	if password, ok := u.User.Password(); ok {
		c.password = []byte(password)
	}
	return 0
}

// open connects to the broker and passes its CONNACK on: nothing of a server may
// come before that (section 3.2).
func (r *Relay) open(ctx context.Context, c connect, client *end) (*end, error) {
	dialing, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	var conn net.Conn
	var err error
	if r.tls {
		conn, err = new(tls.Dialer).DialContext(dialing, "tcp", r.address)
	} else {
		conn, err = new(net.Dialer).DialContext(dialing, "tcp", r.address)
	}
	if err != nil {
		r.cfg.Refused("UPSTREAM_UNAVAILABLE")
		return nil, errors.Join(client.refuse(c.level, unavailable), err)
	}
	broker := newEnd(conn)
	stop := context.AfterFunc(dialing, func() { conn.Close() })
	connack, err := packet{}, broker.send(c.packet())
	if err == nil {
		connack, err = readPacket(broker.in, r.cfg.PacketBytes)
	}
	if !stop() || err != nil || connack.kind != wire.CONNACK || len(connack.body) != 2 {
		conn.Close()
		r.cfg.Refused("UPSTREAM_UNAVAILABLE")
		return nil, errors.Join(client.refuse(c.level, unavailable), err)
	}
	if err := client.send(connack); err != nil || connack.body[1] != 0 {
		conn.Close()
		return nil, cmp.Or(err, errRefused)
	}
	return broker, nil
}

// errRefused is the end of a connection that CONNACK has refused.
var errRefused = errors.New("mqttws: the connection was refused")

// end is one end of a relayed connection.
type end struct {
	conn    net.Conn
	in      *bufio.Reader
	writing sync.Mutex
	// dropped are publications of QoS 2 from here that went nowhere, until PUBREL.
	// They are the business of who reads this end.
	dropped map[uint16]bool
}

func newEnd(conn net.Conn) *end {
	return &end{conn: conn, in: bufio.NewReader(conn), dropped: make(map[uint16]bool)}
}

func (e *end) send(p packet) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	_ = e.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	_, err := e.conn.Write(p.encode())
	return err
}

// refuse answers a CONNECT. A client of MQTT 5 is answered in its own words.
func (e *end) refuse(level, code byte) error {
	answer := packet{kind: wire.CONNACK, body: []byte{0, code}}
	if level >= 5 {
		answer.body = []byte{0, 0x84, 0} // unsupported protocol version; no properties
	}
	return cmp.Or(e.send(answer), errRefused)
}

// drop acknowledges a publication from this end that goes nowhere.
func (e *end) drop(m publication) error {
	switch m.qos {
	case 1:
		return e.send(answer(wire.PUBACK, m.id))
	case 2:
		if len(e.dropped) == maxPending {
			return violates("4.3.3", "more than %d publications of QoS 2 are not released", maxPending)
		}
		e.dropped[m.id] = true
		return e.send(answer(wire.PUBREC, m.id))
	}
	return nil
}

// relayed is one connection through a Relay.
type relayed struct {
	*Relay
	client, broker *end

	mu sync.Mutex
	// asked are the SUBSCRIBEs under way of which not everything was passed on: by
	// their identifier, which of their filters were.
	asked map[uint16][]bool
}

// run passes packets on until either end is gone, and closes both. What a client
// has sent before it went is passed on, so that its DISCONNECT counts.
func (r *relayed) run() error {
	defer r.broker.conn.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer r.client.conn.Close()
		_ = pump(r.broker, r.cfg.PacketBytes, r.fromBroker) // the client reads that the broker has gone
	}()
	err := pump(r.client, r.cfg.PacketBytes, r.fromClient)
	r.client.conn.Close()
	if !errors.Is(err, errDisconnect) {
		r.broker.conn.Close()
		<-back
		return err
	}
	// The broker has to read DISCONNECT, or it would publish the will: closing
	// while bytes wait to be read would reset the connection.
	_ = r.broker.conn.SetReadDeadline(time.Now().Add(disconnectWithin))
	<-back
	_, _ = io.Copy(io.Discard, r.broker.in)
	return nil
}

// errDisconnect is the end of a client that has said DISCONNECT.
var errDisconnect = errors.New("mqttws: disconnect")

func pump(from *end, limit int, pass func(packet) error) error {
	for {
		p, err := readPacket(from.in, limit)
		if err == nil {
			err = pass(p)
		}
		if err != nil {
			return err
		}
	}
}

func (r *relayed) fromClient(p packet) error {
	if p.cut {
		return violation(fmt.Sprintf("a %v packet of more than %d bytes", p.kind, r.cfg.PacketBytes))
	}
	switch p.kind {
	case wire.PUBLISH:
		return r.publish(p, r.client, r.broker, r.cfg.Rules.CheckPublish)
	case wire.PUBREL:
		return release(p, r.client, r.broker)
	case wire.SUBSCRIBE:
		return r.subscribe(p)
	case wire.PUBACK, wire.PUBREC, wire.PUBCOMP, wire.UNSUBSCRIBE, wire.PINGREQ:
		return r.broker.send(p)
	case wire.DISCONNECT:
		return cmp.Or(r.broker.send(p), errDisconnect)
	case wire.CONNECT:
		return violates("3.1", "a second CONNECT packet")
	}
	return violates("2.2.1", "clients send no %v packets", p.kind)
}

func (r *relayed) fromBroker(p packet) error {
	switch p.kind {
	case wire.PUBLISH:
		return r.publish(p, r.broker, r.client, r.cfg.Rules.CheckRead)
	case wire.PUBREL:
		return release(p, r.broker, r.client)
	case wire.SUBACK:
		return r.subscribed(p)
	}
	if p.cut {
		return fmt.Errorf("mqttws: a %v packet of the broker is too long", p.kind)
	}
	return r.client.send(p)
}

// publish passes a publication on, or drops it: if the rule is against it, or if
// it is too long.
func (r *relayed) publish(p packet, from, to *end, rule func(topic string) error) error {
	m, err := p.publication()
	if err != nil {
		return err
	}
	switch {
	case p.cut:
		r.cfg.Refused("PAYLOAD_TOO_LARGE")
		return from.drop(m)
	case rule(m.topic) != nil:
		if from == r.client { // else nobody asked for it
			r.cfg.Refused("TOPIC_FORBIDDEN")
		}
		return from.drop(m)
	}
	delete(from.dropped, m.id)
	return to.send(p)
}

// release passes a PUBREL on, or answers that of a publication that was dropped.
func release(p packet, from, to *end) error {
	id, err := p.identifier()
	if err != nil {
		return err
	}
	if from.dropped[id] {
		delete(from.dropped, id)
		return from.send(answer(wire.PUBCOMP, id))
	}
	return to.send(p)
}

// subscribe passes on what may be read of a SUBSCRIBE.
func (r *relayed) subscribe(p packet) error {
	s, err := p.subscription()
	if err != nil {
		return err
	}
	passed := make([]bool, len(s.filters))
	allowed := s.filters[:0:0]
	for i, f := range s.filters {
		if passed[i] = r.cfg.Rules.CheckRead(f.Filter) == nil; passed[i] {
			allowed = append(allowed, f)
		} else {
			r.cfg.Refused("TOPIC_FORBIDDEN")
		}
	}
	switch len(allowed) {
	case 0:
		return r.client.send(suback(s.id, passed, nil))
	case len(s.filters):
		return r.broker.send(p)
	}
	r.mu.Lock()
	if r.asked[s.id] = passed; len(r.asked) > maxPending {
		err = violates("3.8.4", "more than %d SUBSCRIBE packets are not answered", maxPending)
	}
	r.mu.Unlock()
	s.filters = allowed
	return cmp.Or(err, r.broker.send(s.packet()))
}

// subscribed puts the codes of the refused filters into the broker's answer.
func (r *relayed) subscribed(p packet) error {
	id, err := p.identifier()
	if err != nil {
		return err
	}
	r.mu.Lock()
	passed, ok := r.asked[id]
	delete(r.asked, id)
	r.mu.Unlock()
	if ok {
		p = suback(id, passed, p.body[2:])
	}
	return r.client.send(p)
}

// suback is the answer to a SUBSCRIBE: the broker's codes for the filters that
// were passed on to it, 0x80 for the others (section 3.9.3).
func suback(id uint16, passed []bool, codes []byte) packet {
	p := answer(wire.SUBACK, id)
	for _, ok := range passed {
		code := byte(0x80)
		if ok && len(codes) > 0 {
			code, codes = codes[0], codes[1:]
		}
		p.body = append(p.body, code)
	}
	return p
}
