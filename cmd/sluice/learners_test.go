package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
