package lessons

import (
	"testing"

	"go.uber.org/goleak"
)

// Chroma's regular expressions have a clock of their own, which stops by itself.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock"))
}
