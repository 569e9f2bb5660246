//go:build unix

package testenv

import (
	"syscall"
	"testing"
	"time"
)

// Pause stops the program without ending it, as an overloaded machine or a
// broken network would: connections stay open and nobody answers. Resume lets
// it go on; so does Stop.
func (p *Process) Pause(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGSTOP)
}

// Resume ends a Pause.
func (p *Process) Resume(tb testing.TB) {
	tb.Helper()
	p.signal(tb, syscall.SIGCONT)
}

// Terminate asks the program to end, waits until it is gone and returns its
// exit status, -1 if a signal ended it.
func (p *Process) Terminate(tb testing.TB, within time.Duration) int {
	tb.Helper()
	p.signal(tb, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(within):
		tb.Fatalf("%s still runs %v after SIGTERM", p.bin, within)
	}
	p.stop()
	p.stop = nil
	return p.state.ExitCode()
}

func (p *Process) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := p.process.Signal(s); err != nil {
		tb.Fatalf("cannot send %v to %s: %v", s, p.bin, err)
	}
}
