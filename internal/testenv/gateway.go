package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BuildGateway builds the gateway for the tests of a package, and takes from the
// environment what would configure it. remove removes the program.
func BuildGateway(race bool) (program string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	program = filepath.Join(dir, "sluice")
	args := []string{"build", "-o", program}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/sluice-gateway/sluice/cmd/sluice")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	for _, variable := range os.Environ() { // gateways inherit the others
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "SLUICE_") {
			_ = os.Unsetenv(name)
		}
	}
	return program, remove, nil
}

// Eventually polls until it is as wanted; state says what is still wrong.
func Eventually(tb testing.TB, within time.Duration, what string, state func() string) {
	tb.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.Now().Add(within)
	for {
		wrong := state()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("not after %v: %s. Instead: %s", within, what, wrong)
		}
		<-poll.C
	}
}
