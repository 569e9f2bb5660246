package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/internal/learners/learnerstest"
	"github.com/sluice-gateway/sluice/lessons"
)

// withLearners teaches the course of learnerstest and keeps progress.
func withLearners(t *testing.T, secret string) (change func(*Config), kept *learners.Learners) {
	t.Helper()
	kept = learnerstest.New(t, learners.NewMemory(), secret)
	classroom := lessons.NewClassroom(lessons.ClassroomConfig{Course: learnerstest.Course(t), Learners: kept})
	t.Cleanup(classroom.Close)
	return func(cfg *Config) { cfg.Resolver.Classroom, cfg.Resolver.Learners = classroom, kept }, kept
}

// learnersProgress is the answer to showProgress.
type learnersProgress struct {
	Phases []struct {
		Number     int
		Green      bool
		Advice, JA string
		Areas      []struct {
			ID                         string
			Earned, Available, Percent int
			Reached                    bool
		}
	}
	Steps []struct {
		Lesson, Step string
		At           time.Time
	}
	Answers []struct {
		Lesson, Question string
		Right            bool
		At               time.Time
	}
	QuickChecks []struct{ Lesson, Question string }
}

const showProgress = `{
	phases { number green advice JA: advice(locale: JA) areas { id earned available percent reached } }
	steps { lesson step at } answers { lesson question right at } quickChecks { lesson question }
}`

func (g *gateway) newLearner(t *testing.T) string {
	t.Helper()
	var made struct{ NewLearner string }
	if codes := g.graphQL(t, &made, "mutation { newLearner }", nil); codes != "" {
		t.Fatal(codes)
	}
	return made.NewLearner
}

func (g *gateway) progressOf(t *testing.T, token string) learnersProgress {
	t.Helper()
	var answer struct{ Progress learnersProgress }
	if codes := g.graphQL(t, &answer, "query($token: String!) { progress(token: $token) "+showProgress+" }", map[string]any{"token": token}); codes != "" {
		t.Fatal(codes)
	}
	return answer.Progress
}

func TestProgressOverGraphQL(t *testing.T) {
	with, kept := withLearners(t, "secret")
	g := start(t, with)
	token := g.newLearner(t)
	p := g.progressOf(t, token)
	if len(p.Phases) != 2 || p.Steps == nil || len(p.Steps)+len(p.Answers)+len(p.QuickChecks) != 0 {
		t.Fatalf("a new learner has %+v", p)
	}
	if want := "The gate asks for 8 more points in Alpha, 2 more points in Beta; you may go on all the same."; p.Phases[0].Advice != want || p.Phases[0].Green {
		t.Errorf("advice to a new learner: %q, want %q", p.Phases[0].Advice, want)
	}
	if want := "緑のゲートまで、「アルファ」があと8点、「ベータ」があと2点です。このまま先へ進んでもかまいません。"; p.Phases[0].JA != want {
		t.Errorf("in Japanese %q, want %q", p.Phases[0].JA, want)
	}
	if want := "Lessons of this phase are still being written: "; !strings.HasPrefix(p.Phases[1].Advice, want) || p.Phases[1].Green {
		t.Errorf("advice for a phase that is not written: %q, want %q", p.Phases[1].Advice, want)
	}

	for question, choice := range map[string]string{"Q1": "y", "Q2": "n"} {
		if codes := g.graphQL(t, new(any), `mutation($input: SubmitAnswerInput!) { submitAnswer(input: $input) { right } }`, map[string]any{
			"input": map[string]any{"lesson": "first", "learner": token, "question": question, "choices": []string{choice}},
		}); codes != "" {
			t.Fatal(codes)
		}
	}
	id, err := kept.ID(token)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	if _, _, err := kept.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress {
		p = p.Answer("second", "Q2", false, at.Add(-25*time.Hour)).Answer("second", "Q1", false, at.Add(-26*time.Hour)).Answer("second", "Q1", true, at)
		for _, step := range []string{"S3", "S2", "S1"} {
			p = p.Tick("first", step, at)
		}
		return p
	}); err != nil {
		t.Fatal(err)
	}
	p = g.progressOf(t, token)
	if want := "The gate asks for 1 more point in Alpha, 1 more point in Beta; you may go on all the same."; p.Phases[0].Advice != want {
		t.Errorf("advice %q, want %q", p.Phases[0].Advice, want)
	}
	if got, want := fmt.Sprint(p.Phases[0].Areas), "[{alpha 7 10 80 false} {beta 1 4 50 false}]"; got != want {
		t.Errorf("areas %s, want %s", got, want)
	}
	var steps, answers []string
	for _, s := range p.Steps {
		steps = append(steps, s.Lesson+"/"+s.Step)
		if !s.At.Equal(at) {
			t.Errorf("%s was ticked at %v, want %v", s.Step, s.At, at)
		}
	}
	for _, a := range p.Answers {
		answers = append(answers, fmt.Sprint(a.Lesson, "/", a.Question, " ", a.Right))
	}
	if diff := cmp.Diff([]string{"first/S1", "first/S2", "first/S3"}, steps); diff != "" {
		t.Errorf("steps (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"first/Q1 true", "first/Q2 false", "second/Q1 true", "second/Q2 false"}, answers); diff != "" {
		t.Errorf("answers (-want +got)\n%s", diff)
	}
	if got, want := fmt.Sprint(p.QuickChecks), "[{second Q1} {second Q2}]"; got != want {
		t.Errorf("quick checks %s, want %s", got, want)
	}

	if _, _, err := kept.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress {
		return p.Tick("first", "S4", at).Tick("second", "S1", at)
	}); err != nil {
		t.Fatal(err)
	}
	if p = g.progressOf(t, token); !p.Phases[0].Green || p.Phases[0].Advice != "The gate is green: go on to phase 2." || p.Phases[0].JA != "ゲートは緑です。フェーズ2へ進みましょう。" {
		t.Errorf("the phase is %+v, want a green one", p.Phases[0])
	}
}

func TestProgressIsTakenAlongOverGraphQL(t *testing.T) {
	const (
		export = "query($token: String!) { exportProgress(token: $token) }"
		bring  = "mutation($token: String!, $document: String!) { importProgress(token: $token, document: $document) " + showProgress + " }"
	)
	with, kept := withLearners(t, "secret")
	here := start(t, with)
	token := here.newLearner(t)
	id, err := kept.ID(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := kept.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress { return p.Tick("first", "S1", time.Now()) }); err != nil {
		t.Fatal(err)
	}
	var out struct{ ExportProgress string }
	if codes := here.graphQL(t, &out, export, map[string]any{"token": token}); codes != "" {
		t.Fatal(codes)
	}
	with, _ = withLearners(t, "secret")
	there := start(t, with)
	other := there.newLearner(t)
	var in struct{ ImportProgress learnersProgress }
	if codes := there.graphQL(t, &in, bring, map[string]any{"token": other, "document": out.ExportProgress}); codes != "" {
		t.Fatal(codes)
	}
	if diff := cmp.Diff(here.progressOf(t, token), in.ImportProgress); diff != "" {
		t.Errorf("imported (-there +here)\n%s", diff)
	}
	with, _ = withLearners(t, "another")
	stranger := start(t, with)
	for want, variables := range map[string]map[string]any{
		"PROGRESS_INVALID": {"token": stranger.newLearner(t), "document": out.ExportProgress},
		"TOKEN_INVALID":    {"token": token, "document": out.ExportProgress},
	} {
		if codes := stranger.graphQL(t, &in, bring, variables); !strings.HasPrefix(codes, want) {
			t.Errorf("with another secret: %s, want %s", codes, want)
		}
	}
}

func TestQuickChecksAreAnsweredOverGraphQL(t *testing.T) {
	with, kept := withLearners(t, "secret")
	g := start(t, with)
	token := g.newLearner(t)
	id, err := kept.ID(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := kept.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress {
		return p.Answer("first", "Q1", false, time.Now().Add(-4*24*time.Hour)).Answer("first", "Q1", true, time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	answer := func(more map[string]any) (right bool, codes string) {
		t.Helper()
		input := map[string]any{"quickCheck": true, "lesson": "first", "learner": token, "question": "Q1", "choices": []string{"n"}}
		for name, value := range more {
			input[name] = value
		}
		var result struct{ SubmitAnswer struct{ Right bool } }
		codes = g.graphQL(t, &result, `mutation($input: SubmitAnswerInput!) { submitAnswer(input: $input) { right } }`, map[string]any{"input": input})
		return result.SubmitAnswer.Right, codes
	}
	before := g.progressOf(t, token)
	for i, due := range []int{1, 1, 0, 0} { // those of day 1 and day 3 are
		p := g.progressOf(t, token)
		if len(p.QuickChecks) != due {
			t.Errorf("after %d answers these are due: %v, want %d", i, p.QuickChecks, due)
		}
		if diff := cmp.Diff(before.Answers, p.Answers); diff != "" || p.Phases[0].Areas[0].Earned != 1 {
			t.Errorf("after %d answers there are %+v, with %d points", i, p.Answers, p.Phases[0].Areas[0].Earned)
		}
		if right, codes := answer(nil); right || codes != "" {
			t.Errorf("the wrong answer is right: %t, %s", right, codes)
		}
	}
	held, _, err := kept.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress { return p })
	if err != nil || held.Answers["first/Q1"].Checks != 2 {
		t.Errorf("%d checks were done, %v, want 2: the third is not due", held.Answers["first/Q1"].Checks, err)
	}
	for name, more := range map[string]map[string]any{
		"in a session": {"session": "some"}, "of a step": {"step": "S1", "question": nil}, "of nobody": {"learner": nil},
	} {
		if _, codes := answer(more); !strings.HasPrefix(codes, "ARGUMENT_OUT_OF_RANGE") {
			t.Errorf("a quick check %s: %q", name, codes)
		}
	}
}

func TestAGatewayWithoutProgressSaysSo(t *testing.T) {
	g := start(t)
	for _, document := range []string{
		"mutation { newLearner }", `{ progress(token: "") { steps { at } } }`, `{ exportProgress(token: "") }`, `mutation { importProgress(token: "", document: "") { steps { at } } }`,
	} {
		if status, body, _ := g.do(t, http.MethodPost, "/graphql", fmt.Sprintf(`{"query":%q}`, document), "Content-Type", "application/json"); !strings.Contains(body, "PROGRESS_UNAVAILABLE") {
			t.Errorf("%s: %d %s", document, status, body)
		}
	}
}
