package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// tally is what the status URL said while the visitors were there.
type tally struct {
	n   int
	err error
}

// held asks the server how many WebSockets it holds.
func (p *prober) held(ctx context.Context) (t tally) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.cfg.StatusURL, nil)
	if err != nil {
		return tally{err: err}
	}
	response, err := p.status.Do(request)
	if err != nil {
		return tally{err: told(err)}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64))
	if err != nil {
		return tally{err: told(err)}
	}
	if response.StatusCode != http.StatusOK {
		return tally{err: fmt.Errorf("it answers %s", response.Status)}
	}
	if t.n, err = strconv.Atoi(strings.TrimSpace(string(body))); err != nil || t.n < 0 {
		return tally{err: fmt.Errorf("its answer %q is not a number", short(string(body), 64))}
	}
	return t
}

func countsNone(ctx context.Context, p *prober) outcome {
	switch {
	case p.status == nil:
		return skip("not asked for: there is no status URL")
	case p.before.err != nil:
		return fail("the status URL is of no use: %v", p.before.err)
	case p.during.err != nil:
		return fail("the status URL is of no use: %v", p.during.err)
	case p.came == 0:
		return skip("not tried: no connection of step S6 was open")
	case p.during.n < p.before.n+p.came:
		return fail("with %d connections of step S6 open it counted %d, and %d before", p.came, p.during.n, p.before.n)
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	last := tally{}
	for end := time.Now().Add(leaveTime); time.Now().Before(end) && ctx.Err() == nil; <-poll.C {
		if last = p.held(ctx); last.err == nil && last.n <= p.before.n {
			return pass("%d while they were there, then %d", p.during.n, last.n)
		}
	}
	if last.err != nil {
		return fail("the status URL is of no use: %v", last.err)
	}
	return fail("%d, %v after the last had left; %d before they came", last.n, leaveTime, p.before.n)
}
