package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// Towards says whose messages the faults act on.
type Towards string

// The directions. Both is also that of events that concern a whole connection.
const (
	ToClient Towards = "toClient"
	ToServer Towards = "toServer"
	Both     Towards = "both"
)

// towards is one of the two.
func towards(d wire.Direction) Towards {
	if d == wire.ToServer {
		return ToServer
	}
	return ToClient
}

// Faults are the settings: what goes wrong, how often and how much. Rates are
// shares from 0 to 1, times are in milliseconds.
type Faults struct {
	// Direction is whose messages corruption, latency, duplication, reordering,
	// throttling and close codes act on. Cuts, half-open connections and
	// partitions concern both.
	Direction   Towards     `json:"direction" yaml:"direction"`
	Cut         Cut         `json:"cut" yaml:"cut"`
	Corruption  Corruption  `json:"corruption" yaml:"corruption"`
	Latency     Latency     `json:"latency" yaml:"latency"`
	Partition   Partition   `json:"partition" yaml:"partition"`
	Duplication Duplication `json:"duplication" yaml:"duplication"`
	Reordering  Reordering  `json:"reordering" yaml:"reordering"`
	Throttling  Throttling  `json:"throttling" yaml:"throttling"`
	HalfOpen    HalfOpen    `json:"halfOpen" yaml:"halfOpen"`
	CloseCode   CloseCode   `json:"closeCode" yaml:"closeCode"`
}

// Default are the faults that a server begins with: cuts of 5 % of the
// connections after 5 to 35 s, corruption of 2 % of the messages, latency of 100
// to 2,000 ms for 10 %, all towards the client. The others are off.
func Default() Faults {
	return Faults{
		Direction:  ToClient,
		Cut:        Cut{Rate: 0.05, MinMs: 5_000, MaxMs: 35_000},
		Corruption: Corruption{Rate: 0.02},
		Latency:    Latency{Rate: 0.1, MinMs: 100, MaxMs: 2_000},
		Partition:  Partition{DurationMs: 5_000},
		Reordering: Reordering{WithinMs: 1_000},
		HalfOpen:   HalfOpen{MinMs: 5_000, MaxMs: 35_000},
		CloseCode:  CloseCode{Code: wire.Abnormal},
	}
}

// Calm returns the same settings with every fault switched off.
func (f Faults) Calm() Faults {
	f.Cut.Rate, f.Corruption.Rate, f.Latency.Rate, f.Duplication.Rate = 0, 0, 0, 0
	f.Reordering.Rate, f.HalfOpen.Rate, f.CloseCode.Rate, f.Throttling.BytesPerSecond = 0, 0, 0, 0
	return f
}

// Merge returns the settings with those of patch in their place, at any depth:
// what patch leaves out stays. patch is JSON ([]byte, json.RawMessage), or a
// value that becomes such, with the names of the fields' tags. The error is an
// *InvalidError.
func (f Faults) Merge(patch any) (Faults, error) {
	text, ok := patch.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(patch); err != nil {
			return f, &InvalidError{"faults", patch, "an object with the settings to change"}
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	merged := f
	if err := decoder.Decode(&merged); err != nil {
		return f, unreadable(text, err)
	}
	if err := merged.Validate(); err != nil {
		return f, err
	}
	return merged, nil
}

// unreadable says what is wrong with a patch in the settings' own names.
func unreadable(text []byte, err error) error {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		accepted, ok := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.String: "a text", reflect.Struct: "an object"}[wrong.Type.Kind()]
		if !ok {
			accepted = "a number"
		}
		return &InvalidError{wrong.Field, "of the kind " + wrong.Value, accepted}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &InvalidError{strings.Trim(name, `"`), nil, "direction, cut, corruption, latency, partition, duplication, reordering, throttling, halfOpen and closeCode, and what each holds"}
	}
	return &InvalidError{"faults", string(text), "an object with the settings to change"}
}

// InvalidError is a setting that is not accepted.
type InvalidError struct {
	Field    string // such as latency.maxMs
	Value    any    // what it was given; nil: there is no such setting
	Accepted string
}

func (e *InvalidError) Error() string {
	if e.Value == nil {
		return fmt.Sprintf("%s is not a setting: there are %s", e.Field, e.Accepted)
	}
	return fmt.Sprintf("%s %v is not accepted: %s", e.Field, e.Value, e.Accepted)
}

// Validate reports the first setting that is out of its bounds, as an *InvalidError.
func (f Faults) Validate() error {
	if !slices.Contains([]Towards{ToClient, ToServer, Both}, f.Direction) {
		return &InvalidError{"direction", fmt.Sprintf("%q", f.Direction), "toClient, toServer or both"}
	}
	for _, fault := range f.all() {
		if err := fault.check(); err != nil {
			return err
		}
	}
	return nil
}

// acts reports whether faults of messages act on a direction.
func (f *Faults) acts(d wire.Direction) bool { return f.Direction == Both || f.Direction == towards(d) }

// Name is the name of a fault.
type Name string

// The names, which are also those of the settings.
const (
	NameCut         Name = "cut"
	NameCorruption  Name = "corruption"
	NameLatency     Name = "latency"
	NamePartition   Name = "partition"
	NameDuplication Name = "duplication"
	NameReordering  Name = "reordering"
	NameThrottling  Name = "throttling"
	NameHalfOpen    Name = "halfOpen"
	NameCloseCode   Name = "closeCode"
)

// fault is one way of going wrong.
type fault interface {
	name() Name
	check() error // reports a setting that is out of its bounds
}

// drawn is a fault that leaves to chance what it strikes. The others, throttling
// and partitions, act on all that passes.
type drawn interface {
	fault
	strikes() target
	// strike draws for one target, and says what happens to it if it is hit. It
	// is called for every one, and depends on chance and its settings alone.
	strike(chance *rand.Rand) (blow, bool)
}

// target is what a fault strikes.
type target uint8

const (
	connections target = iota
	messages
	closings // Close frames
)

// blow is what a fault does to what it has struck: one of these.
type blow struct {
	name Name

	// To a connection: after a time it is reset, or its client is abandoned.
	after   time.Duration
	abandon bool

	// To a message.
	delay  time.Duration
	edit   func(text bool, payload []byte) *ByteChange // makes one byte another; nil: there is none
	again  bool                                        // it is sent twice
	yields time.Duration                               // it lets the next one go first, if that comes in time

	// To a Close frame.
	code uint16
}

// whole reports whether the message has to be there as a whole.
func (b *blow) whole() bool { return b.edit != nil || b.again || b.yields > 0 }

// all lists the faults in the order in which they strike a message.
func (f *Faults) all() []fault {
	return []fault{f.Cut, f.HalfOpen, f.Latency, f.Corruption, f.Duplication, f.Reordering, f.CloseCode, f.Throttling, f.Partition}
}

// checkRate reports a rate that is none.
func checkRate(of Name, rate float64) error {
	if rate >= 0 && rate <= 1 {
		return nil
	}
	return &InvalidError{string(of) + ".rate", rate, "a share from 0 to 1"}
}

// checkMs reports a time that is not from low to high.
func checkMs(of Name, field string, ms, low int, high time.Duration) error {
	if ms >= low && ms <= int(high.Milliseconds()) {
		return nil
	}
	return &InvalidError{fmt.Sprintf("%s.%s", of, field), ms, fmt.Sprintf("milliseconds from %d to %d", low, high.Milliseconds())}
}

// checkRange reports a range of times that is none.
func checkRange(of Name, minMs, maxMs int, high time.Duration) error {
	if err := checkMs(of, "minMs", minMs, 0, high); err != nil {
		return err
	}
	return checkMs(of, "maxMs", maxMs, minMs, high)
}

// between draws a time from a range, in whole milliseconds.
func between(chance *rand.Rand, minMs, maxMs int) time.Duration {
	return time.Duration(minMs+chance.IntN(maxMs-minMs+1)) * time.Millisecond
}
