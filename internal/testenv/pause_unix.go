//go:build unix

package testenv

import (
	"syscall"
	"testing"
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

func (p *Process) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := p.process.Signal(s); err != nil {
		tb.Fatalf("cannot send %v to %s: %v", s, p.bin, err)
	}
}
