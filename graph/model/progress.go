package model

import "github.com/sluice-gateway/sluice/lessons"

// PhaseProgress is how far a learner is in a phase.
type PhaseProgress struct {
	Number int
	Areas  []lessons.AreaStanding
	Green  bool
	Advise lessons.Text
	Locale Locale // of the request
}

func (p PhaseProgress) Advice(locale *Locale) string { return p.Locale.in(locale, p.Advise) }
