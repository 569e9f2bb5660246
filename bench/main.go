//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/sluice-gateway/sluice/bench/peers"
)

// options are the command line.
type options struct {
	binary  string
	short   bool
	rounds  int
	only    *regexp.Regexp
	profile string
	docs    string
	against string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == "peer" {
		return peer(ctx, args[1], args[2:])
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&o.binary, "binary", "bin/sluice", "the gateway to measure")
	flags.BoolVar(&o.short, "short", false, "the form that takes less than three minutes: fewer rows, shorter runs")
	flags.IntVar(&o.rounds, "rounds", 0, "how often each server is measured for a row; the median counts [3; short form: 3 or 1]")
	only := flags.String("only", "", "measure only the rows whose name matches this regular expression")
	flags.StringVar(&o.profile, "profile", "", "write CPU and heap profiles of the gateway into this folder")
	flags.StringVar(&o.against, "against", "", "another build of the gateway: measure the two in turn, and nothing else")
	flags.StringVar(&o.docs, "docs", "", "write performance.md and performance.svg into this folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return fmt.Errorf("-profile: %w", err)
		}
	}
	return measure(ctx, o)
}

// peer is the process of a server to compare with.
func peer(ctx context.Context, name string, args []string) error {
	flags := flag.NewFlagSet("peer", flag.ExitOnError)
	var brokers peers.Brokers
	flags.StringVar(&brokers.Redis, "redis", "", "host:port")
	flags.StringVar(&brokers.MQTT, "mqtt", "", "host:port")
	addrFile := flags.String("addr-file", "", "where to write the address")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return peers.Serve(ctx, name, *addrFile, brokers)
}

func measure(ctx context.Context, o options) error {
	b, err := newBed(ctx, o.binary, o.profile)
	if err != nil {
		return err
	}
	defer b.close()
	m := describeMachine(b.cores)
	fmt.Printf("%s\n\n", m.line(o.short))
	printHead(os.Stdout)
	var results []result
	for _, r := range rows(o.short) {
		if !o.only.MatchString(r.name) {
			continue
		}
		if o.rounds > 0 {
			r.rounds = o.rounds
		}
		if o.against != "" {
			r.cells = []cell{r.cells[0], onBinary(o.against, r.cells[0])}
		}
		done, err := b.measure(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		printRow(os.Stdout, done)
		results = append(results, done)
	}
	if o.docs == "" {
		return nil
	}
	return writeDocs(o.docs, m, results)
}

// onBinary is a cell of another build of the gateway.
func onBinary(path string, c cell) cell {
	return titled("Sluice, the other build", cell{open: func(ctx context.Context, b *bed, slot int) (opened, error) {
		other := *b
		other.binary = path
		return c.open(ctx, &other, slot)
	}})
}

// measure measures the servers of a row in turn: A B C, A B C, A B C. All of
// them are up meanwhile, and those whose turn it is not are idle.
func (b *bed) measure(ctx context.Context, r row) (result, error) {
	done := result{row: r, samples: make([][]sample, len(r.cells))}
	var open []opened
	defer func() {
		for _, o := range open {
			o.close()
		}
	}()
	for i, c := range r.cells {
		o, err := c.open(ctx, b, i)
		if err != nil {
			return done, err
		}
		open = append(open, o)
	}
	for round := range r.rounds {
		for i, c := range r.cells {
			s, err := open[i].measure()
			if err != nil {
				return done, err
			}
			done.samples[i] = append(done.samples[i], s)
			fmt.Fprintf(os.Stderr, "%s, %s, round %d: %s\n", r.name, c.title, round+1, s.detail)
		}
	}
	return done, nil
}
