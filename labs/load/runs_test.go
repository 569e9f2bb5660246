package load

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/live"
)

// code is that of an error that a client is told.
func code(err error) string {
	var told *live.Error
	if !errors.As(err, &told) {
		return ""
	}
	return told.Code
}

// all takes the events of a stream until its end.
func all(t *testing.T, sub live.Sub[Progress]) (events []Progress) {
	t.Helper()
	defer sub.Close()
	news := make(chan struct{}, 1)
	wake := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	sub.Wake(wake)
	buf := make([]live.Event[Progress], 4)
	for limit := time.After(20 * time.Second); ; {
		n, open := sub.Next(buf)
		for _, ev := range buf[:n] {
			events = append(events, ev.Value)
		}
		if !open {
			return events
		}
		if n > 0 {
			continue
		}
		select {
		case <-news:
		case <-limit:
			t.Fatalf("the stream goes on behind %+v", events)
		}
	}
}

func TestARunIsWatchedAndKept(t *testing.T) {
	_, url := start(t, Config{})
	runs := NewRuns(RunsConfig{Base: url})
	defer runs.Close()
	one, err := runs.Start(Order{Session: "s", Path: "/load", Plan: Plan{Connections: 5, Rate: 20, Hold: 1200 * time.Millisecond}, Assertions: []string{"no-loss", "rate>1000/s"}})
	if err != nil {
		t.Fatal(err)
	}
	if one.Plan.URL != url+"/load" || one.Result() != nil || one.Progress().Phase != Ramping {
		t.Errorf("%+v", one)
	}
	first, err := runs.Watch(t.Context(), one.ID)
	if err != nil {
		t.Fatal(err)
	}
	left, _ := runs.Watch(t.Context(), one.ID)
	left.Close()
	events := all(t, first)
	if len(events) < 3 || events[len(events)-1].Phase != Done || events[len(events)-1].Sent == 0 {
		t.Errorf("%+v", events)
	}
	if result := one.Result(); result == nil || result.Messages.wrong() != 0 || one.Failure() != "" || len(result.Verdicts) != 2 || !result.Verdicts[0].Holds || result.Verdicts[1].Holds {
		t.Errorf("%+v, %s", result, one.Failure())
	}
	late, err := runs.Watch(t.Context(), one.ID)
	if err != nil {
		t.Fatal(err)
	}
	if events := all(t, late); len(events) != 1 || events[0].Phase != Done {
		t.Errorf("behind the end: %+v", events)
	}
}

func TestRunsAreBounded(t *testing.T) {
	_, url := start(t, Config{})
	runs := NewRuns(RunsConfig{Base: url, Runs: 2, Kept: 3})
	defer runs.Close()
	long := Plan{Connections: 1, Rate: 1, Hold: 50 * time.Second}
	a, err := runs.Start(Order{Session: "a", Path: "/load", Plan: long})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runs.Start(Order{Session: "a", Path: "/load", Plan: long}); code(err) != CodeBusy {
		t.Errorf("two of one session: %v", err)
	}
	if _, err := runs.Start(Order{Session: "b", Path: "/load", Plan: long}); err != nil {
		t.Errorf("another session's: %v", err)
	}
	if _, err := runs.Start(Order{Session: "c", Path: "/load", Plan: long}); code(err) != CodeBusy || !strings.Contains(err.Error(), "2 load runs") {
		t.Errorf("one too many in all: %v", err)
	}
	for field, plan := range map[string]Plan{
		"connections": {Connections: 501, Hold: time.Second}, "rate": {Connections: 500, Rate: 11, Hold: time.Second},
		"hold": {Connections: 1, Hold: 61 * time.Second}, "size": {Connections: 1, Hold: time.Second, Size: 65 << 10},
		"mutation": {Connections: 1, Hold: time.Second, Protocol: LegacyWS, Operation: "mutation { a }"},
	} {
		if _, err := runs.Start(Order{Session: "c", Path: "/load", Plan: plan}); code(err) != "ARGUMENT_OUT_OF_RANGE" || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, assertions := range [][]string{{"fast"}, make([]string, 21)} {
		if _, err := runs.Start(Order{Session: "c", Plan: long, Assertions: assertions}); code(err) != "ARGUMENT_OUT_OF_RANGE" || !strings.Contains(err.Error(), "assert") {
			t.Errorf("%q: %v", assertions, err)
		}
	}
	watch, _ := runs.Watch(t.Context(), a.ID)
	if _, err := runs.Stop(a.ID); err != nil {
		t.Fatal(err)
	}
	all(t, watch)
	if result := a.Result(); result == nil || !result.Early {
		t.Errorf("stopped: %+v", result)
	}
	for range 3 { // the second makes a too many
		one, err := runs.Start(Order{Session: "a", Path: "/load", Plan: long})
		if err != nil {
			t.Fatal(err)
		}
		watch, _ := runs.Watch(t.Context(), one.ID)
		_, _ = runs.Stop(one.ID)
		all(t, watch)
	}
	if _, err := runs.Find(a.ID); code(err) != CodeUnknown {
		t.Errorf("too old: %v", err)
	}
	if _, err := NewRuns(RunsConfig{}).Start(Order{Plan: long}); code(err) != CodeOff {
		t.Errorf("switched off: %v", err)
	}
}

func TestARunThatCannotBeMadeSaysWhy(t *testing.T) {
	runs := NewRuns(RunsConfig{Base: "ws://127.0.0.1:1"})
	defer runs.Close()
	one, err := runs.Start(Order{Session: "", Path: "/load", Plan: Plan{Connections: 1, Hold: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	watch, _ := runs.Watch(t.Context(), one.ID)
	all(t, watch)
	if one.Result() != nil || !strings.Contains(one.Failure(), "connection refused") {
		t.Errorf("%+v, %q", one.Result(), one.Failure())
	}
}
