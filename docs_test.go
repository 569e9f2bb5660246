package sluice

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/server/gqlws"
)

// TestErrorsPage holds docs/errors.md to the codes and endings in the source.
func TestErrorsPage(t *testing.T) {
	page, err := os.ReadFile("docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, row[1])
	}
	if !slices.IsSorted(listed) {
		t.Error("the codes are not in alphabetical order")
	}
	used := codes(t)
	for _, code := range used {
		if !slices.Contains(listed, code) {
			t.Errorf("%s is used but not in docs/errors.md", code)
		}
	}
	for _, code := range listed {
		if !slices.Contains(used, code) {
			t.Errorf("%s is in docs/errors.md but not used", code)
		}
	}
	for _, e := range gqlws.Endings {
		back := "no"
		if e.Retry {
			back = "yes"
		}
		if row := fmt.Sprintf("| %d | %s | %s |", e.Code, e.Reason, back); !strings.Contains(string(page), row) {
			t.Errorf("docs/errors.md lacks the row\n%s", row)
		}
	}
}

// codes lists the upper snake case strings in the packages that refuse things.
func codes(t *testing.T) []string {
	found := []string{"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED"} // gqlgen's
	literal := regexp.MustCompile(`"(INTERNAL|CANCELLED|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"`)
	for _, pattern := range []string{"graph/*.go", "server/*.go", "server/gqlws/*.go", "bridges/*.go", "bridges/*/*.go", "internal/live/*.go", "internal/eventlog/*.go", "internal/learners/*.go", "internal/presence/*.go", "internal/rooms/*.go", "labs/*.go", "labs/*/*.go", "lessons/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range literal.FindAllStringSubmatch(string(source), -1) {
				noCode := match[1] == "KEEP_LATEST" || match[1] == "STOPPED_TYPING" // a policy, a change
				if !noCode && !slices.Contains(found, match[1]) {
					found = append(found, match[1])
				}
			}
		}
	}
	return found
}
