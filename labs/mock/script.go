package mock

import (
	"slices"
	"time"
)

// The bounds of a script. What it sends, receives and keeps has bounds, too.
const (
	maxScript       = 64 << 10         // bytes
	maxBytes        = 1 << 20          // of anything that is sent, and of a received message
	maxDelay        = 10 * time.Second // of one wait, and of the latency
	minEvery        = 10 * time.Millisecond
	maxRate         = 100 // messages a second from one repeat
	maxVars         = 64
	maxPaths        = 16
	maxRules        = 64
	maxActions      = 64 // in one list
	maxExpectations = 64
	maxRunning      = 64        // rules that are waiting or repeating at once, on one connection
	maxHeld         = 256 << 10 // bytes of the messages that they answer; one larger message alone may be
	maxVariable     = 16 << 10  // bytes of a variable's text
)

// Script says how a server behaves. It is made by Parse and does not change.
type Script struct {
	root
}

// Name is what the script calls itself; it may be empty.
func (s *Script) Name() string { return s.root.Name }

// Vars are the names of the variables that the script declares under vars. The
// host may set them.
func (s *Script) Vars() []string {
	names := make([]string, 0, len(s.root.Vars))
	for name := range s.root.Vars {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Paths are those that the script names, in alphabetical order.
func (s *Script) Paths() []string {
	paths := make([]string, 0, len(s.root.Paths))
	for path := range s.root.Paths {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// What follows is the language as types. The tags are what decode and Schema
// read: key is the word in the script, doc its description, bare means that the
// word may stand alone, short that the value may stand without the word, with
// that the word may stand beside the one that is chosen.

type root struct {
	Name      string                `key:"name" doc:"What the script is for. It heads the verdict." max:"200"`
	Seed      *uint64               `key:"seed" doc:"What everything random is drawn from. Without it, or with 0, the server draws one and shows it."`
	Vars      map[string]constant   `key:"vars" doc:"Variables and the values they begin with on each connection. Who runs the server may give them others." max:"64"`
	Draw      map[string]*draw      `key:"draw" doc:"Variables that begin with a random value." max:"64"`
	Behaviour behaviour             `key:",inline"`
	Paths     map[string]*behaviour `key:"paths" doc:"How to behave on paths that end in these, such as /chat. What stands outside is for all other paths; when nothing does, they are answered 404." max:"16"`
	Schema    string                `key:"$schema" doc:"Where this schema is, for editors."`
}

type behaviour struct {
	Subprotocols       []string      `key:"subprotocols" doc:"The subprotocols that are spoken. The first that the client offers is chosen." max:"16"`
	RequireSubprotocol bool          `key:"require_subprotocol" doc:"Refuse clients that offer none of the subprotocols with 400."`
	PingEvery          *pingEvery    `key:"ping_every" doc:"The time between two pings of the server's own, or never. Who does not answer is dropped."`
	PongWithin         *duration     `key:"pong_within" doc:"How long a client may take to answer a ping." min:"200ms" max:"60s"`
	NoPong             bool          `key:"no_pong" doc:"Leave the client's pings without an answer."`
	Deflate            bool          `key:"deflate" doc:"Accept permessage-deflate."`
	MessageBytes       int           `key:"message_bytes" doc:"The largest message that is accepted; a larger one is closed 1009." min:"1" max:"1048576"`
	Rules              []*rule       `key:"rules" doc:"What to do when. All rules for connect are followed, side by side; of the others the first that fits, for each message." max:"64"`
	Expect             *expectations `key:"expect" doc:"What the client has to send. The verdict tells."`
}

type rule struct {
	At position
	On trigger    `key:"on" doc:"What sets it off." required:""`
	If *condition `key:"if" doc:"Only when this expression is true, such as: received == 3."`
	Do []*action  `key:"do" doc:"What is done, one after the other." required:"" max:"64"`
}

type trigger struct {
	_        oneOf
	Connect  bool     `key:"connect" bare:"" doc:"The connection is open."`
	Received received `key:",inline"`
}

// received matches one thing that came from the client.
type received struct {
	Message bool        `key:"message" bare:"" doc:"Any message, text or binary."`
	Text    *textMatch  `key:"text" bare:"" doc:"A text message."`
	JSON    *pattern    `key:"json" bare:"" doc:"A text message that is JSON and holds at least what is said here. A key may be a path: items.0.id. A member $matches is a regular expression, $type one of string, number, boolean, null, array, object, any."`
	Binary  *bytesMatch `key:"binary" bare:"" doc:"A binary message."`
	Ping    *textMatch  `key:"ping" bare:"" doc:"A ping. It is answered anyway, unless no_pong says otherwise."`
	Pong    *textMatch  `key:"pong" bare:"" doc:"A pong."`
}

type textMatch struct {
	_        oneOf
	Exact    *template `key:"is" short:"" doc:"Exactly this text."`
	Contains *template `key:"contains" doc:"This text within it."`
	Matches  *pcre     `key:"matches" doc:"A regular expression, in RE2's syntax, that fits a part of it."`
}

type bytesMatch struct {
	_        oneOf
	Exact    binaryData `key:"is" short:"" doc:"Exactly these bytes."`
	Starts   binaryData `key:"starts" doc:"These bytes at the beginning."`
	Contains binaryData `key:"contains" doc:"These bytes within it."`
}

type closeMatch struct {
	Code   *int       `key:"code" short:"" doc:"The code. 1005: the Close frame was empty. 1006: there was none." min:"1000" max:"4999"`
	Reason *textMatch `key:"reason" doc:"The reason."`
}

type action struct {
	At     position
	_      oneOf
	Send   *payload         `key:"send" doc:"Send a message."`
	Echo   bool             `key:"echo" bare:"" doc:"Send the message that was received, as it was."`
	Error  *template        `key:"error" doc:"Send the JSON {\"type\":\"error\",\"message\":…} with this text."`
	Ping   *template        `key:"ping" bare:"" doc:"Send a ping with this text, at most 125 bytes."`
	Pong   *template        `key:"pong" bare:"" doc:"Send a pong that nobody asked for, at most 125 bytes."`
	Close  *closing         `key:"close" doc:"Send a Close frame and end the connection when the client has answered."`
	Cut    bool             `key:"cut" bare:"" doc:"Reset the TCP connection: the client sees 1006."`
	Raw    binaryData       `key:"raw" doc:"Write these bytes as they are, right or wrong by RFC 6455."`
	Wait   *wait            `key:"wait" doc:"Wait before going on. Other messages are answered meanwhile."`
	Repeat *repeat          `key:"repeat" doc:"Do something again and again."`
	Set    map[string]value `key:"set" doc:"Give variables of this connection other values." max:"64"`
	Stop   bool             `key:"stop" bare:"" doc:"End everything else that is waiting or repeating on this connection."`
}

type payload struct {
	_         oneOf
	Text      *template  `key:"text" short:"" doc:"A text message."`
	JSON      *jsonData  `key:"json" doc:"A text message: this value as JSON. A text that is one {{expression}} alone keeps its type."`
	Binary    binaryData `key:"binary" doc:"A binary message."`
	Fragments int        `key:"fragments" with:"" doc:"In how many frames to send it." min:"1" max:"1000"`
}

type closing struct {
	Code   int       `key:"code" short:"" doc:"The code." required:""`
	Reason *template `key:"reason" doc:"The reason, at most 123 bytes."`
}

type wait struct {
	From *duration `key:"from" short:"" doc:"How long, or at least how long." max:"10s" required:""`
	To   *duration `key:"to" doc:"At most how long; the time is drawn." max:"10s"`
}

type repeat struct {
	Times int       `key:"times" doc:"How often. Without it until the connection ends." min:"1" max:"100000"`
	Every *duration `key:"every" doc:"The time between two rounds." min:"10ms" max:"10s" required:""`
	Do    []*action `key:"do" doc:"What is done in each round. The first is at once." required:"" max:"64"`
}

type draw struct {
	_     oneOf
	Int   *span    `key:"int" doc:"A whole number between two, both included: [1, 6]."`
	Float *span    `key:"float" doc:"A number between two: [0, 1000]."`
	OneOf []string `key:"one_of" doc:"One of these texts." max:"64"`
	Hex   int      `key:"hex" doc:"So many bytes as hexadecimal digits." min:"1" max:"1024"`
	Per   string   `key:"per" with:"" doc:"Whether each connection draws its own, or all share one." enum:"connection,script"`
}

type expectations struct {
	Strict   bool           `key:"strict" doc:"Other messages may not come. Control frames may."`
	Ordered  bool           `key:"ordered" doc:"They have to come in this order."`
	Messages []*expectation `key:"messages" doc:"What has to come." required:"" max:"64"`
}

type expectation struct {
	At         position
	_          oneOf
	Received   received    `key:",inline"`
	Close      *closeMatch `key:"close" bare:"" doc:"The client's end of the connection."`
	Count      *count      `key:"count" with:"" doc:"How often: a number, or min and max. 0: never. Without it at least once, or exactly once when strict."`
	Connection int         `key:"connection" with:"" doc:"Only on the connection with this number on this path, from 1." min:"1"`
}

type count struct {
	Exactly *int `key:"exactly" short:"" doc:"So often." min:"0" max:"1000000"`
	Min     int  `key:"min" doc:"At least so often." min:"0" max:"1000000"`
	Max     *int `key:"max" doc:"At most so often." min:"0" max:"1000000"`
}
