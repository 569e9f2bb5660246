package model

// Demo is something to try.
type Demo struct {
	ID       string
	En, Ja   string
	Phase    int
	URLs     []string
	Document *string
	State    DemoState
}

// Title is what it is.
func (d Demo) Title(locale Locale) string {
	if locale == LocaleJa {
		return d.Ja
	}
	return d.En
}
