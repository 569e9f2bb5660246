package embedded

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2/server"
)

// pubsub is Redis Pub/Sub in front of miniredis, whose own delivers a message
// to one pattern of a connection only, whatever else matches, and ends the
// process at a pattern such as "[z-a]".
//
// A message is written to every listener before PUBLISH answers. A listener
// that stops reading therefore stops publishing for all, as soon as the
// kernel's buffers are full.
type pubsub struct {
	mu    sync.Mutex
	peers map[*server.Peer]*listener
}

// listener is a connection that was heard of.
type listener struct {
	channels, patterns map[string]bool
	multi              bool // between MULTI and EXEC
}

func (l *listener) count() int { return len(l.channels) + len(l.patterns) }

func newPubsub() *pubsub { return &pubsub{peers: make(map[*server.Peer]*listener)} }

// hook sees every command before miniredis does; true means that it is done.
func (p *pubsub) hook(c *server.Peer, cmd string, args ...string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listener(c, cmd)
	listening := l.count() > 0 && !c.Resp3
	switch cmd {
	case "SUBSCRIBE", "PSUBSCRIBE":
		return p.subscribe(c, l, cmd, args)
	case "UNSUBSCRIBE", "PUNSUBSCRIBE":
		return p.unsubscribe(c, l, cmd, args)
	case "PING":
		if listening && len(args) < 2 {
			pong(c, args)
			return true
		}
		return false
	case "QUIT":
		return false
	}
	if listening {
		c.WriteError("ERR Can't execute '" + strings.ToLower(cmd) +
			"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
		return true
	}
	switch cmd {
	case "MULTI":
		l.multi = true
	case "EXEC", "DISCARD":
		l.multi = false
	case "PUBLISH":
		if l.multi || len(args) != 2 { // comes back to deliver, or is an error
			return false
		}
		c.WriteInt(p.send(args[0], args[1]))
		return true
	case "PUBSUB":
		return p.inspect(c, args)
	case "KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN":
		if slices.ContainsFunc(args, panics) {
			c.WriteError("ERR this pattern is too much for the embedded server")
			return true
		}
	}
	return false
}

// listener makes a listener of a connection for commands that change it.
func (p *pubsub) listener(c *server.Peer, cmd string) *listener {
	l := p.peers[c]
	if l != nil {
		return l
	}
	l = &listener{channels: make(map[string]bool), patterns: make(map[string]bool)}
	switch cmd {
	case "SUBSCRIBE", "PSUBSCRIBE", "MULTI":
		p.peers[c] = l
		c.OnDisconnect(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.peers, c)
		})
	}
	return l
}

func (l *listener) names(cmd string) map[string]bool {
	if strings.HasPrefix(cmd, "P") {
		return l.patterns
	}
	return l.channels
}

func (p *pubsub) subscribe(c *server.Peer, l *listener, cmd string, args []string) bool {
	for _, name := range args {
		l.names(cmd)[name] = true
		confirm(c, cmd, &name, l.count())
	}
	return len(args) > 0
}

func (p *pubsub) unsubscribe(c *server.Peer, l *listener, cmd string, args []string) bool {
	names := l.names(cmd)
	if len(args) == 0 {
		args = slices.Sorted(maps.Keys(names))
	}
	for _, name := range args {
		delete(names, name)
		confirm(c, cmd, &name, l.count())
	}
	if len(args) == 0 {
		confirm(c, cmd, nil, l.count())
	}
	return true
}

func confirm(c *server.Peer, cmd string, name *string, count int) {
	c.Block(func(w *server.Writer) {
		w.WritePushLen(3)
		w.WriteBulk(strings.ToLower(cmd))
		if name == nil {
			w.WriteNull()
		} else {
			w.WriteBulk(*name)
		}
		w.WriteInt(count)
	})
}

func pong(c *server.Peer, args []string) {
	c.Block(func(w *server.Writer) {
		w.WriteLen(2)
		w.WriteBulk("pong")
		w.WriteBulk(strings.Join(args, ""))
	})
}

// deliver sends what miniredis itself published: in a transaction.
func (p *pubsub) deliver(channel, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.send(channel, message)
}

// send is called with the lock held and says how many copies it sent.
func (p *pubsub) send(channel, message string) (copies int) {
	for c, l := range p.peers {
		if l.channels[channel] {
			push(c, "message", channel, message)
			copies++
		}
		for pattern := range l.patterns {
			if matchGlob(pattern, channel) {
				push(c, "pmessage", pattern, channel, message)
				copies++
			}
		}
	}
	return copies
}

func push(c *server.Peer, parts ...string) {
	c.Block(func(w *server.Writer) {
		w.WritePushLen(len(parts))
		for _, part := range parts {
			w.WriteBulk(part)
		}
		w.Flush()
	})
}

// inspect is PUBSUB; what it does not know is left to miniredis to refuse.
func (p *pubsub) inspect(c *server.Peer, args []string) bool {
	if len(args) == 0 {
		return false
	}
	channels, patterns := make(map[string]int), make(map[string]bool)
	for _, l := range p.peers {
		for name := range l.channels {
			channels[name]++
		}
		maps.Copy(patterns, l.patterns)
	}
	switch sub := strings.ToUpper(args[0]); {
	case sub == "CHANNELS" && len(args) <= 2:
		names := slices.Sorted(maps.Keys(channels))
		if len(args) == 2 {
			names = slices.DeleteFunc(names, func(name string) bool { return !matchGlob(args[1], name) })
		}
		c.WriteStrings(names)
	case sub == "NUMSUB":
		c.Block(func(w *server.Writer) {
			w.WriteLen(2 * (len(args) - 1))
			for _, name := range args[1:] {
				w.WriteBulk(name)
				w.WriteInt(channels[name])
			}
		})
	case sub == "NUMPAT" && len(args) == 1:
		c.WriteInt(len(patterns))
	default:
		return false
	}
	return true
}

// panics reports whether miniredis might end the process over a pattern: it
// makes regular expressions of patterns and insists that they compile. All
// with a backslash are suspect, since they are no sooner understood than
// misread.
func panics(pattern string) bool {
	if !utf8.ValidString(pattern) || strings.Contains(pattern, `\`) {
		return true
	}
	for {
		_, rest, found := strings.Cut(pattern, "[")
		if !found {
			return false
		}
		set, after, _ := strings.Cut(rest, "]")
		if _, err := regexp.Compile("[" + set + "]"); set != "" && err != nil {
			return true
		}
		pattern = after
	}
}
