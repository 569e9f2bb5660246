package sluice

import (
	"go/build"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice/"

// arrows says what each package of ours may import of ours, in its code and in
// its tests within the package. A name that ends in "/..." stands for a folder.
var arrows = map[string][]string{
	"internal/live":                  {},
	"internal/wire":                  {},
	"internal/eventlog":              {"internal/live"},
	"internal/presence":              {"internal/live"},
	"internal/eventlog/eventlogtest": {"internal/eventlog", "internal/live"},
	"internal/eventlog/redislog":     {"internal/eventlog", "internal/live", "internal/redisclient"},
	"internal/eventlog/sqlitelog":    {"internal/eventlog", "internal/live"},

	"internal/learners":                {"internal/live", "lessons"},
	"internal/learners/learnerstest":   {"internal/learners", "lessons"},
	"internal/learners/redislearners":  {"internal/learners", "internal/redisclient"},
	"internal/learners/sqlitelearners": {"internal/learners"},

	"internal/redisclient": {"bridges"},

	"internal/rooms": {"internal/eventlog", "internal/live", "internal/presence"},

	"internal/presence/presencetest":  {"internal/live", "internal/presence"},
	"internal/presence/redispresence": {"internal/live", "internal/presence", "internal/redisclient"},

	"bridges":             {"internal/live"},
	"bridges/bridgetest":  {"bridges", "internal/live"},
	"bridges/mqttbridge":  {"bridges", "internal/live"},
	"bridges/redisbridge": {"bridges", "internal/live", "internal/redisclient"},

	"graph":           {"bridges", "graph/...", "internal/eventlog", "internal/live", "internal/presence", "internal/rooms", "internal/wire", "labs", "labs/...", "lessons"},
	"graph/model":     {"bridges", "internal/live", "internal/presence", "internal/rooms", "internal/wire", "labs", "labs/...", "lessons"},
	"graph/generated": {"bridges", "graph/model", "internal/live", "internal/presence", "internal/rooms", "internal/wire", "labs", "labs/...", "lessons"},

	"server/gqlws/conformance": {"internal/live", "server/gqlws"},
	"server/gqlws":             {"internal/live"},
	"server":                   {"bridges", "graph", "graph/generated", "graph/model", "internal/live", "internal/rooms", "internal/wire", "labs", "labs/...", "lessons", "lessons/content", "server/gqlws"},

	"labs":          {"internal/wire"},
	"labs/course":   {"internal/wire", "labs", "labs/mock"},
	"labs/mock":     {"internal/wire", "labs"},
	"labs/mqttws":   {"internal/wire", "labs"},
	"labs/chaos":    {"internal/wire", "labs"},
	"labs/load":     {"internal/live", "labs"},
	"labs/sessions": {"internal/live", "internal/wire", "labs", "labs/..."},
	"labs/probe":    {"internal/wire"},

	"lessons/content": {},
	"clients/course":  {"labs", "labs/course", "labs/mock", "lessons/content"},

	"lessons": {"internal/eventlog", "internal/live", "internal/wire"},

	"web":         {},
	"bench":       {"bench/..."},
	"bench/peers": {"bridges/...", "bridges", "graph/...", "graph", "internal/eventlog", "internal/live", "internal/presence", "internal/rooms"},
	"examples/nothing-lost/stock": {
		"graph/generated", "graph", "internal/eventlog", "internal/eventlog/redislog", "internal/presence", "internal/rooms",
	},
	"internal/embedded": {"bridges"},
	"internal/testenv":  {},
	"internal/faults":   {"internal/testenv"},
	"internal/hostile":  {"internal/testenv"},
	"cmd/sluice": {
		"bridges/...", "bridges", "graph", "graph/model", "internal/embedded", "internal/eventlog/...", "internal/eventlog", "internal/learners/...", "internal/learners", "internal/live", "internal/presence/...", "internal/presence", "internal/rooms", "labs", "labs/...", "lessons", "server", "server/gqlws", "web",
	},
}

// heavy is what no package but the drivers may bring into a build.
var heavy = []string{
	"github.com/redis/go-redis", "github.com/eclipse/paho", "github.com/mochi-mqtt", "github.com/alicebob/miniredis", "modernc.org/sqlite",
}

func TestArrows(t *testing.T) {
	for _, dir := range packages(t) {
		allowed, known := arrows[dir]
		if !known {
			t.Errorf("%s is not in the table of arrows", dir)
			continue
		}
		pkg, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range pkg.Imports {
			if ours, ok := strings.CutPrefix(path, module); ok && !covers(allowed, ours) {
				t.Errorf("%s imports %s, which the table of arrows does not allow", dir, ours)
			}
		}
	}
}

func TestEveryPackageIsInTheDocs(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range packages(t) {
		if !strings.Contains(string(text), "`"+dir+"`") && !strings.Contains(string(text), "`…/"+filepath.Base(dir)+"`") {
			t.Errorf("docs/architecture.md does not say what %s is", dir)
		}
	}
}

func covers(allowed []string, path string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		folder, all := strings.CutSuffix(a, "...")
		return a == path || all && strings.HasPrefix(path, folder)
	})
}

// packages lists the folders below this one that hold Go code.
func packages(t *testing.T) []string {
	var dirs []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "node_modules" || name == "testdata" || len(name) > 1 && strings.HasPrefix(name, ".") {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != "." {
			return filepath.SkipDir // a module of its own
		}
		files, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err == nil && len(files) > 0 && path != "." {
			dirs = append(dirs, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func TestServerBringsNoDriver(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./server").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		for _, driver := range heavy {
			if strings.HasPrefix(dep, driver) {
				t.Errorf("./server depends on %s", strings.TrimSpace(dep))
			}
		}
	}
}
