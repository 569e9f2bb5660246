package lessons

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func question(t *testing.T, text string) *Question {
	t.Helper()
	q := new(Question)
	if err := decode("question.json", []byte(text), q, q.check); err != nil {
		t.Fatal(err)
	}
	return q
}

// TestCheck: each kind of question is marked, and each mistake gets its why.
func TestCheck(t *testing.T) {
	const head = `{"id": "Q1", "area": "api", "prompt": {"en": "?", "ja": "?"}, "why": {"en": "right", "ja": "正解"}, `
	const choices = `"choices": [{"id": "a", "en": "a", "ja": "a", "why": {"en": "not a", "ja": "a"}}, {"id": "b", "en": "b", "ja": "b", "why": {"en": "not b", "ja": "b"}}, {"id": "c", "en": "c", "ja": "c", "why": {"en": "not c", "ja": "c"}}], `
	single := question(t, head+choices+`"kind": "single", "answer": "b"}`)
	multi := question(t, head+choices+`"kind": "multi", "answer": ["a", "c"]}`)
	order := question(t, head+choices+`"kind": "order", "answer": ["c", "a", "b"]}`)
	number := question(t, head+`"kind": "number", "answer": {"value": 23, "tolerance": 0.5}, "mistakes": [{"value": 30, "why": {"en": "6 of 20", "ja": "20"}}]}`)
	hex := question(t, head+`"kind": "hex", "answer": {"value": "81 85"}, "mistakes": [{"value": "8105", "why": {"en": "a client masks", "ja": "マスク"}}]}`)

	tests := []struct {
		name  string
		q     *Question
		reply Reply
		right bool
		why   string
		of    []string // choices that get a why
		place int
	}{
		{"single right", single, Reply{Choices: []string{"b"}}, true, "right", nil, 0},
		{"single wrong", single, Reply{Choices: []string{"a"}}, false, "not a", []string{"a"}, 0},
		{"single two", single, Reply{Choices: []string{"a", "b"}}, false, "", []string{"a"}, 0},
		{"single nothing", single, Reply{}, false, "", nil, 0},
		{"multi right", multi, Reply{Choices: []string{"c", "a"}}, true, "right", nil, 0},
		{"multi right twice", multi, Reply{Choices: []string{"c", "a", "c"}}, true, "right", nil, 0},
		{"multi too few", multi, Reply{Choices: []string{"c"}}, false, "", nil, 0},
		{"multi too many", multi, Reply{Choices: []string{"a", "b", "c"}}, false, "", []string{"b"}, 0},
		{"multi unknown", multi, Reply{Choices: []string{"a", "c", "z"}}, false, "", []string{"z"}, 0},
		{"order right", order, Reply{Choices: []string{"c", "a", "b"}}, true, "right", nil, 0},
		{"order second wrong", order, Reply{Choices: []string{"c", "b", "a"}}, false, "not b", []string{"b"}, 2},
		{"order too short", order, Reply{Choices: []string{"c", "a"}}, false, "", nil, 3},
		{"order too long", order, Reply{Choices: []string{"c", "a", "b", "b"}}, false, "", nil, 4},
		{"number right", number, Reply{Number: 23.077}, true, "right", nil, 0},
		{"number at the edge", number, Reply{Number: 22.5}, true, "right", nil, 0},
		{"number known mistake", number, Reply{Number: 30}, false, "6 of 20", nil, 0},
		{"number unknown mistake", number, Reply{Number: 24}, false, "", nil, 0},
		{"hex right", hex, Reply{Hex: "0x81 0x85"}, true, "right", nil, 0},
		{"hex right without spaces", hex, Reply{Hex: "8185"}, true, "right", nil, 0},
		{"hex known mistake", hex, Reply{Hex: "81 05"}, false, "a client masks", nil, 0},
		{"hex is none", hex, Reply{Hex: "8"}, false, "", nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := test.q.Check(test.reply)
			var of []string
			for id := range m.Of {
				of = append(of, id)
			}
			slices.Sort(of)
			if m.Right != test.right || m.Why.EN != test.why || m.Place != test.place || !slices.Equal(of, test.of) {
				t.Errorf("got %+v", m)
			}
		})
	}
}

// TestRight: of every question the right reply is right, and each wrong choice
// and each mistake is wrong with a why in both languages.
func TestRight(t *testing.T) {
	for _, l := range embedded(t).Lessons {
		for _, q := range l.Quiz {
			if m := q.Check(q.Right()); !m.Right || m.Why != q.Why {
				t.Errorf("%s %s: the right reply is marked %+v", l.Slug, q.ID, m)
			}
			for _, c := range q.Choices {
				if m := q.Check(Reply{Choices: []string{c.ID}}); q.Kind == Single && !m.Right && (m.Why.EN == "" || m.Why.JA == "") {
					t.Errorf("%s %s: choice %s is marked %+v", l.Slug, q.ID, c.ID, m)
				}
			}
			for _, mistake := range q.Mistakes {
				number, _ := mistake.Value.(float64)
				text, _ := mistake.Value.(string)
				if m := q.Check(Reply{Number: number, Hex: text}); m.Right || m.Why != mistake.Why {
					t.Errorf("%s %s: the mistake %v is marked %+v", l.Slug, q.ID, mistake.Value, m)
				}
			}
		}
	}
}

var day = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

func after(days float64) time.Time {
	return day.Add(time.Duration(days * 24 * float64(time.Hour)))
}

// TestReviews: a wrong answer comes back after one, three and nine days, and
// changes no score then.
func TestReviews(t *testing.T) {
	p := Progress{}.Answer(model, "Q1", false, day)
	for i, due := range []float64{1, 3, 9} {
		if got := p.Due(after(due - 0.1)); len(got) != 0 {
			t.Errorf("check %d is due too early: %v", i+1, got)
		}
		if got := p.Due(after(due)); !slices.Equal(got, []string{model + "/Q1"}) {
			t.Errorf("check %d is not due after %v days: %v", i+1, due, got)
		}
		if i == 0 {
			p = p.Answer(model, "Q1", true, after(1)) // mended meanwhile: the checks stay
		}
		p = p.QuickCheck(model, "Q1")
	}
	if got := p.Due(after(100)); len(got) != 0 {
		t.Errorf("there is a fourth check: %v", got)
	}
	if !p.Answers[model+"/Q1"].Right {
		t.Error("quick checks changed the answer")
	}
	p = p.Answer(model, "Q1", false, after(20))
	if got := p.Due(after(21)); len(got) != 1 {
		t.Error("another wrong answer begins no reviews")
	}
	p = p.Answer(model, "Q2", false, after(19))
	if got := p.Due(after(30)); !slices.Equal(got, []string{model + "/Q2", model + "/Q1"}) {
		t.Errorf("the longest overdue is not first: %v", got)
	}
}

// TestProgressIsAValue: what changes it returns another, and JSON keeps it.
func TestProgressIsAValue(t *testing.T) {
	empty := Progress{}
	p := empty.Tick(model, "S1", day).Tick(model, "S1", after(1)).Answer(model, "Q1", false, day).QuickCheck(model, "Q1")
	if len(empty.Steps) != 0 || len(empty.Answers) != 0 {
		t.Error("the empty progress was changed")
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":1,"steps":{"what-is-websocket/S1":"2026-04-01T12:00:00Z"},"answers":{"what-is-websocket/Q1":{"right":false,"at":"2026-04-01T12:00:00Z","wrong":"2026-04-01T12:00:00Z","checks":1}}}`
	if string(b) != want {
		t.Errorf("the JSON form is\n%s\nwant\n%s", b, want)
	}
	again, err := ParseProgress(b)
	if err != nil || !cmp.Equal(again, p) {
		t.Errorf("read again it is %v, %v", again, err)
	}
	for _, bad := range []string{`{}`, `{"version":2}`, `[]`, `{"version":1,"answers":{"a/Q1":{"checks":-1}}}`} {
		if _, err := ParseProgress([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// TestStanding: points are counted by area, and a gate is green when all its
// areas have reached their thresholds and the phase is complete.
func TestStanding(t *testing.T) {
	files := courseFiles(t)
	files["course.json"].Data = []byte(`{"phases": [
		{"number": 1, "title": {"en": "a", "ja": "あ"}, "lessons": ["what-is-websocket"], "areas": [
			{"id": "api", "title": {"en": "a", "ja": "あ"}, "percent": 70}, {"id": "protocol", "title": {"en": "b", "ja": "い"}, "percent": 30}]},
		{"number": 2, "title": {"en": "c", "ja": "う"}, "lessons": ["opening-handshake", "frame-anatomy", "ready-states-and-close"], "areas": []}]}`)
	files[model+"/lesson.json"].Data = []byte(`{"slug": "what-is-websocket", "aliases": ["first-steps"],` + string(files[model+"/lesson.json"].Data[len("{\n  \"$schema\": \"../lesson.schema.json\",\n  \"slug\": \"what-is-websocket\","):]))
	course, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	// api: S1, S2, S3 and Q2: 7 points. protocol: Q1, Q3, Q4: 3 points.
	tests := []struct {
		name          string
		p             Progress
		api, protocol int
		green         bool
	}{
		{"nothing", Progress{}, 0, 0, false},
		{"steps", Progress{}.Tick(model, "S1", day).Tick(model, "S2", day), 4, 0, false},
		{"one missed step closes no gate", Progress{}.Tick(model, "S1", day).Tick(model, "S2", day).Answer(model, "Q2", true, day).Answer(model, "Q1", true, day), 5, 1, true},
		{"the latest answer counts", Progress{}.Answer(model, "Q1", true, day).Answer(model, "Q1", false, after(1)), 0, 0, false},
		{"retries are free", Progress{}.Answer(model, "Q1", false, day).Answer(model, "Q1", true, day), 0, 1, false},
		{"an earlier slug counts, but not twice", Progress{}.Tick("first-steps", "S1", day).Tick(model, "S1", day), 2, 0, false},
		{"what the course has not counts nothing", Progress{}.Tick(model, "S99", day).Tick("nothing", "S1", day), 0, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := course.Standing(test.p)
			want := []AreaStanding{
				{"api", test.api, 7, 70, test.api*100 >= 70*7},
				{"protocol", test.protocol, 3, 30, test.protocol*100 >= 30*3},
			}
			if !cmp.Equal(s[0].Areas, want) || s[0].Green != test.green {
				t.Errorf("got %+v", s[0])
			}
			if s[1].Green {
				t.Error("the gate of an incomplete phase is green")
			}
		})
	}
}
