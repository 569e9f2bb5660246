// Command sluice puts MQTT topics and Redis channels behind GraphQL
// subscriptions. `sluice --help` lists what it can be told.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go obey(signals, stop)
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		var exit exitError
		if errors.As(err, &exit) {
			os.Exit(int(exit))
		}
		fmt.Fprintln(os.Stderr, "sluice:", err)
		os.Exit(1)
	}
}

// obey stops the program on the first signal and ends it on the second, with the
// status that shells give to programs that a signal ended.
func obey(signals <-chan os.Signal, stop context.CancelFunc) {
	<-signals
	stop()
	second := <-signals
	fmt.Fprintf(os.Stderr, "sluice: %v again: ended at once, without waiting for clients\n", second)
	status := 1
	if number, ok := second.(syscall.Signal); ok {
		status = 128 + int(number)
	}
	os.Exit(status)
}

// exitError ends the program without another word: it has been said already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command, err := parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	return command.run(ctx, stdout, stderr)
}
