package graph

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/graph/model"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/labs/load"
	"github.com/sluice-gateway/sluice/labs/sessions"
)

// loadOrder makes what a client wants into a run against our own servers.
func (r *Resolver) loadOrder(session *string, in model.LoadRunInput) (load.Order, error) {
	servers, err := r.Labs.Servers(session)
	if err != nil {
		return load.Order{}, err
	}
	name := strings.ToLower(string(in.Target))
	if in.Target != model.LoadTargetGraphql && servers.Named(name) == nil {
		return load.Order{}, live.Errorf("ARGUMENT_OUT_OF_RANGE", "target is %s, which this gateway does not offer: it offers %s and GRAPHQL.", in.Target, strings.ToUpper(strings.Join(servers.Names(), ", ")))
	}
	query, err := url.ParseQuery(in.Query)
	if err != nil {
		return load.Order{}, live.Errorf("ARGUMENT_OUT_OF_RANGE", "query %q is not the query of a URL, such as mode=silent.", in.Query)
	}
	order := load.Order{Path: "/" + name, Plan: load.Plan{
		Connections: in.Connections, Loop: in.Loop, Expect: in.Expect, Size: in.Size, Operation: given(in.Operation), Variables: json.RawMessage(in.Variables),
		Ramp: milliseconds(in.RampMs), WarmUp: milliseconds(in.WarmUpMs), Hold: milliseconds(in.HoldMs), Timeout: milliseconds(in.TimeoutMs),
	}, Assertions: in.Assertions}
	if session != nil {
		order.Session, order.Path = *session, sessions.Path+*session+order.Path
	}
	if len(query) > 0 {
		order.Path += "?" + query.Encode()
	}
	if in.Target == model.LoadTargetGraphql {
		order.Plan.Protocol = in.Protocol
	}
	if in.Rate != nil {
		order.Plan.Rate = *in.Rate
	} else if !order.Plan.Listens() {
		order.Plan.Rate = 1
	}
	return order, nil
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// loadRun is a run as a client is told of it.
func loadRun(one *load.Started, err error) (model.LoadRun, error) {
	if err != nil {
		return model.LoadRun{}, err
	}
	return model.NewLoadRun(one), nil
}

func loadProgress(ev live.Event[load.Progress]) (model.LoadProgress, error) {
	return model.NewLoadProgress(ev.Value), nil
}
