package lessons

import (
	"strings"
	"testing"
)

func TestAFactOfTheLessonIsKnownToEverySession(t *testing.T) {
	const match = `{"on": "answer", "where": {"name": "code", "value": {"fact": "code"}}}`
	facts := []Fact{{Name: "code", Type: "number", About: "what a client reports after a cut", Value: 1006.0}}
	n, err := parse([]byte(match))
	if err != nil {
		t.Fatal(err)
	}
	var written matchNode
	if err := bind(n, &written); err != nil {
		t.Fatal(err)
	}
	matcher, err := compile(&written, facts, []string{"S1"}, "S1")
	if err != nil {
		t.Fatal(err)
	}
	l := &Lesson{Facts: facts, Steps: []Step{{ID: "S1", matcher: matcher}}}
	for _, c := range []struct {
		cfg    Config
		answer any
		want   State
	}{
		{Config{}, 1006.0, Ticked},
		{Config{}, "1006", Ticked},
		{Config{}, 1005.0, Open},
		{Config{Facts: map[string]any{"code": 1005.0}}, 1005.0, Ticked}, // the host's value goes before
		{Config{Facts: map[string]any{"code": 1005.0}}, 1006.0, Open},
	} {
		event := Event{Answer: &Answer{Step: "S1", Name: "code", Value: c.answer}}
		if got := Grade(l, c.cfg, []Event{event})[0].State; got != c.want {
			t.Errorf("with %v the answer %v leaves the step %s", c.cfg.Facts, c.answer, got)
		}
	}
}

func TestAFactOfTheLessonIsOfItsType(t *testing.T) {
	for _, c := range []struct {
		fact string
		want string // in the error; empty: none
	}{
		{`{"name": "a", "type": "number", "about": "x", "value": 23.08}`, ""},
		{`{"name": "a", "type": "number", "about": "x", "value": "23"}`, "type number"},
		{`{"name": "a", "type": "bool", "about": "x", "value": false}`, ""},
		{`{"name": "a", "type": "bool", "about": "x", "value": "no"}`, "type bool"},
		{`{"name": "a", "type": "hex", "about": "x", "value": "82 7E"}`, ""},
		{`{"name": "a", "type": "hex", "about": "x", "value": "82 7"}`, "type hex"},
		{`{"name": "a", "type": "list", "about": "x", "value": ["a", "b"]}`, ""},
		{`{"name": "a", "type": "set", "about": "x", "value": "a"}`, "type set"},
		{`{"name": "a", "type": "word", "about": "x", "value": 1}`, "type word"},
	} {
		var f Fact
		n, err := parse([]byte(c.fact))
		if err == nil {
			err = bind(n, &f)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = checkFacts([]Fact{f})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.fact, err)
		}
	}
}
