package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/labs/load"
)

func TestLoadSettingsThatAreRefused(t *testing.T) {
	tests := []struct {
		args []string
		want string // part of the error: what is accepted, or what to do
	}{
		{[]string{"http://h/"}, "--url \"http://h/\" is not a WebSocket's, such as ws://127.0.0.1:9998"},
		{[]string{"--connections", "0"}, "--connections is 0: 1 to 100000"},
		{[]string{"--rate", "fast"}, "20/s, 0.5/s or 30/m"},
		{[]string{"--rate", "20/h"}, "20/s, 0.5/s or 30/m"},
		{[]string{"--loop", "ajar"}, `"open","closed","listen"`},
		{[]string{"--protocol", "mqtt"}, `"graphql-transport-ws"`},
		{[]string{"--protocol", "graphql-ws"}, "--operation is missing: a GraphQL document"},
		{[]string{"--loop", "listen", "--rate", "1/s"}, "expect says how many"},
		{[]string{"--hold", "25h"}, "at most 24h"},
		{[]string{"--size", "10"}, "63 to 1048576"},
		{[]string{"--header", "Origin"}, "NAME:VALUE"},
		{[]string{"--assert", "fast"}, "no-loss"},
		{[]string{"--connectoins", "2"}, "--connections"},
	}
	for _, test := range tests {
		err := run(t.Context(), append([]string{"load"}, test.args...), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want it to say %s", test.args, err, test.want)
		}
	}
}

func TestLoadPrintsAndWritesWhatItHasMeasured(t *testing.T) {
	target := load.New(load.Config{})
	web := httptest.NewServer(target)
	defer web.Close()
	defer func() { _ = target.Shutdown(context.Background()) }()
	dir := t.TempDir()
	args := []string{
		"load", "ws" + strings.TrimPrefix(web.URL, "http"), "--connections", "5", "--rate", "20/s", "--ramp", "0", "--warm-up", "0", "--hold", "500ms",
		"--csv", filepath.Join(dir, "a.csv"),
	}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), append(args, "--json", filepath.Join(dir, "a.json"), "--assert", "no-loss"), &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "\nHolds         no-loss (0)\n") || !strings.HasPrefix(stderr.String(), "done ") {
		t.Errorf("printed\n%s\n%s", &stdout, &stderr)
	}
	for _, name := range []string{"a.csv", "a.json"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	stdout.Reset()
	err := run(t.Context(), append(args, "--json", "-", "--assert", "rate>100000/s"), &stdout, &stderr)
	if status := exitError(0); !errors.As(err, &status) || status != 2 {
		t.Errorf("an assertion that does not hold: %v", err)
	}
	var result struct{ Messages struct{ Due int } }
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil || result.Messages.Due != 50 {
		t.Errorf("%v: %s", err, &stdout)
	}
}
