package learners

import "testing"

// DerivedKey is what tokens and documents are signed under.
func DerivedKey(tb testing.TB, l *Learners) []byte {
	tb.Helper()
	key, err := l.signer.derive(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return key
}
