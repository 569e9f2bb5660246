package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// wrap runs a command with one more variable in its environment. Its error is
// the command's status. When ctx ends, the command is asked to end, too.
func wrap(ctx context.Context, args []string, variable string, stdout, stderr io.Writer) error {
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, stdout, stderr
	command.Env = append(os.Environ(), variable)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, context.Canceled): // it was asked to end, and ended well
		return nil
	case !errors.As(err, &exit):
		return err
	}
	code := exit.ExitCode()
	if state, ok := exit.Sys().(syscall.WaitStatus); ok && state.Signaled() {
		code = 128 + int(state.Signal())
	}
	return exitError(code)
}
