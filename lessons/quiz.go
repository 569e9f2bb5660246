package lessons

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
)

// Question is one question of a lesson's quiz.
type Question struct {
	ID       string    `json:"id"`
	Area     string    `json:"area"`
	Kind     string    `json:"kind"` // single, multi, number, order, hex
	Prompt   Text      `json:"prompt"`
	Choices  []Choice  `json:"choices,omitzero"` // of single, multi and order
	Mistakes []Mistake `json:"mistakes,omitzero"`
	Answer   *node     `json:"answer"`
	Why      Text      `json:"why"` // the right answer is right

	right answer
	here
}

// Choice is one of those offered. Pages may show them in any order.
type Choice struct {
	ID  string `json:"id"`
	EN  string `json:"en"`
	JA  string `json:"ja"`
	Why Text   `json:"why,omitzero"` // a wrong one is wrong, or stands where it stands

	here
}

// Mistake is a wrong number or wrong bytes that people often give.
type Mistake struct {
	Value any  `json:"value"` // float64 or string
	Why   Text `json:"why"`

	here
}

// answer is the right one, as its kind has it.
type answer struct {
	ids       []string
	number    float64
	tolerance float64
	unit      Text
	hex       []byte
}

// Kinds of questions.
const (
	Single = "single"
	Multi  = "multi"
	Number = "number"
	Order  = "order"
	Hex    = "hex"
)

// Reply is what a learner answers: ids of choices, of single just one, of order
// from first to last; or a number; or bytes in hexadecimal.
type Reply struct {
	Choices []string
	Number  float64
	Hex     string
}

// Mark is what is said to a Reply.
type Mark struct {
	Right bool
	Why   Text            // of the question, or of the mistake
	Of    map[string]Text // why each wrongly chosen choice is wrong, by id
	// Place is the first wrong one of an order, from 1; 0: none.
	Place int
}

// Unit is what a number is given in; empty: nothing.
func (q *Question) Unit() Text { return q.right.unit }

// Right is the right reply.
func (q *Question) Right() Reply {
	return Reply{Choices: slices.Clone(q.right.ids), Number: q.right.number, Hex: hex.EncodeToString(q.right.hex)}
}

// Check marks a reply. What cannot be a reply to the question is wrong.
func (q *Question) Check(r Reply) Mark {
	right := Mark{Right: true, Why: q.Why}
	switch q.Kind {
	case Number:
		if math.Abs(r.Number-q.right.number) <= q.right.tolerance {
			return right
		}
		return Mark{Why: q.mistake(func(value any) bool { return value == r.Number })}
	case Hex:
		given, err := parseHex(r.Hex)
		if err == nil && slices.Equal(given, q.right.hex) {
			return right
		}
		return Mark{Why: q.mistake(func(value any) bool {
			s, _ := value.(string)
			known, _ := parseHex(s)
			return err == nil && slices.Equal(given, known)
		})}
	case Order:
		return q.checkOrder(r.Choices)
	}
	m := Mark{Right: true, Why: q.Why, Of: make(map[string]Text)}
	for i, id := range r.Choices {
		if slices.Contains(r.Choices[:i], id) {
			continue
		}
		if !slices.Contains(q.right.ids, id) {
			m.Right = false
			m.Of[id] = q.why(id)
		}
	}
	for _, id := range q.right.ids {
		m.Right = m.Right && slices.Contains(r.Choices, id)
	}
	if !m.Right {
		m.Why = none
		if q.Kind == Single && len(r.Choices) == 1 {
			m.Why = m.Of[r.Choices[0]]
		}
	}
	return m
}

// checkOrder finds the first place that is wrong, and says of what stands there
// why it stands elsewhere.
func (q *Question) checkOrder(given []string) Mark {
	for i, id := range q.right.ids {
		if i < len(given) && given[i] == id {
			continue
		}
		m := Mark{Place: i + 1, Of: make(map[string]Text)}
		if i < len(given) {
			m.Why = q.why(given[i])
			m.Of[given[i]] = m.Why
		}
		return m
	}
	if len(given) > len(q.right.ids) {
		return Mark{Place: len(q.right.ids) + 1}
	}
	return Mark{Right: true, Why: q.Why}
}

// why is that of a choice.
func (q *Question) why(id string) Text {
	for _, c := range q.Choices {
		if c.ID == id {
			return c.Why
		}
	}
	return none
}

// mistake is the why of the first known mistake that fits; else nothing.
func (q *Question) mistake(fits func(value any) bool) Text {
	for _, m := range q.Mistakes {
		if fits(m.Value) {
			return m.Why
		}
	}
	return none
}

func (c *Course) checkQuiz(l *Lesson, phase int) error {
	var faults []error
	var ids []string
	for i := range l.Quiz {
		q := &l.Quiz[i]
		if !questionForm.MatchString(q.ID) || slices.Contains(ids, q.ID) {
			faults = append(faults, faultf(q.at, "the id %q of a question is not like Q1, or is there twice", q.ID))
		}
		ids = append(ids, q.ID)
		if !c.area(phase, q.Area) {
			faults = append(faults, faultf(q.at, "phase %d has no area %q", phase, q.Area))
		}
		faults = append(faults, checkText(q.at, "the prompt", q.Prompt), checkText(q.at, "why", q.Why), q.check())
	}
	return errors.Join(faults...)
}

// check reads the answer as the kind has it, and checks what is offered.
func (q *Question) check() error {
	switch q.Kind {
	case Number, Hex:
		return q.checkValue()
	case Single, Multi, Order:
		return q.checkChoices()
	}
	return faultf(q.at, "the kind %q of a question is not known: known are single, multi, number, order, hex", q.Kind)
}

func (q *Question) checkChoices() error {
	var faults []error
	var ids []string
	if len(q.Mistakes) > 0 || len(q.Choices) < 2 {
		faults = append(faults, faultf(q.at, "a question of the kind %s has two choices or more, and no mistakes", q.Kind))
	}
	a := &q.right
	if q.Kind == Single {
		a.ids = make([]string, 1)
		faults = append(faults, bind(q.Answer, &a.ids[0]))
	} else {
		faults = append(faults, bind(q.Answer, &a.ids))
	}
	for _, c := range q.Choices {
		if c.ID == "" || slices.Contains(ids, c.ID) {
			faults = append(faults, faultf(c.at, "the id %q of a choice is empty or there twice", c.ID))
		}
		ids = append(ids, c.ID)
		faults = append(faults, checkText(c.at, "the choice", Text{c.EN, c.JA}))
		if q.Kind == Order || !slices.Contains(a.ids, c.ID) || c.Why != none {
			faults = append(faults, checkText(c.at, "why", c.Why))
		}
	}
	for i, id := range a.ids {
		if !slices.Contains(ids, id) || slices.Index(a.ids, id) != i {
			faults = append(faults, faultf(q.Answer.at, "the answer names the choice %q, which is not offered, or names it twice", id))
		}
	}
	if q.Kind == Order && len(a.ids) != len(ids) {
		faults = append(faults, faultf(q.Answer.at, "the answer of an order names every choice"))
	}
	if q.Kind == Multi && (len(a.ids) == 0 || len(a.ids) == len(ids)) {
		faults = append(faults, faultf(q.Answer.at, "of the choices of a multi some are right and some are wrong"))
	}
	return errors.Join(faults...)
}

func (q *Question) checkValue() error {
	var faults []error
	if len(q.Choices) > 0 || len(q.Mistakes) == 0 {
		faults = append(faults, faultf(q.at, "a question of the kind %s has no choices, and one of the mistakes that people make or more", q.Kind))
	}
	a := &q.right
	if q.Kind == Number {
		var written struct {
			Value     float64 `json:"value"`
			Tolerance float64 `json:"tolerance,omitzero"`
			Unit      Text    `json:"unit,omitzero"`
		}
		faults = append(faults, bind(q.Answer, &written))
		a.number, a.tolerance, a.unit = written.Value, written.Tolerance, written.Unit
		if a.tolerance < 0 {
			faults = append(faults, faultf(q.Answer.at, "a tolerance is 0 or above"))
		}
	} else {
		var written struct {
			Value string `json:"value"`
		}
		faults = append(faults, bind(q.Answer, &written))
		var err error
		if a.hex, err = parseHex(written.Value); err != nil || len(a.hex) == 0 {
			faults = append(faults, faultf(q.Answer.at, "%q is not hexadecimal", written.Value))
		}
	}
	for _, m := range q.Mistakes {
		faults = append(faults, checkText(m.at, "why", m.Why))
		number, isNumber := m.Value.(float64)
		s, isText := m.Value.(string)
		switch known, err := parseHex(s); {
		case q.Kind == Number && !isNumber, q.Kind == Hex && (!isText || err != nil):
			faults = append(faults, faultf(m.at, "the value of this mistake is not of the question's kind"))
		case q.Kind == Number && math.Abs(number-a.number) <= a.tolerance, q.Kind == Hex && slices.Equal(known, a.hex):
			faults = append(faults, faultf(m.at, "this mistake is the right answer"))
		}
	}
	return errors.Join(faults...)
}
