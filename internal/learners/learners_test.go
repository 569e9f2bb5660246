package learners_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/learners"
	"github.com/sluice-gateway/sluice/internal/learners/learnerstest"
	"github.com/sluice-gateway/sluice/internal/live"
	"github.com/sluice-gateway/sluice/lessons"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	learnerstest.Run(t, learnerstest.Subject{New: func(testing.TB) learnerstest.Place {
		return func(testing.TB) learners.Store { return learners.NewMemory() }
	}})
}

func TestMemoryForgetsWhoWasAwayLongest(t *testing.T) {
	m := learners.NewMemory()
	for i := range 10_001 {
		if i == 10_000 {
			if held, err := m.Load(t.Context(), "0"); held == nil || err != nil { // 1 is the oldest now
				t.Fatal(held, err)
			}
		}
		if ok, err := m.Swap(t.Context(), fmt.Sprint(i), nil, []byte("x")); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for id, want := range map[string]bool{"0": true, "1": false, "2": true, "10000": true} {
		if held, err := m.Load(t.Context(), id); err != nil || (held != nil) != want {
			t.Errorf("%s is there: %t, %v, want %t", id, held != nil, err, want)
		}
	}
}

var day0 = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func day(n float64) time.Time { return day0.Add(time.Duration(n * float64(24*time.Hour))) }

func memory(t *testing.T, secret string) *learners.Learners {
	return learnerstest.New(t, learners.NewMemory(), secret)
}

// change changes progress and wants it to work.
func change(t *testing.T, l *learners.Learners, id string, f func(lessons.Progress) lessons.Progress) (before, after lessons.Progress) {
	t.Helper()
	before, after, err := l.Change(t.Context(), id, f)
	if err != nil {
		t.Fatal(err)
	}
	return before, after
}

func progress(t *testing.T, l *learners.Learners, token string) lessons.Progress {
	t.Helper()
	p, err := l.Progress(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var refusal *live.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestEveryLearnerHasBitsOfItsOwn(t *testing.T) {
	l := memory(t, "secret")
	seen := make(map[string]bool)
	for range 100 {
		token, id := learnerstest.Learner(t, l)
		if len(id) != 32 || seen[id] || seen[token] {
			t.Fatalf("the id %q has not 128 bits, or is there twice", id)
		}
		seen[id], seen[token] = true, true
	}
}

// corrupt changes one character.
func corrupt(text string, at int) string {
	b := []byte(text)
	b[at] = 'A' + (b[at]-'A'+1)%26
	return string(b)
}

// forge makes a JWT with the key of nobody, or with that of a gateway.
func forge(t *testing.T, method jwt.SigningMethod, key any, audience string) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "00112233445566778899aabbccddeeff", "aud": audience, "progress": map[string]any{"version": 1}}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestTokensAndDocumentsOfOthersAreRefused(t *testing.T) {
	l, stranger := memory(t, "secret"), memory(t, "another secret")
	token, id := learnerstest.Learner(t, l)
	change(t, l, id, func(p lessons.Progress) lessons.Progress { return p.Tick("first", "S1", day0) })
	document, err := l.Export(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := learnerstest.Learner(t, stranger)
	foreignDocument, err := stranger.Export(t.Context(), foreign)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	key := learners.DerivedKey(t, l)
	for name, c := range map[string]struct{ token, document string }{
		"nothing":              {"", ""},
		"no JWT":               {"token", "document"},
		"another's":            {foreign, foreignDocument},
		"each other":           {document, token},
		"a changed head":       {corrupt(token, 3), corrupt(document, 3)},
		"a changed body":       {corrupt(token, len(parts[0])+5), corrupt(document, len(parts[0])+20)},
		"a changed signature":  {corrupt(token, len(token)-10), corrupt(document, len(document)-10)},
		"a cut signature":      {token[:len(token)-1], document[:len(document)-1]},
		"no signature":         {parts[0] + "." + parts[1] + ".", document[:strings.LastIndexByte(document, '.')+1]},
		"something behind it":  {token + ".", document + " "},
		"alg none":             {unsigned + "." + parts[1] + ".", unsigned + "." + strings.Split(document, ".")[1] + "."},
		"alg none, by library": {forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "sluice-learner"), forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "sluice-progress")},
		"another algorithm":    {forge(t, jwt.SigningMethodHS512, key, "sluice-learner"), forge(t, jwt.SigningMethodHS512, key, "sluice-progress")},
		"the secret itself":    {forge(t, jwt.SigningMethodHS256, []byte("secret"), "sluice-learner"), forge(t, jwt.SigningMethodHS256, []byte("secret"), "sluice-progress")},
		"another audience":     {forge(t, jwt.SigningMethodHS256, key, "sluice"), forge(t, jwt.SigningMethodHS256, key, "sluice")},
		"too long":             {token + strings.Repeat("A", 600), strings.Repeat("A", 100<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.ID(c.token)
			wantCode(t, "ID", err, learners.CodeTokenInvalid)
			_, err = l.Progress(t.Context(), c.token)
			wantCode(t, "Progress", err, learners.CodeTokenInvalid)
			_, err = l.Export(t.Context(), c.token)
			wantCode(t, "Export", err, learners.CodeTokenInvalid)
			_, err = l.Import(t.Context(), c.token, document)
			wantCode(t, "Import with the token", err, learners.CodeTokenInvalid)
			_, err = l.Import(t.Context(), token, c.document)
			wantCode(t, "Import of the document", err, learners.CodeProgressInvalid)
		})
	}
	if _, err := l.ID(forge(t, jwt.SigningMethodHS256, key, "sluice-learner")); err != nil {
		t.Errorf("with the right key, algorithm and audience: %v", err) // so that the cases above fail for what they say
	}
	if got := progress(t, l, token); len(got.Steps) != 1 {
		t.Errorf("the learner has %v now", got)
	}
}

func TestProgressMovesBetweenGatewaysOfOneSecret(t *testing.T) {
	here, there, elsewhere := memory(t, "secret"), memory(t, "secret"), memory(t, "another secret")
	token, id := learnerstest.Learner(t, here)
	change(t, here, id, func(p lessons.Progress) lessons.Progress {
		return p.Tick("first", "S1", day(1)).Answer("first", "Q1", false, day(1)).Answer("first", "Q2", true, day(1))
	})
	document, err := here.Export(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	other, otherID := learnerstest.Learner(t, there)
	change(t, there, otherID, func(p lessons.Progress) lessons.Progress {
		return p.Tick("first", "S1", day(2)).Tick("second", "S1", day(2)).Answer("first", "Q1", true, day(2)).Answer("first", "Q2", false, day(0))
	})
	want := lessons.NewProgress().Tick("first", "S1", day(1)).Tick("second", "S1", day(2)).
		Answer("first", "Q1", false, day(1)).Answer("first", "Q1", true, day(2)).
		Answer("first", "Q2", false, day(0)).Answer("first", "Q2", true, day(1))
	for range 2 { // the second time changes nothing
		got, err := there.Import(t.Context(), other, document)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff(want, progress(t, there, other)); diff != "" {
			t.Errorf("stored (-want +got)\n%s", diff)
		}
	}
	stranger, _ := learnerstest.Learner(t, elsewhere)
	_, err = elsewhere.Import(t.Context(), stranger, document)
	wantCode(t, "with another secret", err, learners.CodeProgressInvalid)
	if strings.Contains(document, id) {
		t.Error("the document names the learner")
	}
}

// Quick checks go on from where they are furthest, or begin anew with a later
// wrong answer.
func TestMergedQuickChecks(t *testing.T) {
	wrong := func(at float64, checks int) lessons.Answered {
		return lessons.Answered{At: day(at), Wrong: day(at), Checks: checks}
	}
	for name, c := range map[string]struct{ a, b, want lessons.Answered }{
		"one is further on":        {wrong(0, 1), wrong(0, 2), wrong(0, 2)},
		"wrong again":              {wrong(0, 3), wrong(5, 0), wrong(5, 0)},
		"right since":              {wrong(0, 1), lessons.Answered{Right: true, At: day(2), Wrong: day(0)}, lessons.Answered{Right: true, At: day(2), Wrong: day(0), Checks: 1}},
		"right elsewhere, no more": {wrong(0, 1), lessons.Answered{Right: true, At: day(2)}, lessons.Answered{Right: true, At: day(2), Wrong: day(0), Checks: 1}},
	} {
		for _, pair := range [][2]lessons.Answered{{c.a, c.b}, {c.b, c.a}} {
			l := memory(t, "secret")
			from, fromID := learnerstest.Learner(t, l)
			to, toID := learnerstest.Learner(t, l)
			for id, a := range map[string]lessons.Answered{fromID: pair[0], toID: pair[1]} {
				change(t, l, id, func(p lessons.Progress) lessons.Progress {
					p.Answers["first/Q1"] = a
					return p
				})
			}
			document, err := l.Export(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			got, err := l.Import(t.Context(), to, document)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Answers["first/Q1"]); diff != "" {
				t.Errorf("%s (-want +got)\n%s", name, diff)
			}
		}
	}
}

func TestWhatTheCourseDoesNotHave(t *testing.T) {
	l := memory(t, "secret")
	token, id := learnerstest.Learner(t, l)
	change(t, l, id, func(p lessons.Progress) lessons.Progress {
		return p.Tick("former", "S1", day(2)).Tick("second", "S1", day(3)).Tick("first", "S9", day(1)).Tick("gone", "S1", day(1)).
			Answer("former", "Q1", true, day(1)).Answer("first", "S1", true, day(1)).Answer("", "", true, day(1))
	})
	want := lessons.NewProgress().Tick("second", "S1", day(2)).Answer("second", "Q1", true, day(1))
	if diff := cmp.Diff(want, progress(t, l, token)); diff != "" {
		t.Errorf("shown (-want +got)\n%s", diff)
	}
	held, _ := change(t, l, id, func(p lessons.Progress) lessons.Progress { return p })
	if got := slices.Sorted(maps.Keys(held.Steps)); !slices.Equal(got, []string{"first/S9", "gone/S1", "second/S1"}) {
		t.Errorf("kept are the steps %q", got)
	}
	document, err := l.Export(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	otherToken, other := learnerstest.Learner(t, l)
	if _, err := l.Import(t.Context(), otherToken, document); err != nil {
		t.Fatal(err)
	}
	held, _ = change(t, l, other, func(p lessons.Progress) lessons.Progress { return p })
	if diff := cmp.Diff(want, held); diff != "" {
		t.Errorf("imported (-want +got)\n%s", diff)
	}
}

func TestProgressIsBounded(t *testing.T) {
	l := memory(t, "secret")
	token, id := learnerstest.Learner(t, l)
	_, _, err := l.Change(t.Context(), id, func(p lessons.Progress) lessons.Progress {
		for i := range 1500 {
			p.Steps[fmt.Sprintf("a-long-name-of-a-lesson/S%d", i)] = day0
		}
		return p
	})
	wantCode(t, "too much", err, learners.CodeProgressInvalid)
	_, after := change(t, l, id, func(p lessons.Progress) lessons.Progress {
		for i := range 1000 {
			p.Steps[fmt.Sprintf("a-long-name-of-a-lesson/S%d", i)] = day0
		}
		return p
	})
	if len(after.Steps) != 1000 {
		t.Errorf("%d steps, want 1000", len(after.Steps))
	}
	document, err := l.Export(t.Context(), token)
	if err == nil {
		_, err = l.Import(t.Context(), token, document)
	}
	if err != nil {
		t.Errorf("much, but not too much: %v", err)
	}
}

func TestWrongAnswersComeBackAfterOneThreeAndNineDays(t *testing.T) {
	l := memory(t, "secret")
	token, id := learnerstest.Learner(t, l)
	change(t, l, id, func(p lessons.Progress) lessons.Progress {
		return p.Answer("first", "Q1", false, day(0)).Answer("first", "Q1", true, day(0.1)).Answer("first", "Q2", true, day(0))
	})
	standing := learnerstest.Course(t).Standing(progress(t, l, token))
	for _, step := range []struct {
		at   float64
		due  bool
		done bool // then a quick check is
	}{
		{0, false, false},
		{0.999, false, false},
		{1, true, true},
		{1, false, false},
		{2.999, false, false},
		{3, true, false},
		{5, true, true},
		{5, false, false},
		{8.999, false, false},
		{9, true, true},
		{9, false, false},
		{1000, false, false},
	} {
		p := progress(t, l, token)
		if got := p.Due(day(step.at)); slices.Contains(got, "first/Q1") != step.due || slices.Contains(got, "first/Q2") {
			t.Errorf("on day %v these are due: %q, want first/Q1: %t", step.at, got, step.due)
		}
		if step.done {
			change(t, l, id, func(p lessons.Progress) lessons.Progress { return p.QuickCheck("first", "Q1") })
		}
	}
	if diff := cmp.Diff(standing, learnerstest.Course(t).Standing(progress(t, l, token))); diff != "" {
		t.Errorf("quick checks changed the score (-before +after)\n%s", diff)
	}
}

// A gate is green at its percentage, not a point below.
func TestGatesAtTheBound(t *testing.T) {
	course := learnerstest.Course(t)
	l := memory(t, "secret")
	_, id := learnerstest.Learner(t, l)
	steps := func(n int) func(p lessons.Progress) lessons.Progress {
		return func(p lessons.Progress) lessons.Progress { return p.Tick("first", fmt.Sprint("S", n), day0) }
	}
	for i, step := range []struct {
		change      func(p lessons.Progress) lessons.Progress
		alpha, beta int
		green       bool
	}{
		{steps(1), 2, 0, false},
		{steps(2), 4, 0, false},
		{steps(3), 6, 0, false},
		{func(p lessons.Progress) lessons.Progress { return p.Answer("first", "Q1", true, day0) }, 7, 0, false},
		{func(p lessons.Progress) lessons.Progress { return p.Answer("second", "Q1", true, day0) }, 7, 1, false},
		{func(p lessons.Progress) lessons.Progress { return p.Answer("second", "Q2", true, day0) }, 7, 2, false},
		{func(p lessons.Progress) lessons.Progress { return p.Answer("first", "Q2", true, day0) }, 8, 2, true},
		{func(p lessons.Progress) lessons.Progress { return p.Answer("second", "Q2", false, day0) }, 8, 1, false},
		{func(p lessons.Progress) lessons.Progress { return p.Tick("former", "S1", day0) }, 8, 3, true},
	} {
		_, after := change(t, l, id, step.change)
		standing := course.Standing(after)
		if a, b := standing[0].Areas[0].Earned, standing[0].Areas[1].Earned; a != step.alpha || b != step.beta || standing[0].Green != step.green {
			t.Errorf("after step %d: alpha %d, beta %d, green %t, want %d, %d, %t", i, a, b, standing[0].Green, step.alpha, step.beta, step.green)
		}
		if standing[1].Green {
			t.Error("the gate of a phase with a lesson that is not written is green")
		}
	}
}

// stubborn is a store that always holds something else.
type stubborn struct{ learners.Store }

func (stubborn) Swap(context.Context, string, []byte, []byte) (bool, error) {
	time.Sleep(time.Millisecond)
	return false, nil
}

func TestAChangeGivesUpAfterThreeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := learnerstest.New(t, stubborn{learners.NewMemory()}, "secret")
		tick := func(p lessons.Progress) lessons.Progress { return p.Tick("first", "S1", day0) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := l.Change(ctx, "a", tick); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("under a context: %v, want its error", err)
		}
		began := time.Now()
		_, _, err := l.Change(t.Context(), "a", tick)
		wantCode(t, "without", err, learners.CodeUnavailable)
		if took := time.Since(began); took < 3*time.Second || took > 3100*time.Millisecond {
			t.Errorf("after %v", took)
		}
	})
}

func TestAKeyThatIsNotKnownIsUnavailable(t *testing.T) {
	away := true
	cause := errors.New("away")
	l := learners.New(learners.NewMemory(), func(context.Context) ([]byte, error) {
		if away {
			return nil, cause
		}
		return []byte("secret"), nil
	}, learnerstest.Course(t))
	_, err := l.Create()
	wantCode(t, "Create", err, learners.CodeUnavailable)
	away = false
	token, _ := learnerstest.Learner(t, l)
	away = true
	_, err = l.ID(token)
	wantCode(t, "ID", err, learners.CodeUnavailable)
	away = false
	if _, err := l.ID(token); err != nil {
		t.Errorf("when it is known again: %v", err)
	}
}

func TestProgressOfAnotherFormIsRefused(t *testing.T) {
	l := memory(t, "secret")
	token, _ := learnerstest.Learner(t, l)
	key := learners.DerivedKey(t, l)
	for _, text := range []any{map[string]any{"version": 2}, map[string]any{}, "text", nil, 1} {
		document, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": "sluice-progress", "progress": text}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Import(t.Context(), token, document)
		wantCode(t, fmt.Sprint(text), err, learners.CodeProgressInvalid)
	}
	store := learners.NewMemory()
	if _, err := store.Swap(t.Context(), "a", nil, []byte(`{"version":2}`)); err != nil {
		t.Fatal(err)
	}
	_, _, err := learnerstest.New(t, store, "secret").Change(t.Context(), "a", func(p lessons.Progress) lessons.Progress { return p.Tick("first", "S1", day0) })
	wantCode(t, "stored by a newer version", err, learners.CodeUnavailable)
	if held, err := store.Load(t.Context(), "a"); err != nil || string(held) != `{"version":2}` {
		t.Errorf("what a newer version stored is %s now, %v", held, err)
	}
}
