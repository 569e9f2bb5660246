package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// field asks the gateway and returns a root field that is a string.
func (p *program) field(t *testing.T, name, document string) string {
	t.Helper()
	var answer struct{ Data map[string]string }
	text := p.post(t, document)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Data[name] == "" {
		t.Fatalf("%s: %s", document, text)
	}
	return answer.Data[name]
}

func (p *program) end(t *testing.T) {
	t.Helper()
	p.stop()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

// answered answers a question of the course's first lesson as a new learner.
func (p *program) answered(t *testing.T) (token string) {
	t.Helper()
	token = p.field(t, "newLearner", `mutation { newLearner }`)
	p.post(t, `mutation { submitAnswer(input: { lesson: "what-is-websocket", question: "Q1", choices: [], learner: "`+token+`" }) { right } }`)
	return token
}

func (p *program) wantAnswer(t *testing.T, token string) {
	t.Helper()
	want := `{"data":{"progress":{"answers":[{"lesson":"what-is-websocket","question":"Q1","right":false}]}}}`
	if got := p.post(t, `{ progress(token: "`+token+`") { answers { lesson question right } } }`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestProgressSurvivesTheGateway(t *testing.T) {
	dir := t.TempDir()
	p := startProgram(t, "--data-dir", dir)
	token := p.answered(t)
	p.wantAnswer(t, token)
	p.end(t)
	if _, err := os.Stat(filepath.Join(dir, "learners.db")); err != nil {
		t.Error(err)
	}
	p = startProgram(t, "--data-dir", dir)
	p.wantAnswer(t, token)
	p.end(t)
}

func TestGatewaysOnOneRedisShareLearners(t *testing.T) {
	url := testenv.Redis(t).URL()
	a, b := startProgram(t, "--redis-url", url), startProgram(t, "--redis-url", url)
	b.wantAnswer(t, a.answered(t))
	a.end(t)
	b.end(t)
}

// What a learner's client does on the wire is in the learner's progress.
func TestTicksOfASessionAreTheLearners(t *testing.T) {
	p := startProgram(t)
	defer p.end(t)
	token := p.field(t, "newLearner", `mutation { newLearner }`)
	var started struct {
		Data struct {
			StartLab struct{ Servers []struct{ Name, URL string } }
		}
	}
	text := p.post(t, `mutation { startLab(lesson: "what-is-websocket", learner: "`+token+`") { servers { name url } } }`)
	if err := json.Unmarshal([]byte(text), &started); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(started.Data.StartLab.Servers, func(s struct{ Name, URL string }) bool { return s.Name == "echo" })
	if i < 0 {
		t.Fatal(text)
	}
	ws, _, err := websocket.DefaultDialer.Dial(started.Data.StartLab.Servers[i].URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	want := `{"data":{"progress":{"steps":[{"lesson":"what-is-websocket","step":"S1"}]}}}`
	eventuallyAnswers(t, p, `{ progress(token: "`+token+`") { steps { lesson step } } }`, want)
}

// eventuallyAnswers asks until the answer is the wanted one.
func eventuallyAnswers(t *testing.T, p *program, document, want string) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-poll.C {
		got := p.post(t, document)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s the answer is %s, want %s", got, want)
		}
	}
}

func TestProgressMovesWithTheSecret(t *testing.T) {
	start := func(secret string) *program { return startProgram(t, "--data-dir", t.TempDir(), "--secret", secret) }
	from, to, stranger := start("one secret"), start("one secret"), start("another")
	document := from.field(t, "exportProgress", `{ exportProgress(token: "`+from.answered(t)+`") }`)
	bring := func(p *program) (token, answer string) {
		token = p.field(t, "newLearner", `mutation { newLearner }`)
		return token, p.post(t, `mutation { importProgress(token: "`+token+`", document: "`+document+`") { answers { question } } }`)
	}
	token, _ := bring(to)
	to.wantAnswer(t, token)
	if _, answer := bring(stranger); !strings.Contains(answer, `"PROGRESS_INVALID"`) {
		t.Errorf("with another secret: %s", answer)
	}
	for _, p := range []*program{from, to, stranger} {
		p.end(t)
	}
}
