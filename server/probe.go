package server

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
	"github.com/sluice-gateway/sluice/labs/probe"
	"github.com/sluice-gateway/sluice/labs/sessions"
	"github.com/sluice-gateway/sluice/lessons"
)

// probeCases names the steps of a probe's report to the lessons' matchers.
var probeCases = map[string]string{
	"S1": "handshake", "S2": "echo", "S3": "fragments", "S4": "close", "S5": "refusals", "S6": "load", "S7": "leaves",
}

// takeProbe takes the report of `sluice probe`, which runs where the learner's
// server is, for the lab session that it was sent to.
func (s *Server) takeProbe(room *lessons.Classroom) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			s.refuse(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "The report of a probe comes by POST: `sluice probe --session` sends it.")
			return
		}
		if !s.clients.mayPublish(r.Context(), 1) {
			s.refuse(w, http.StatusTooManyRequests, "RATE_LIMITED", fmt.Sprintf("You publish faster than %g times a second: wait a moment.", float64(s.clients.rate)))
			return
		}
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, probe.MaxReport+1))
		if err != nil {
			s.refuse(w, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The report of a probe is too large.")
			return
		}
		report, err := probe.ParseReport(text)
		if err != nil {
			s.refuse(w, http.StatusBadRequest, "BAD_REQUEST", "This is no report of a probe: "+err.Error()+".")
			return
		}
		if err := room.Tell(sessions.From(r.Context()).ID, probed(report)...); err != nil {
			s.refuse(w, http.StatusConflict, lessons.CodeNoLesson, err.Error())
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func (s *Server) refuse(w http.ResponseWriter, status int, code, message string) {
	s.refusals.add(code)
	refuse(w, status, code, message)
}

// probed is what a report says to a grader, step by step.
func probed(report *probe.Report) []lessons.Event {
	var events []lessons.Event
	for _, step := range []string{"S1", "S2", "S3", "S4", "S5", "S6", "S7"} {
		e := lessons.Event{Event: wire.Event{At: time.Now()}, Probe: &lessons.Probe{Case: probeCases[step], Passed: report.Passed(step), Value: make(map[string]any)}}
		for _, check := range report.Checks {
			if check.Step == step && check.Status == probe.Failed {
				e.Probe.Value["failed"], e.Probe.Value["saw"], e.Probe.Value["wanted"] = check.Title, check.Saw, check.Wanted
				break
			}
		}
		events = append(events, e)
	}
	return events
}
