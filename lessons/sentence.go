package lessons

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// place is where a view is looked at.
func (v *view) place() Place { return Place{Seq: v.seq, Conn: v.conn, Frame: v.frame} }

// name is what sentences call an event.
func (v *view) name() Text {
	conn := strconv.FormatUint(v.conn, 10)
	switch {
	case v.frame > 0:
		frame := strconv.Itoa(v.frame)
		return Text{"frame " + frame + " of connection " + conn, "コネクション" + conn + "のフレーム" + frame}
	case v.on == "http.request":
		line := shown(v.request.Method + " " + v.path())
		return Text{"the request `" + line + "`", "リクエスト`" + line + "`"}
	case v.on == "open":
		return Text{"the opening of connection " + conn, "コネクション" + conn + "の開始"}
	case v.on == "close":
		return Text{"the close of connection " + conn, "コネクション" + conn + "のクローズ"}
	case v.on == "tcp":
		return Text{"the end of connection " + conn, "コネクション" + conn + "の終わり"}
	case v.on == "answer":
		return Text{"your answer", "回答"}
	case v.on == "probe":
		return named(Text{"the probe's case", "プローブの検査"}, v.probe.Case)
	case v.on == "sample":
		return named(Text{"the measurement", "測定"}, v.sample.Source)
	case v.on == "bridge":
		return named(Text{"the bridge's message on", "ブリッジの"}, v.bridge.Name)
	case v.on == "chaos":
		number := strconv.Itoa(v.chaos.Number)
		return Text{"fault " + number, "障害" + number}
	}
	return Text{"a message of connection " + conn, "コネクション" + conn + "のメッセージ"}
}

func named(t Text, name string) Text {
	name = "`" + shown(name) + "`"
	return Text{t.EN + " " + name, t.JA + name}
}

// The longest text, and the most bytes, that a sentence shows.
const (
	shownRunes = 60
	shownBytes = 16
)

// shown makes a text fit between backticks.
func shown(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == shownRunes {
			b.WriteRune('…')
			break
		}
		if r == '`' {
			r = '\''
		} else if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// quote is a value of f in a sentence.
func (f field) quote(value any) Text {
	both := func(s string) Text { return Text{s, s} }
	switch v := value.(type) {
	case string:
		if word := f.words[v]; word != none {
			return word
		}
		return both("`" + shown(v) + "`")
	case float64:
		n := digits(v)
		t := Text{n + f.unit.EN, n + f.unit.JA}
		if f.name == "code" {
			switch v {
			case 1005:
				t = Text{"1005 (no code in the frame)", "1005(フレームにコードなし)"}
			case 1006:
				t = Text{"1006 (no Close frame)", "1006(Closeフレームなし)"}
			}
		}
		return t
	case time.Duration:
		return seconds(v)
	case bool:
		if v {
			return Text{"true", "true"}
		}
		return Text{"false", "false"}
	case []byte:
		s := fmt.Sprintf("% X", v[:min(len(v), shownBytes)])
		if len(v) == 0 {
			return Text{"none", "なし"}
		}
		if len(v) > shownBytes {
			s += " …"
		}
		return both("`" + s + "`")
	case []any:
		if len(v) == 0 {
			return Text{"none", "なし"}
		}
		var en, ja []string
		for _, element := range v[:min(len(v), shownBytes)] {
			t := f.quote(element)
			en, ja = append(en, t.EN), append(ja, t.JA)
		}
		return Text{strings.Join(en, ", "), strings.Join(ja, "、")}
	}
	return both("`" + shown(compact(value)) + "`")
}

func digits(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	if math.Abs(v) < 0.01 || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
}

func seconds(d time.Duration) Text {
	s := digits(d.Seconds())
	return Text{s + " s", s + " 秒"}
}

// labelled puts a value into the field's phrase, or behind its label.
func (f field) labelled(t Text) Text {
	if f.phrase != none {
		return Text{strings.ReplaceAll(f.phrase.EN, "%s", t.EN), strings.ReplaceAll(f.phrase.JA, "%s", t.JA)}
	}
	return Text{f.label.EN + " " + t.EN, f.label.JA + t.JA}
}

// saw says what the field was.
func (f field) saw(value any) Text {
	if yes, ok := value.(bool); ok && f.sort == aBool {
		if yes {
			return f.yes
		}
		return f.no
	}
	if list, ok := value.([]any); value == nil || ok && len(list) == 0 {
		n := f.label
		if f.sort == aBool {
			n = f.yes
		}
		return Text{"no " + n.EN, n.JA + "なし"}
	}
	return f.labelled(f.quote(value))
}

// wanted says what t asks of f.
func (t *test) wanted(f field, e *env) Text {
	n := f.label
	or := func(values []any) Text {
		var en, ja []string
		for _, v := range values {
			q := f.quote(v)
			en, ja = append(en, q.EN), append(ja, q.JA)
		}
		return Text{strings.Join(en, " or "), strings.Join(ja, "か")}
	}
	switch t.op {
	case "is":
		if f.sort == aBool {
			return f.saw(t.values[0])
		}
		return f.labelled(or(t.values))
	case "not":
		if yes, ok := t.values[0].(bool); ok && f.sort == aBool {
			return f.saw(!yes)
		}
		q := or(t.values)
		return f.labelled(Text{"other than " + q.EN, q.JA + "以外"})
	case "range":
		return f.labelled(bounds(f, t.from, t.to))
	case "present":
		if !t.yes {
			return f.saw(nil)
		}
		if !strings.HasSuffix(n.EN, "s") && !strings.HasPrefix(n.EN, "`") {
			n.EN = "a " + n.EN
		}
		return Text{n.EN, n.JA + "あり"}
	case "matches":
		q := shown(t.values[0].(string))
		return Text{n.EN + " matching `" + q + "`", "`" + q + "`に合う" + n.JA}
	case "contains", "token", "has":
		q := or(t.values)
		if t.op == "has" {
			q = f.quote(t.values)
		}
		return Text{n.EN + " with " + q.EN, q.JA + "を含む" + n.JA}
	case "noToken", "lacks":
		q := or(t.values)
		return Text{n.EN + " without " + q.EN, q.JA + "を含まない" + n.JA}
	case "hex":
		return f.labelled(f.quote(t.values[0]))
	case "startsHex":
		q := f.quote(t.values[0])
		return Text{n.EN + " starting with " + q.EN, q.JA + "で始まる" + n.JA}
	case "nonce":
		word := "`" + shown(e.nonce) + "`"
		if t.yes {
			return Text{n.EN + " with your session's word " + word + " in it", "合い言葉" + word + "を含む" + n.JA}
		}
		return Text{"your session's word " + word + " and nothing else", "合い言葉" + word + "だけ"}
	case "fact":
		if t.wrong > 0 {
			wrong := strconv.Itoa(t.wrong)
			return Text{"what the server knows, with at most " + wrong + " wrong", "サーバーが知っている答え(間違いは" + wrong + " か所まで)"}
		}
		return Text{"the " + n.EN + " that the server knows", "サーバーが知っている" + n.JA}
	case "near":
		percent := digits(t.percent)
		if t.fact != nil {
			return Text{"a " + n.EN + " within " + percent + " % of the server's figure", "サーバーの値との差が" + percent + " %以内の" + n.JA}
		}
		other := e.nameOf(t)
		return Text{"a " + n.EN + " within " + percent + " % of that of " + other.EN, other.JA + "との差が" + percent + " %以内の" + n.JA}
	}
	other := e.nameOf(t)
	q := f.quote(e.other(t))
	switch {
	case t.op == "same" && e.other(t) == nil:
		return Text{"the same " + n.EN + " as " + other.EN, other.JA + "と同じ" + n.JA}
	case t.op == "same":
		return Text{n.EN + " " + q.EN + ", as in " + other.EN, other.JA + "と同じ" + n.JA + q.JA}
	case t.by != nil:
		by := f.quote(t.by)
		return Text{n.EN + " at least " + by.EN + " away from " + q.EN + " (" + other.EN + ")", q.JA + "(" + other.JA + ")から" + by.JA + "以上離れた" + n.JA}
	}
	return Text{n.EN + " other than " + q.EN + " (" + other.EN + ")", q.JA + "(" + other.JA + ")以外の" + n.JA}
}

func (e *env) nameOf(t *test) Text {
	if c := e.bound[t.ref.name]; c != nil {
		return c.name
	}
	return Text{"an earlier event", "前の出来事"}
}

// bounds says a range in the units of f.
func bounds(f field, from, to any) Text {
	low, high := f.quote(from), f.quote(to)
	switch {
	case to == nil:
		return Text{"at least " + low.EN, low.JA + "以上"}
	case from == nil:
		if _, ok := to.(time.Duration); ok {
			return Text{"at most " + high.EN, high.JA + "以内"}
		}
		return Text{"at most " + high.EN, high.JA + "以下"}
	}
	bare := f
	bare.unit = none
	low = bare.quote(from)
	if d, ok := from.(time.Duration); ok {
		low = field{}.quote(d.Seconds())
	}
	return Text{low.EN + " to " + high.EN, low.JA + "〜" + high.JA}
}

// difference is what was seen and what was wanted in its place.
type difference struct{ saw, wanted Text }

// shownDifferences is how many of them one sentence names.
const shownDifferences = 3

// differences are those between a view and conditions that it does not fulfil.
// What is not there is named only if nothing else differs: a binary message has
// no text because it is binary.
func (g *Grader) differences(v *view, failing []*condition) []difference {
	var there, absent []difference
	for _, c := range failing {
		value := c.field.get(v)
		d := difference{c.field.saw(value), c.failing(value, &g.env).wanted(c.field, &g.env)}
		if value == nil {
			absent = append(absent, d)
		} else {
			there = append(there, d)
		}
	}
	if there == nil {
		there = absent
	}
	return there[:min(len(there), shownDifferences)]
}

// missOf makes the sentence from what differs.
func (g *Grader) missOf(v *view, list []difference) Miss {
	var saw, wanted [2][]string
	for _, d := range list {
		saw[0], saw[1] = append(saw[0], d.saw.EN), append(saw[1], d.saw.JA)
		wanted[0], wanted[1] = append(wanted[0], d.wanted.EN), append(wanted[1], d.wanted.JA)
	}
	m := Miss{
		Place:  v.place(),
		Saw:    Text{strings.Join(saw[0], ", "), strings.Join(saw[1], "、")},
		Wanted: Text{strings.Join(wanted[0], ", "), strings.Join(wanted[1], "、")},
	}
	name := v.name()
	m.Sentence = Text{capital(name.EN) + ": " + m.Saw.EN + ". Wanted: " + m.Wanted.EN + ".", name.JA + "は、" + m.Saw.JA + "でした。必要なのは、" + m.Wanted.JA + "です。"}
	return m
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// because is said of a tick when the lesson says nothing.
func because(c *candidate) Text {
	return Text{capital(c.name.EN) + " is what was asked for.", c.name.JA + "が条件を満たしました。"}
}

// nearest finds why an event did not tick a step: in the lesson's own words, or
// in those made of the matcher. miss is of the nearest pattern that the event
// does not fit by itself.
func (g *Grader) nearest(s *grading, v *view, fits []fit, miss *found) *found {
	progress := false
	take := func(score int, list ...difference) {
		if miss == nil || score > miss.score {
			miss = &found{s, v.on, score, g.missOf(v, list)}
		}
	}
	alone := miss
	for _, f := range fits {
		if f.never {
			if d, ok := g.offence(f); ok {
				take(1000, d)
			}
			continue
		}
		search := g.search(f.alt)
		p := f.alt.want[f.i]
		total := len(p.where) + p.relations()
		relations, bound, missing := search.closest(f.i, p, f.c)
		late := slices.IndexFunc(relations, func(r relation) bool { return r.word == "after" })
		search.bound = bound
		switch {
		case missing != "" || late >= 0:
			// Nothing stands before it: that says something only of events that
			// fit nowhere else.
			if missing == "" {
				missing = p.after[0]
			}
			if !progress && alone == nil {
				alone = &found{s, v.on, 0, g.missOf(v, []difference{f.alt.before(missing, search.env())})}
			}
		case len(relations) > 0:
			var list []difference
			for _, r := range relations[:min(len(relations), shownDifferences)] {
				list = append(list, r.difference(p, f.c, search.env()))
			}
			take(1000*(total-len(relations))/total, list...)
		case p.atLeast == 0:
			progress = true
		case f.every != nil:
			take(900, g.differences(v, []*condition{f.every})...)
		default:
			if d, ok := search.rowDifference(f, p); ok {
				take(900, d)
			} else {
				progress = true
			}
		}
	}
	switch {
	case progress && miss == alone:
		miss = nil
	case miss == nil && !progress:
		miss = alone
	}
	for i := range s.step.Misses {
		said := &s.step.Misses[i]
		if said.pattern.on != v.on || v.answer != nil && v.answer.Step != s.step.ID {
			continue
		}
		if failing, _ := g.failing(said.pattern.where, v); len(failing) > 0 {
			continue
		}
		found := &found{s, v.on, 1000, Miss{Place: v.place()}}
		if miss != nil {
			found.miss = miss.miss
		}
		found.miss.Sentence = said.fill(v)
		return found
	}
	return miss
}

// offence says what a forbidden event came upon, if it came upon something.
func (g *Grader) offence(f fit) (difference, bool) {
	p := f.alt.never[f.i]
	for k, want := range f.alt.want {
		if want.as != p.after[0] {
			continue
		}
		var from *candidate
		for _, first := range []int{k, 0} { // by itself, else with those before it
			if from != nil {
				break
			}
			search := g.search(f.alt)
			search.reach(first, k, func(c *candidate) bool {
				if search.related(p, f.c, search.env()) && search.disturbs(p, f.c, c) {
					from = c
				}
				return from == nil
			})
		}
		if from != nil {
			label := kinds[p.on].label
			gap := seconds(f.c.at.Sub(from.at))
			other := from.nameFrom(f.c)
			d := difference{
				Text{gap.EN + " after " + other.EN, other.JA + "の" + gap.JA + "後"},
				Text{"no such " + label.EN + " meanwhile", "そのあと、このような" + label.JA + "がないこと"},
			}
			if p.hold > 0 {
				hold, no := seconds(p.hold), label
				if len(p.where) > 0 {
					no = Text{"such " + label.EN, "このような" + label.JA}
				}
				d.wanted = Text{"no " + no.EN + " for " + hold.EN, hold.JA + "間、" + no.JA + "がないこと"}
			}
			return d, true
		}
	}
	return difference{}, false
}

// before is the difference of an event that comes too early.
func (a *grade) before(name string, e *env) difference {
	d := difference{Text{"too early", "早すぎるタイミング"}, Text{"step " + name + " first", "先に課題" + name}}
	for _, p := range a.want {
		if p.as == name {
			label := kinds[p.on].label
			d.wanted = Text{label.EN, "その前の" + label.JA}
			var en, ja []string
			for _, c := range p.where {
				for i := range c.tests {
					t := c.tests[i].wanted(c.field, e)
					en, ja = append(en, t.EN), append(ja, t.JA)
				}
			}
			if en != nil {
				d.wanted.EN += " (" + strings.Join(en, ", ") + ")"
				d.wanted.JA += "(" + strings.Join(ja, "、") + ")"
			}
			d.wanted.EN += " before it"
		}
	}
	return d
}

// difference says how c does not stand to another event as p says.
func (r relation) difference(p *pattern, c *candidate, e *env) difference {
	conn := strconv.FormatUint(c.place.Conn, 10)
	other := r.to.nameFrom(c)
	switch r.word {
	case "within":
		gap := seconds(c.at.Sub(r.to.at))
		wanted := bounds(field{sort: aTime}, p.window.from, p.window.to)
		if p.window.from != nil {
			wanted.JA += "あと"
		}
		return difference{
			Text{gap.EN + " after " + other.EN, other.JA + "の" + gap.JA + "後"},
			Text{wanted.EN + " after it", wanted.JA},
		}
	case "sameConn":
		return difference{Text{"another connection", "別のコネクション"}, Text{"that of " + other.EN, other.JA + "と同じコネクション"}}
	case "newConn":
		return difference{Text{"on connection " + conn + ", which was open already", "前から開いていたコネクション" + conn}, Text{"a connection opened after " + other.EN, other.JA + "より後に開いたコネクション"}}
	}
	value := c.values[r.cond.field.name]
	return difference{r.cond.field.saw(value), r.cond.failing(value, e).wanted(r.cond.field, e)}
}

// nameFrom is what the event is called beside one of the same connection.
func (c *candidate) nameFrom(other *candidate) Text {
	if c == nil {
		return Text{"an earlier event", "前の出来事"}
	}
	if frame := strconv.Itoa(c.place.Frame); c.place.Frame > 0 && c.place.Conn == other.place.Conn {
		return Text{"frame " + frame, "フレーム" + frame}
	}
	return c.name
}

// rowDifference says what the row that ends with an event lacks, if anything.
func (s *search) rowDifference(f fit, p *pattern) (difference, bool) {
	e := s.env()
	rows := s.rows(p, f.alt.seen[f.i].list, e)
	i := slices.IndexFunc(rows, func(r row) bool { return r.last() == f.c })
	if i < 0 {
		return difference{}, false
	}
	r := rows[i]
	if n := r.length(); n < p.atLeast {
		saw, wanted := strconv.Itoa(n), strconv.Itoa(p.atLeast)
		d := difference{Text{saw + " so far", "ここまでで" + saw + " 件"}, Text{wanted + " in a row", "続けて" + wanted + " 件"}}
		if p.oneConn {
			d.wanted = Text{d.wanted.EN + " on one connection", "1本のコネクションで" + d.wanted.JA}
		}
		return d, true
	}
	failing := r.failing(p, e)
	if len(failing) == 0 {
		return difference{}, false
	}
	c := failing[0]
	if c.of == "span" {
		span := seconds(r.last().at.Sub(r.events[0].at))
		wanted := bounds(field{sort: aTime}, p.span.from, p.span.to)
		return difference{Text{span.EN + " from the first of them to the last", "最初から最後までが" + span.JA}, wanted}, true
	}
	word := map[string]Text{"smallest": label(" (the smallest)", "(最小値)"), "largest": label(" (the largest)", "(最大値)"), "total": label(" (in total)", "(合計)")}[c.of]
	value := r.over(c)
	saw, wanted := c.field.saw(value), c.condition.failing(value, e).wanted(c.field, e)
	return difference{Text{saw.EN + word.EN, saw.JA + word.JA}, Text{wanted.EN + word.EN, wanted.JA + word.JA}}, true
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// fill puts what was seen into the lesson's own words.
func (s *SaidMiss) fill(v *view) Text {
	put := func(text string, in func(Text) string) string {
		return placeholder.ReplaceAllStringFunc(text, func(name string) string {
			name = name[1 : len(name)-1]
			if name == "frame" {
				return strconv.Itoa(v.frame)
			}
			f, _ := kinds[v.on].field(name)
			switch value := f.get(v).(type) {
			case nil:
				return "-"
			case string:
				return shown(value)
			default:
				return strings.Trim(in(f.quote(value)), "`")
			}
		})
	}
	return Text{
		put(s.Say.EN, func(t Text) string { return t.EN }),
		put(s.Say.JA, func(t Text) string { return t.JA }),
	}
}
