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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		var exit exitError
		if errors.As(err, &exit) {
			os.Exit(int(exit))
		}
		fmt.Fprintln(os.Stderr, "sluice:", err)
		os.Exit(1)
	}
}

// exitError ends the program without another word: it has been said already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command, cfg, err := parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	if command == "version" {
		_, err := fmt.Fprintln(stdout, "sluice", version())
		return err
	}
	return serve(ctx, cfg, stdout, stderr)
}
