package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/labs/probe"
)

// The gateway's own echo server passes its own probe, and a lab session would
// read the report.
func TestProbeReportsToTheSession(t *testing.T) {
	p := startProgram(t)
	var told *probe.Report
	session := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.Method == http.MethodPost && r.URL.Path == "/lab/secret/probe" && r.Header.Get("Content-Type") == "application/json" {
			if told, err = probe.ParseReport(body); err == nil {
				return
			}
		}
		http.Error(w, "That is no report.", http.StatusBadRequest)
	}))
	defer session.Close()

	var out bytes.Buffer
	if err := run(t.Context(), []string{"probe", "ws://" + p.addr + "/echo", "--session", session.URL + "/lab/secret"}, &out, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if told == nil || !told.Passed("") || !strings.Contains(out.String(), " 0 failed, ") {
		t.Errorf("told %+v and printed\n%s", told, out.String())
	}
	out.Reset()
	if err := run(t.Context(), []string{"probe", "ws://" + p.addr + "/echo", "--json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := probe.ParseReport(out.Bytes()); err != nil {
		t.Error(err)
	}
	for url, want := range map[string]string{
		session.URL + "/other/secret": "That is no report.",
		"http://127.0.0.1:1/secret":   "does not answer",
		"secret":                      "--session is not a URL",
	} {
		err := run(t.Context(), []string{"probe", "ws://" + p.addr + "/echo", "--session", url}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestProbeEndsWithTheRightStatus(t *testing.T) {
	notFound := httptest.NewServer(http.NotFoundHandler())
	defer notFound.Close()
	var exit exitError
	if err := run(t.Context(), []string{"probe", "ws" + strings.TrimPrefix(notFound.URL, "http")}, io.Discard, io.Discard); !errors.As(err, &exit) || exit != 1 {
		t.Errorf("a server that fails: %v", err)
	}
	if err := run(t.Context(), []string{"probe", "ws://192.0.2.1/"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "not on this machine") {
		t.Errorf("a server elsewhere: %v", err)
	}
}
