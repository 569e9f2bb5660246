package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/labs/probe"
)

// probeCommand tests a learner's own server. Its exit status is 1 when a check
// failed.
type probeCommand struct {
	URL string `arg:"" help:"Your server on this machine, such as ws://127.0.0.1:8090/. It has to send back what it gets."`

	StatusURL string `help:"Where your server answers GET with the number of its open WebSockets, such as http://127.0.0.1:8090/connections." placeholder:"URL"`
	TooLarge  int    `help:"Bytes of a message that your server has to refuse with 1009." placeholder:"BYTES"`
	Session   string `help:"Report the result to this lab session." placeholder:"URL"`
	JSON      bool   `help:"Print the result as JSON." name:"json"`
}

// Help is what --help says besides the flags.
func (*probeCommand) Help() string {
	return `It tries one thing after the other, from the handshake to fifty connections at once, and says of each that fails what it saw, what it wanted and where RFC 6455 asks for it.

    Test the server that you write:
      sluice probe ws://127.0.0.1:8090/
    Also that it counts its connections, and refuses messages beyond 1 MiB:
      sluice probe ws://127.0.0.1:8090/ --status-url http://127.0.0.1:8090/connections --too-large 1048577
    See the report of a server that passes, with a gateway running:
      sluice probe ws://127.0.0.1:8080/echo

Exit status: 0 when everything that was asked for passed, else 1.`
}

func (c *probeCommand) run(ctx context.Context, stdout, _ io.Writer) error {
	report, err := probe.Run(ctx, probe.Config{URL: c.URL, StatusURL: c.StatusURL, TooLarge: c.TooLarge})
	if err != nil {
		return err
	}
	asJSON, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = fmt.Fprintf(stdout, "%s\n", asJSON)
	} else {
		err = report.WriteTable(stdout)
	}
	if err != nil {
		return err
	}
	if c.Session != "" {
		if err := tell(ctx, c.Session, asJSON); err != nil {
			return err
		}
	}
	if !report.Passed("") {
		return exitError(1)
	}
	return nil
}

// tell reports to a lab session. The id of a session is in its URL, so no error
// repeats that.
func tell(ctx context.Context, session string, report []byte) error {
	u, err := url.Parse(session)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("--session is not a URL of the form http://127.0.0.1:8080/lab/…")
	}
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("probe").String(), bytes.NewReader(report))
	if err != nil {
		return fmt.Errorf("--session: the request cannot be made")
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("the result could not be reported: %s does not answer", u.Host)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		why, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return fmt.Errorf("the result was not taken: %s answers %s: %s", u.Host, response.Status, strings.TrimSpace(string(why)))
	}
	return nil
}
