package conformance

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What the documents say that no case can check at a server.
var modernAsksNothing = []excuse{
	{`Socket is the main WebSocket communication channel between the server and the client`, "defines a word"},
	{`Connection is a connection within the established socket describing`, "defines a word"},
	{`This connection is not the actual WebSocket communication channel`, "defines a word"},
	{`Useful for detecting failed connections`, "explains a use"},
	{`The asynchronous nature of the full-duplex connection means that`, "explains the sentence after it"},
	{`For the sake of clarity, the following examples`, "introduces the examples"},
	{`Client sends a WebSocket handshake request with the sub-protocol: graphql-transport-ws`, "a step of the client"},
	{`Client immediately dispatches a ConnectionInit message`, "a step of the client"},
	{`Client has received the acknowledgement message`, "a step of the client"},
	{`Client does not dispatch a ConnectionInit message`, "a step of the client"},
	{`Server waits for the ConnectionInit message for the duration`, "inside the server; its end is checked"},
	{`Server waiting time has passed`, "inside the server; its end is checked"},
	{`The client and the server has already gone through`, "where an example begins"},
	{`Client generates a unique ID for the following operation`, "a step of the client"},
	{`Client dispatches the Subscribe message with the generated ID`, "a step of the client"},
	{`All future communication is linked through this unique ID`, "a step of the client"},
	{`If unique, continue...`, "no message"},
	{`Server optionally checks if the operation is valid before starting executing it`, "inside the server; its outcome is checked"},
	{`If valid, continue...`, "no message"},
	{`Client completes the stream observer`, "a step of the client"},
	{`Client stops the subscription by dispatching a Complete message`, "a step of the client"},
	{`Client ignores all further messages that it receives with this ID`, "a step of the client"},
	{`Simultaneously client stops the subscription`, "a step of the client"},
	{`import { ExecutionResult } from 'graphql';`, "a part of an interface"},
}

var legacyAsksNothing = []excuse{
	{`This is the structure of each message:`, "introduces an interface"},
	{`The client starts to consider the keep alive message only upon the first received`, "a step of the client"},
	{`This is a demonstration of client-server communication`, "introduces the examples"},
	{`The phase initializes the connection between the client and server`, "inside the server"},
	{`Client connected immediately, or stops and wait if using lazy mode`, "a step of the client"},
	{`Client gets GQL_CONNECTION_ACK`, "a step of the client"},
	{`This phase called per each operation the client request to execute:`, "introduces the steps"},
	{`Client get GQL_DATA and handles it.`, "a step of the client"},
	{`Server calls onOperationDone if the operation is a query or mutation`, "inside the server"},
	{`For subscriptions:`, "introduces the steps"},
}

// TestEverySentence proves that nothing in the documents has been overlooked,
// and that everything that is quoted is there.
func TestEverySentence(t *testing.T) {
	for _, d := range documents {
		if d.file == "" {
			continue
		}
		text, err := os.ReadFile(d.file)
		if err != nil {
			t.Fatal(err)
		}
		said := sentences(string(text))
		quoted := quotes(d)
		for _, s := range said {
			if !anyOverlaps(quoted, s) {
				t.Errorf("%s: no case quotes %q", d.key, s)
			}
		}
		for _, q := range quoted {
			if !strings.Contains(strings.Join(said, " "), q) {
				t.Errorf("%s: the document does not say %q", d.key, q)
			}
		}
	}
}

func quotes(d document) (all []string) {
	for _, c := range d.cases {
		if c.level != open {
			all = append(all, c.quote)
		}
	}
	for _, e := range d.asksNothing {
		all = append(all, e.quote)
	}
	return all
}

func anyOverlaps(quotes []string, sentence string) bool {
	for _, q := range quotes {
		if strings.Contains(sentence, q) || strings.Contains(q, sentence) {
			return true
		}
	}
	return false
}

var (
	fences    = regexp.MustCompile("(?s)```\\w*\n(.*?)```")
	tags      = regexp.MustCompile(`</?(br|h3)[^>]*>`)
	links     = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	emphasis  = regexp.MustCompile(`(^|[^A-Za-z_])_([^_\n]+)_($|[^A-Za-z_])`)
	bullets   = regexp.MustCompile(`^(\s*(-|\*|\d+\.)\s+)+`)
	fullStops = regexp.MustCompile(`[.!?]\)?\s+([A-Z]|\(for )`)
)

// sentences takes a Markdown document apart: without headings and marks, a code
// block as one sentence.
func sentences(markdown string) (all []string) {
	markdown = fences.ReplaceAllStringFunc(markdown, func(block string) string {
		code := fences.FindStringSubmatch(block)[1]
		return strings.Join(strings.Fields(code), " ")
	})
	markdown = links.ReplaceAllString(tags.ReplaceAllString(markdown, ""), "$1")
	for line := range strings.Lines(markdown) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "Successful connection") {
			continue
		}
		line = bullets.ReplaceAllString(line, "")
		line = strings.NewReplacer("`", "", "**", "").Replace(line)
		line = emphasis.ReplaceAllString(emphasis.ReplaceAllString(line, "$1$2$3"), "$1$2$3")
		if line = strings.TrimSpace(line); line == "" || line == "or" {
			continue
		}
		all = append(all, split(line)...)
	}
	return all
}

// split cuts a line after each full stop.
func split(line string) (all []string) {
	for {
		at := fullStops.FindStringSubmatchIndex(line)
		if at == nil {
			return append(all, line)
		}
		all = append(all, strings.TrimSpace(line[:at[2]]))
		line = line[at[2]:]
	}
}
