package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/labs/load"
)

// loadCommand is `sluice load`: it reads flags and prints, load.Run does the rest.
type loadCommand struct {
	URL string `arg:"" optional:"" help:"The WebSocket to put load on. Default: ${default}, the load server of sluice serve." default:"ws://127.0.0.1:9998"`

	Connections int             `help:"How many WebSockets. Default: ${default}." default:"10" placeholder:"N" group:"How much"`
	Rate        *load.PerSecond `help:"What each connection sends: 20/s, 0.5/s, 30/m. 0: nothing, the connections are only held. Default: 1/s." placeholder:"N/s" group:"How much"`
	Size        int             `help:"Bytes of a message. Default: ${default}." default:"128" placeholder:"BYTES" group:"How much"`
	Binary      bool            `help:"Send bytes, not text." group:"How much"`
	Loop        string          `help:"open: send on schedule, whatever becomes of it, and count latency from the time that a message was due. closed: wait for each answer before the next message, which hides what a stall delays. listen: send nothing, take what comes. Default: ${default}." default:"open" enum:"open,closed,listen" group:"How much"`

	Ramp    time.Duration `help:"From the first connection to the last, evenly. Default: ${default}." default:"1s" placeholder:"TIME" group:"How long"`
	WarmUp  time.Duration `help:"After the ramp, before anything is measured. Default: ${default}." default:"1s" placeholder:"TIME" group:"How long"`
	Hold    time.Duration `help:"What is measured. Default: ${default}." default:"10s" placeholder:"TIME" group:"How long"`
	Timeout time.Duration `help:"For a handshake, and for the last answers. Default: ${default}." default:"5s" placeholder:"TIME" group:"How long"`

	Protocol  string         `help:"${enum}. Default: ${default}, raw messages that the server sends back." default:"websocket" enum:"websocket,graphql-transport-ws,graphql-ws" group:"What is spoken"`
	Operation string         `help:"A GraphQL document. A query or a mutation is run at --rate; a subscription once on each connection." placeholder:"GRAPHQL" group:"What is spoken"`
	Variables string         `help:"Its variables." placeholder:"JSON" group:"What is spoken"`
	Expect    load.PerSecond `help:"How many events a subscription should bring, so that lost ones are counted." placeholder:"N/s" group:"What is spoken"`
	Header    []string       `help:"Of the opening handshake, such as 'Origin: https://app.example'. Repeatable." placeholder:"NAME:VALUE" sep:"none" group:"What is spoken"`

	JSON   string   `help:"Write all results to this file. -: to standard output, instead of the table." name:"json" placeholder:"FILE" group:"What becomes of it"`
	CSV    string   `help:"Write a line for each second to this file." name:"csv" placeholder:"FILE" group:"What becomes of it"`
	Assert []string `help:"What has to hold, else the exit status is 2: p50 p90 p95 p99 p999 max mean (p99<100ms), errors lost abnormal failed (errors<1%), rate (rate>900/s), no-loss, no-doubles, in-order, in-time. Repeatable." placeholder:"ASSERTION" sep:"none" group:"What becomes of it"`
}

// Help implements kong.HelpProvider.
func (*loadCommand) Help() string {
	return `A run has four parts. The ramp opens connections, the warm-up lets things settle, the hold is measured, the drain waits for the last answers. Ctrl-C ends it early and still prints results.

  Hold 200 connections for ten seconds, and send nothing:
    sluice load ws://127.0.0.1:9998 --connections 200 --rate 0 --hold 10s --assert 'abnormal<=1%'
  Send 20 messages a second over each of 50, and fail if that is slow:
    sluice load --connections 50 --rate 20/s --assert 'p99<100ms' --assert no-loss
  The same with a client that waits for answers; compare p99:
    sluice load --connections 50 --rate 20/s --loop closed
  200 subscribers of the gateway:
    sluice load ws://127.0.0.1:8080/graphql --protocol graphql-transport-ws --connections 200
      --operation 'subscription { timeUpdates(intervalMs: 200) }' --expect 5/s

Latency counts from the time that a message was due ("since due"); "since sent" leaves out what it waited for. "Own lateness" is the generator's: if that is large, the figures are the generator's and not the server's.

Exit status: 0, or 1 if there was no run, or 2 if an assertion does not hold.`
}

// errAssertion is the exit status of a run that is not as it should be.
const errAssertion = exitError(2)

func (c *loadCommand) run(ctx context.Context, stdout, stderr io.Writer) error {
	plan, err := c.plan()
	if err != nil {
		return err
	}
	assertions := make([]load.Assertion, len(c.Assert))
	for i, text := range c.Assert {
		if assertions[i], err = load.ParseAssertion(text); err != nil {
			return fmt.Errorf("--assert %w", err)
		}
	}
	result, err := load.Run(ctx, plan, progressTo(stderr))
	var wrong *load.PlanError
	if errors.As(err, &wrong) {
		return fmt.Errorf("--%s %s", wrong.Field, wrong.Text)
	} else if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "load: "))
	}
	holds := true
	for _, assertion := range assertions {
		verdict := assertion.Judge(result)
		result.Verdicts = append(result.Verdicts, verdict)
		holds = holds && verdict.Holds
	}
	if err := c.write(result, stdout); err != nil {
		return err
	}
	if !holds {
		return errAssertion
	}
	return nil
}

func (c *loadCommand) plan() (load.Plan, error) {
	plan := load.Plan{
		URL: c.URL, Protocol: load.Protocol(c.Protocol), Loop: load.Loop(c.Loop), Header: make(http.Header),
		Connections: c.Connections, Expect: float64(c.Expect), Size: c.Size, Binary: c.Binary,
		Operation: c.Operation, Variables: json.RawMessage(c.Variables),
		Ramp: c.Ramp, WarmUp: c.WarmUp, Hold: c.Hold, Timeout: c.Timeout,
	}
	if c.Rate != nil {
		plan.Rate = float64(*c.Rate)
	} else if !plan.Listens() {
		plan.Rate = 1
	}
	for _, header := range c.Header {
		name, value, found := strings.Cut(header, ":")
		if !found {
			return plan, fmt.Errorf("--header %q is not of the form NAME:VALUE", header)
		}
		plan.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return plan, nil
}

// progressTo shows progress: on a terminal in one line that is written anew, else
// a line each time.
func progressTo(w io.Writer) func(load.Progress) {
	if !isTerminal(w) {
		return func(p load.Progress) { fmt.Fprintln(w, p) }
	}
	return func(p load.Progress) {
		fmt.Fprintf(w, "\r\x1b[K%s", p)
		if p.Phase == load.Done {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}

// write writes the result everywhere that it was asked for.
func (c *loadCommand) write(result load.Result, stdout io.Writer) error {
	if c.CSV != "" {
		if err := writeFile("--csv", c.CSV, result.WriteCSV); err != nil {
			return err
		}
	}
	if c.JSON == "-" {
		return result.WriteJSON(stdout)
	}
	if c.JSON != "" {
		if err := writeFile("--json", c.JSON, result.WriteJSON); err != nil {
			return err
		}
	}
	return result.WriteTable(stdout)
}

func writeFile(flag, path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}
