//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is what the figures were measured on.
type machine struct {
	cpu, kernel string
	cores       cores
}

func describeMachine(c cores) machine {
	m := machine{cpu: "unknown CPU", cores: c}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.cpu = strings.TrimSpace(value)
			break
		}
	}
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			m.kernel += string(rune(byte(c)))
		}
	}
	return m
}

func (m machine) line(short bool) string {
	form := "full form"
	if short {
		form = "short form"
	}
	return fmt.Sprintf("%s, %s, %d cores, Linux %s, %s, %s. Server on core %s, load and brokers on core %s.",
		runtime.Version(), m.cpu, runtime.NumCPU(), m.kernel, time.Now().UTC().Format(time.DateOnly), form, m.cores.server, m.cores.load)
}

// columns of the table, besides what and the verdict.
var columns = []string{colSluice, colFloor, colStock, colChat, colOther}

func printHead(w io.Writer) {
	fmt.Fprint(w, "| What |")
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", columnTitles[c])
	}
	fmt.Fprintf(w, " Sluice is (target) |\n|---|%s---|\n", strings.Repeat("---|", len(columns)))
}

func printRow(w io.Writer, r result) {
	fmt.Fprintf(w, "| %s |", r.title)
	for _, column := range columns {
		var texts []string
		for i, c := range r.cells {
			if c.key == column {
				text := r.cellText(i)
				if c.title != columnTitles[column] {
					text = c.title + ": " + text
				}
				texts = append(texts, text)
			}
		}
		fmt.Fprintf(w, " %s |", strings.Join(texts, "<br>"))
	}
	fmt.Fprintf(w, " %s |\n", strings.Join(r.verdicts(), "<br>"))
}

// cellText is the median, and the range where there was more than one round.
func (r result) cellText(i int) string {
	middle := r.median(i)
	if middle.text != "" {
		return middle.text + faults(middle)
	}
	text := r.format(middle.value)
	if n := len(r.samples[i]); n > 1 {
		low, high := r.samples[i][0].value, r.samples[i][0].value
		for _, s := range r.samples[i] {
			low, high = min(low, s.value), max(high, s.value)
		}
		text += fmt.Sprintf(" (%s–%s)", number1(r, low), number1(r, high))
	}
	return text + faults(middle)
}

// number1 is a formatted value without its unit.
func number1(r result, v float64) string {
	text, _, _ := strings.Cut(r.format(v), " ")
	return text
}

func faults(s sample) (text string) {
	if s.lost > 0 {
		text += ", lost " + thousands(s.lost)
	}
	if s.mixed > 0 {
		text += ", doubled or out of order " + thousands(s.mixed)
	}
	return text
}

// verdicts compare the first cell with every other one.
func (r result) verdicts() (list []string) {
	mine := r.median(0)
	for i, c := range r.cells {
		t, promised := r.targetAgainst(c.title, i)
		switch {
		case i == 0 && promised:
			list = append(list, "target "+t.text+": "+verdict(mine, mine.value, t))
		case i > 0 && r.median(i).text == "":
			ratio := r.ratio(i)
			text := fmt.Sprintf("%s × %s", ratioText(ratio), c.title)
			if promised {
				text += fmt.Sprintf(" (target %s: %s)", t.text, verdict(mine, ratio, t))
			}
			list = append(list, text)
		}
	}
	return list
}

// ratio is the median of the ratios of the first cell to another one, round by
// round: what was slow for both of them cancels out.
func (r result) ratio(i int) float64 {
	var ratios []float64
	for round, other := range r.samples[i] {
		ratios = append(ratios, r.samples[0][round].value/other.value)
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

func (r result) targetAgainst(title string, i int) (target, bool) {
	for _, t := range r.targets {
		if t.against == title || t.against == "" && i == 0 {
			return t, true
		}
	}
	return target{}, false
}

// verdict says whether a target is met; what was lost, or came twice or out of order, misses it.
func verdict(mine sample, value float64, t target) string {
	if value <= t.most && mine.lost == 0 && mine.mixed == 0 && !mine.over {
		return "**met**"
	}
	return "**missed**"
}

// ratioText writes small ratios as fractions, which is how the targets are given.
func ratioText(ratio float64) string {
	if ratio < 0.5 {
		return fmt.Sprintf("1/%.1f", 1/ratio)
	}
	return fmt.Sprintf("%.2f", ratio)
}

func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// writeDocs writes the page and its plot.
func writeDocs(dir string, m machine, results []result) error {
	var page strings.Builder
	fmt.Fprintf(&page, pageHead, m.line(false))
	printHead(&page)
	for _, r := range results {
		printRow(&page, r)
	}
	page.WriteString(pagePlot)
	page.WriteString("\n## The rows\n\n")
	for _, r := range results {
		fmt.Fprintf(&page, "- **%s** (`-only '^%s$'`). %s\n", upperFirst(r.title), r.name, r.explain)
	}
	page.WriteString(pageTail)
	if err := os.WriteFile(filepath.Join(dir, "performance.md"), []byte(page.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "performance.svg"), []byte(plot(results)), 0o644)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

const pageHead = `# Performance

<!-- Written by make bench-full. Do not edit: change bench/ instead. -->

How much of a machine the gateway needs, next to servers that do the same. The
figures are CPU time of the server's process, as a user and in the kernel, for
one delivery (one message at one subscriber) unless a row says otherwise. Less is
better. Each is the median of the rounds, with the lowest and the highest in
brackets; the servers took turns. The ratios are what to look at: another machine
changes all figures, but the ratios hardly.

%s

`

const pagePlot = `
![The CPU time per delivery of each server](performance.svg)
`

const pageTail = `
## Who is compared

- **Sluice**: the built binary with real brokers and ` + "`--production`" + `, limits out of the way.
- **raw ` + "`write(2)`" + `**: a server without GraphQL that writes a ready frame to each subscriber, the least that can be done; *batched*: all messages that wait in one write. It does nothing about clients that do not read.
- **gqlgen's stock transport**: the same schema, resolvers and bridges as Sluice behind ` + "`transport.Websocket`" + ` with its default library, coder/websocket (in one row also on gorilla/websocket), or ` + "`transport.SSE`" + `.
- **gorilla broadcast**: the way of gorilla's chat example, with a channel and a writing goroutine for each client, which makes the JSON for it.

## What is not in the table

- **TLS**: the gateway leaves it to the proxy in front. A socket that is not the system's own cannot be written to without waiting, so an embedder who brings TLS loses the direct write of a worker.
- **Many cores**: servers are held to one core, so that the load on the other cores is never what is measured.
- **A network**: everything is on loopback. Latencies include the broker and the clients of the same machine.

## Repeat it

` + "```sh" + `
make bench        # less than three minutes, prints a table
make bench-full   # everything; writes this page and its plot
go run ./bench -only burst -profile /tmp/profiles   # one row, with pprof profiles of the gateway
` + "```" + `

It needs Linux, taskset (util-linux), redis-server and mosquitto. 10,000 sockets need ` + "`ulimit -n`" + ` of at least 10,100. A machine that does other things at the same time makes the figures of all servers larger; the range in brackets shows how steady they were.

The Go benchmarks of the single steps: ` + "`go test -run '^$' -bench . -benchmem ./server/gqlws ./internal/live ./internal/eventlog/...`" + `.
`
