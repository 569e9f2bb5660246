package load

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Phase is what a run does at a moment.
type Phase string

// The phases, in their order.
const (
	Ramping   Phase = "ramp"
	WarmingUp Phase = "warm-up"
	Holding   Phase = "hold"
	Draining  Phase = "drain"
	Done      Phase = "done"
)

// Progress is a run at a moment. Rates and times are those of the second before.
type Progress struct {
	Phase       Phase         `json:"phase"`
	Elapsed     time.Duration `json:"-"`
	Planned     time.Duration `json:"-"`           // ramp, warm-up and hold together
	Connections int           `json:"connections"` // that are open
	Failed      int64         `json:"failed"`      // handshakes
	Abnormal    int64         `json:"abnormal"`    // ends
	Sent        int64         `json:"sent"`        // messages since the start
	Received    int64         `json:"received"`    // answers or events since the start
	Errors      int64         `json:"errors"`
	SentRate    float64       `json:"sentPerSecond"`
	Rate        float64       `json:"receivedPerSecond"`
	Latency     *Latency      `json:"latency"` // nil: nothing came
	Lag         *Latency      `json:"lag"`     // how late the generator itself was
}

// Result is what a run has measured.
type Result struct {
	Plan        Plan        `json:"plan"`
	StartedAt   time.Time   `json:"startedAt"`
	Early       bool        `json:"endedEarly"` // was told to end before its plan did
	HeldSeconds float64     `json:"heldSeconds"`
	Connections Connections `json:"connections"`
	Messages    Messages    `json:"messages"`
	// Latency is the time from when a message was due to its answer, which in a
	// closed loop is from when it was sent; of an event it is its age, if it says
	// when it happened. nil: none was measured.
	Latency *Latency `json:"latency"`
	// Service is the time from when a message was sent to its answer.
	Service   *Latency   `json:"service"`
	Connect   *Latency   `json:"connect"` // from when a connection was due until it could be used
	Generator Generator  `json:"generator"`
	Samples   []Progress `json:"-"`        // one a second
	Verdicts  []Verdict  `json:"verdicts"` // of the assertions that the caller has made
}

// Connections counts those of a run.
type Connections struct {
	Planned int   `json:"planned"`
	Opened  int64 `json:"opened"`
	Failed  int64 `json:"failed"` // never opened
	// Abnormal counts those that ended before the run did, whoever ended them and
	// however politely, and those that ended without a Close frame.
	Abnormal   int64         `json:"abnormal"`
	CloseCodes map[int]int64 `json:"closeCodes"` // of all that ended; 1006: no Close frame, 1005: one without a code
	Reasons    []Reason      `json:"reasons"`    // for what went wrong, the most frequent first
}

// Reason is why connections or operations failed.
type Reason struct {
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// abnormal counts the connections that were not held.
func (c Connections) abnormal() int64 { return c.Failed + c.Abnormal }

// Messages counts those that were due within the hold.
type Messages struct {
	Due       int64 `json:"due"` // of a subscription with Expect: the events that should have come
	Sent      int64 `json:"sent"`
	Answered  int64 `json:"answered"`  // or events that came
	Lost      int64 `json:"lost"`      // sent and never answered, or events that never came
	Unsent    int64 `json:"unsent"`    // due, but there was no connection, or it took no more
	Doubled   int64 `json:"doubled"`   // answered again
	Reordered int64 `json:"reordered"` // answered after a later one
	Foreign   int64 `json:"foreign"`   // came without being asked for, or damaged
	Errors    int64 `json:"errors"`    // GraphQL errors
	// Of the whole run, and of payloads alone.
	SentInAll     int64   `json:"sentInAll"`
	ReceivedInAll int64   `json:"receivedInAll"`
	BytesSent     int64   `json:"bytesSent"`
	BytesReceived int64   `json:"bytesReceived"`
	SentRate      float64 `json:"sentPerSecond"`
	Rate          float64 `json:"answeredPerSecond"` // answers or events, a second of the hold
}

// wrong counts what was not answered as it should have been.
func (m Messages) wrong() int64 { return m.Lost + m.Unsent + m.Errors }

// Generator says whether the generator itself kept up.
type Generator struct {
	// CPUs is how many processors' time this process used in the hold, with
	// whatever else runs in it; nil: unknown.
	CPUs    *float64 `json:"cpus"`
	Process Process  `json:"process"`
	// Lag is how late the generator was through its own fault: with messages, or
	// with a clock of ten milliseconds where none are sent or that was later still.
	Lag    *Latency `json:"lag"`
	HeldUp int64    `json:"heldUp"` // messages that were late because a connection took no more
	Behind bool     `json:"behind"` // the figures may be those of the generator rather than of the server
	Why    string   `json:"why,omitempty"`
}

// maxReasons is how many different ones are told apart.
const maxReasons = 10

// reasons counts texts.
type reasons struct {
	mu     sync.Mutex
	counts map[string]int64
}

func (r *reasons) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[string]int64)
	}
	if _, known := r.counts[text]; !known && len(r.counts) == maxReasons {
		text = "something else"
	}
	r.counts[text]++
}

func (r *reasons) list() []Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Reason{}
	for text, count := range r.counts {
		list = append(list, Reason{text, count})
	}
	slices.SortFunc(list, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return list
}
