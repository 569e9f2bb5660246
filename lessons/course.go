package lessons

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Course is all lessons, in order, and how they are counted.
type Course struct {
	Phases  []Phase
	Lessons []*Lesson // those that are written, in order

	bySlug map[string]*Lesson // and by alias
}

// Phase is a quarter of the course. Its gate is green when each of its areas is.
type Phase struct {
	Number int      `json:"number"`
	Title  Text     `json:"title"`
	Slugs  []string `json:"lessons"` // of all its lessons, in order, written or not
	Areas  []Area   `json:"areas"`
}

// Area is a part of what a phase teaches.
type Area struct {
	ID      string `json:"id"`
	Title   Text   `json:"title"`
	Percent int    `json:"percent"` // of its points that the gate asks for

	here
}

// Lesson is one lesson.
type Lesson struct {
	Schema     string     `json:"$schema,omitzero"`
	Slug       string     `json:"slug"`
	Aliases    []string   `json:"aliases,omitzero"` // earlier slugs
	Phase      int        `json:"phase"`
	Order      int        `json:"order"` // within the course, from 1
	Title      Text       `json:"title"`
	Minutes    int        `json:"minutes"`
	Objectives []Text     `json:"objectives"`
	Requires   []string   `json:"requires"` // slugs, some of which may be planned
	Demo       Demo       `json:"demo"`
	Limits     Limits     `json:"limits,omitzero"`
	Facts      []Fact     `json:"facts"`
	Steps      []Step     `json:"steps"`
	Quiz       []Question `json:"quiz"`
	Sources    []Source   `json:"sources"`

	Body Bodies `json:"-"`

	here
}

// Bodies are a lesson's texts as HTML.
type Bodies struct{ EN, JA Body }

// Demo is the server of a lesson.
type Demo struct {
	Server string `json:"server"`
	Port   int    `json:"port,omitzero"` // 0: none, the learner's own server
	Path   string `json:"path,omitzero"`

	here
}

// Limits are what a session of the lesson may have. Zero fields: as every session.
type Limits struct {
	Connections       int `json:"connections,omitzero"`
	MessagesPerSecond int `json:"messagesPerSecond,omitzero"`

	here
}

// Fact is something that the server knows and a matcher asks for.
type Fact struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // text, word, number, bool, hex, list, set
	About string `json:"about"`
	Value any    `json:"value,omitzero"` // the same for every session, as encoding/json decodes it; nil: the host gives each its own

	here
}

// Step is one step of an exercise.
type Step struct {
	ID         string     `json:"id"`
	Area       string     `json:"area"`
	Title      Text       `json:"title"`
	Match      matchNode  `json:"match"`
	Because    Text       `json:"because,omitzero"`
	Misses     []SaidMiss `json:"misses,omitzero"`
	Hints      []Text     `json:"hints"`
	Browser    bool       `json:"browser"`    // browser JavaScript can do it
	SharedHost bool       `json:"sharedHost"` // it works on a host that others use, too
	// Names of test vectors: the one that ticks the step, and those that do not.
	Reference  string   `json:"reference"`
	NearMisses []string `json:"nearMisses"`

	matcher *Matcher
	here
}

// SaidMiss is a near miss that the lesson explains in its own words.
type SaidMiss struct {
	On    stringNode     `json:"on"`
	Where conditionsNode `json:"where,omitzero"`
	Say   Text           `json:"say"`

	pattern *pattern
	here
}

// Source is where a lesson has its facts from.
type Source struct {
	Title string `json:"title"`
	URL   string `json:"url"`

	here
}

// Load reads a course. The error joins an *Error for each thing that is wrong.
func Load(files fs.FS) (*Course, error) {
	c := &Course{bySlug: make(map[string]*Lesson)}
	text, err := fs.ReadFile(files, "course.json")
	if err != nil {
		return nil, fmt.Errorf("lessons: %w", err)
	}
	var plan struct {
		Phases []Phase `json:"phases"`
	}
	if err := decode("course.json", text, &plan, func() error { return checkPhases(plan.Phases) }); err != nil {
		return nil, err
	}
	c.Phases = plan.Phases
	var faults []error
	for _, slug := range c.slugs() {
		if planned(files, slug) {
			continue
		}
		l, err := c.lesson(files, slug)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		c.Lessons = append(c.Lessons, l)
		c.bySlug[slug] = l
	}
	faults = append(faults, c.checkFolders(files), c.checkAliases(), c.checkRequires())
	if errors.Join(faults...) == nil {
		faults = append(faults, c.checkFloors("course.json", text))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return c, nil
}

// planned reports whether a lesson is not written yet. Its folder may be there:
// with the script of its servers.
func planned(files fs.FS, slug string) bool {
	_, err := fs.Stat(files, path.Join(slug, "lesson.json"))
	return errors.Is(err, fs.ErrNotExist)
}

// Embedded loads the course that this program carries.
func Embedded() (*Course, error) { return Load(Files()) }

// Lesson finds a lesson by its slug or by one of its aliases; nil: there is none.
func (c *Course) Lesson(slug string) *Lesson { return c.bySlug[slug] }

// slugs are those of all lessons, written or planned, in order.
func (c *Course) slugs() []string {
	var list []string
	for _, p := range c.Phases {
		list = append(list, p.Slugs...)
	}
	return list
}

// decode reads a JSON file strictly, and then checks it.
func decode(file string, text []byte, target any, check func() error) error {
	n, err := parse(text)
	if err == nil {
		err = bind(n, target)
	}
	if err == nil {
		err = check()
	}
	return located(file, text, err)
}

var (
	slugForm     = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	stepForm     = regexp.MustCompile(`^S[1-9][0-9]?$`)
	questionForm = regexp.MustCompile(`^Q[1-9][0-9]?$`)
	phaseForm    = regexp.MustCompile(`phase|^[0-9]|-[0-9]+$`)
	vectorForm   = slugForm
)

const maxSlug = 40

func checkPhases(phases []Phase) error {
	var faults []error
	seen := make(map[string]bool)
	for i, p := range phases {
		if p.Number != i+1 {
			faults = append(faults, faultf(0, "phase %d stands in place %d", p.Number, i+1))
		}
		faults = append(faults, checkText(0, "the title", p.Title))
		for _, slug := range p.Slugs {
			if len(slug) > maxSlug || !slugForm.MatchString(slug) || seen[slug] {
				faults = append(faults, faultf(0, "%q is no slug, or is there twice: a slug is small letters and digits with hyphens between, at most %d characters", slug, maxSlug))
			}
			seen[slug] = true
		}
		for _, a := range p.Areas {
			if a.Percent < 1 || a.Percent > 99 || seen["area "+a.ID] {
				faults = append(faults, faultf(a.at, "area %q is there twice, or its percent are not from 1 to 99", a.ID))
			}
			seen["area "+a.ID] = true
			faults = append(faults, checkText(a.at, "the title", a.Title))
		}
	}
	return errors.Join(faults...)
}

// checkText wants both languages.
func checkText(place offset, what string, t Text) error {
	var faults []error
	for _, one := range []struct{ language, text string }{{"en", t.EN}, {"ja", t.JA}} {
		if strings.TrimSpace(one.text) == "" {
			faults = append(faults, faultf(place, "%s has no text in %q", what, one.language))
		} else if strings.TrimSpace(one.text) != one.text {
			faults = append(faults, faultf(place, "%s has spaces around its text in %q", what, one.language))
		}
	}
	return errors.Join(faults...)
}

// lesson reads and checks one folder.
func (c *Course) lesson(files fs.FS, slug string) (*Lesson, error) {
	file := path.Join(slug, "lesson.json")
	text, err := fs.ReadFile(files, file)
	if err != nil {
		return nil, &Error{File: file, Reason: "it cannot be read: " + err.Error()}
	}
	l := new(Lesson)
	err = decode(file, text, l, func() error { return c.check(l, slug) })
	if err != nil {
		return nil, err
	}
	if l.Body, err = c.bodies(files, slug); err != nil {
		return nil, err
	}
	return l, nil
}

// servers are those that a lesson may name, with the ports of the course.
var servers = map[string]int{"basic": 8080, "graphql": 8081, "mqtt": 8082, "mock": 9999, "load": 9998, "chaos": 9997, "gateways": 8080, "own": 0}

// check checks a lesson by itself.
func (c *Course) check(l *Lesson, folder string) error {
	var faults []error
	fail := func(place offset, format string, args ...any) {
		faults = append(faults, faultf(place, format, args...))
	}
	if l.Slug != folder {
		fail(l.at, "the slug is %q, but the folder is %q", l.Slug, folder)
	}
	order := 1 + slices.Index(c.slugs(), folder)
	phase := 1 + slices.IndexFunc(c.Phases, func(p Phase) bool { return slices.Contains(p.Slugs, folder) })
	if l.Order != order || l.Phase != phase {
		fail(l.at, "course.json has this lesson in phase %d as number %d, not in phase %d as number %d", phase, order, l.Phase, l.Order)
	}
	for _, alias := range l.Aliases {
		if len(alias) > maxSlug || !slugForm.MatchString(alias) || phaseForm.MatchString(alias) {
			fail(l.at, "the alias %q is no slug", alias)
		}
	}
	faults = append(faults, checkText(l.at, "the title", l.Title))
	if l.Minutes < 5 || l.Minutes > 120 {
		fail(l.at, "the minutes are %d: they are from 5 to 120", l.Minutes)
	}
	if len(l.Objectives) == 0 || len(l.Steps) == 0 || len(l.Quiz) == 0 || len(l.Sources) == 0 {
		fail(l.at, "a lesson has objectives, steps, questions and sources")
	}
	for _, o := range l.Objectives {
		faults = append(faults, checkText(l.at, "an objective", o))
	}
	port, known := servers[l.Demo.Server]
	if !known || l.Demo.Port != port || port > 0 && !strings.HasPrefix(l.Demo.Path, "/") {
		fail(l.Demo.at, "the demo is one of the servers of README.md, with its port and a path that starts with a slash")
	}
	if l.Limits.Connections < 0 || l.Limits.MessagesPerSecond < 0 {
		fail(l.Limits.at, "a limit is above 0")
	}
	for _, s := range l.Sources {
		u, err := url.Parse(s.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || s.Title == "" {
			fail(s.at, "a source has a title and an https: address")
		}
	}
	faults = append(faults, checkFacts(l.Facts), c.checkSteps(l, phase), c.checkQuiz(l, phase))
	return errors.Join(faults...)
}

var factTypes = []string{"text", "word", "number", "bool", "hex", "list", "set"}

func checkFacts(facts []Fact) error {
	var faults []error
	seen := make(map[string]bool)
	for _, f := range facts {
		switch {
		case f.Name == "" || strings.HasPrefix(f.Name, "seen.") || seen[f.Name]:
			faults = append(faults, faultf(f.at, "the fact %q is there twice, or its name is taken", f.Name))
		case !slices.Contains(factTypes, f.Type):
			faults = append(faults, faultf(f.at, "the type %q of a fact is not known: known are %s", f.Type, strings.Join(factTypes, ", ")))
		case f.About == "":
			faults = append(faults, faultf(f.at, "the fact %q does not say what it is about", f.Name))
		case f.Value != nil && !f.typed():
			faults = append(faults, faultf(f.at, "the value of the fact %q is not of the type %s", f.Name, f.Type))
		}
		seen[f.Name] = true
	}
	return errors.Join(faults...)
}

// typed reports whether the value is of the fact's type.
func (f *Fact) typed() bool {
	var ok bool
	switch f.Type {
	case "number":
		_, ok = f.Value.(float64)
	case "bool":
		_, ok = f.Value.(bool)
	case "hex":
		s, _ := f.Value.(string)
		b, err := parseHex(s)
		ok = err == nil && len(b) > 0
	case "list", "set":
		_, ok = f.Value.([]any)
	default:
		_, ok = f.Value.(string)
	}
	return ok
}

// area reports whether a phase has it.
func (c *Course) area(phase int, id string) bool {
	return slices.ContainsFunc(c.Phases[phase-1].Areas, func(a Area) bool { return a.ID == id })
}

func (c *Course) checkSteps(l *Lesson, phase int) error {
	var faults []error
	fail := func(place offset, format string, args ...any) {
		faults = append(faults, faultf(place, format, args...))
	}
	var ids []string
	for i := range l.Steps {
		ids = append(ids, l.Steps[i].ID)
	}
	for i := range l.Steps {
		s := &l.Steps[i]
		if !stepForm.MatchString(s.ID) || slices.Index(ids, s.ID) != i {
			fail(s.at, "the id %q of a step is not like S1, or is there twice", s.ID)
		}
		if !c.area(phase, s.Area) {
			fail(s.at, "phase %d has no area %q", phase, s.Area)
		}
		faults = append(faults, checkText(s.at, "the title", s.Title))
		if s.Because != none {
			faults = append(faults, checkText(s.at, "because", s.Because))
		}
		if len(s.Hints) == 0 {
			fail(s.at, "step %s has no hint", s.ID)
		}
		for _, h := range s.Hints {
			faults = append(faults, checkText(s.at, "a hint", h))
		}
		if len(s.NearMisses) == 0 {
			fail(s.at, "step %s has no near miss", s.ID)
		}
		for _, name := range append([]string{s.Reference}, s.NearMisses...) {
			if !vectorForm.MatchString(name) {
				fail(s.at, "%q is no name of a vector", name)
			}
		}
		var err error
		if s.matcher, err = compile(&s.Match, l.Facts, ids, s.ID); err != nil {
			faults = append(faults, err)
		}
		for i := range s.Misses {
			faults = append(faults, s.Misses[i].compile(l.Facts))
		}
	}
	return errors.Join(append(faults, checkSequence(l.Steps))...)
}

// compile reads the pattern of a near miss.
func (m *SaidMiss) compile(facts []Fact) error {
	c := compiler{facts: facts, named: make(map[string]*pattern)}
	var err error
	if m.pattern, err = c.pattern(&patternNode{here: m.here, On: m.On, Where: m.Where}); err != nil {
		return err
	}
	faults := []error{checkText(m.at, "say", m.Say)}
	for _, say := range []string{m.Say.EN, m.Say.JA} {
		for _, name := range placeholder.FindAllStringSubmatch(say, -1) {
			if _, ok := kinds[m.pattern.on].field(name[1]); !ok && name[1] != "frame" {
				faults = append(faults, faultf(m.at, "{%s}: the event %s has no such field", name[1], m.pattern.on))
			}
		}
	}
	return errors.Join(faults...)
}

// checkSequence refuses steps that wait for each other.
func checkSequence(steps []Step) error {
	waits := make(map[string][]string)
	for _, s := range steps {
		if s.matcher == nil {
			continue
		}
		for _, a := range s.matcher.alternatives {
			for _, p := range a.want {
				waits[s.ID] = append(waits[s.ID], p.names()...)
			}
		}
	}
	for _, s := range steps {
		if circle(s.ID, func(id string) []string { return waits[id] }) {
			return faultf(s.at, "step %s waits for itself", s.ID)
		}
	}
	return nil
}

// circle reports whether start can be reached from itself.
func circle(start string, next func(string) []string) bool {
	seen := make(map[string]bool)
	var walk func(string) bool
	walk = func(at string) bool {
		for _, to := range next(at) {
			if to == start {
				return true
			}
			if !seen[to] {
				seen[to] = true
				if walk(to) {
					return true
				}
			}
		}
		return false
	}
	return walk(start)
}

// checkFolders refuses folders that the plan does not list.
func (c *Course) checkFolders(files fs.FS) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	var faults []error
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(c.slugs(), e.Name()) {
			faults = append(faults, &Error{File: e.Name(), Reason: "course.json lists no such lesson"})
		}
	}
	return errors.Join(faults...)
}

func (c *Course) checkAliases() error {
	var faults []error
	for _, l := range c.Lessons {
		for _, alias := range l.Aliases {
			if c.bySlug[alias] != nil || slices.Contains(c.slugs(), alias) {
				faults = append(faults, &Error{File: path.Join(l.Slug, "lesson.json"), Reason: fmt.Sprintf("the alias %q is taken", alias)})
				continue
			}
			c.bySlug[alias] = l
		}
	}
	return errors.Join(faults...)
}

func (c *Course) checkRequires() error {
	var faults []error
	for _, l := range c.Lessons {
		fail := func(format string, args ...any) {
			faults = append(faults, &Error{File: path.Join(l.Slug, "lesson.json"), Reason: fmt.Sprintf(format, args...)})
		}
		for _, slug := range l.Requires {
			if !slices.Contains(c.slugs(), slug) {
				fail("it requires %q, which is no lesson", slug)
			}
		}
		if circle(l.Slug, func(slug string) []string {
			if other := c.bySlug[slug]; other != nil {
				return other.Requires
			}
			return nil
		}) {
			fail("it requires itself, through the lessons that it requires")
		}
	}
	return errors.Join(faults...)
}

// Complete reports whether all lessons of a phase are written.
func (c *Course) Complete(phase int) bool {
	return !slices.ContainsFunc(c.Phases[phase-1].Slugs, func(slug string) bool { return c.bySlug[slug] == nil })
}

// floor is how many points an area has at least, so that one missed step never
// closes a gate: what a step is worth is at most what may be missing.
func floor(percent int) int {
	return int(math.Ceil(float64(stepPoints*100) / float64(100-percent)))
}

func (c *Course) checkFloors(file string, text []byte) error {
	var faults []error
	for _, p := range c.Phases {
		if !c.Complete(p.Number) {
			continue
		}
		for _, a := range p.Areas {
			if n := c.points(a.ID); n < floor(a.Percent) {
				faults = append(faults, located(file, text, faultf(a.at, "area %q has %d points: with a threshold of %d %% it needs %d, so that one missed step does not close the gate", a.ID, n, a.Percent, floor(a.Percent))))
			}
		}
	}
	return errors.Join(faults...)
}

// Step returns a step of the lesson; nil: it has none by that id.
func (l *Lesson) Step(id string) *Step {
	for i := range l.Steps {
		if l.Steps[i].ID == id {
			return &l.Steps[i]
		}
	}
	return nil
}

// Question returns a question of the lesson; nil: it has none by that id.
func (l *Lesson) Question(id string) *Question {
	for i := range l.Quiz {
		if l.Quiz[i].ID == id {
			return &l.Quiz[i]
		}
	}
	return nil
}
