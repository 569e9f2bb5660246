package sqlitelog

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/eventlog"
	"github.com/sluice-gateway/sluice/internal/eventlog/eventlogtest"
	"github.com/sluice-gateway/sluice/internal/live"
)

const childVariable = "SQLITELOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		appendUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

func place(tb testing.TB) eventlogtest.Place {
	dir := tb.TempDir()
	return func(tb testing.TB, o eventlogtest.Options) eventlog.Store {
		tb.Helper()
		return openAt(tb, dir, Config{Retention: o.Retention, Now: o.Now, Sweep: 20 * time.Millisecond})
	}
}

func openAt(tb testing.TB, dir string, cfg Config) *Store {
	tb.Helper()
	s, err := Open(dir, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	eventlogtest.Run(t, eventlogtest.Subject{Place: place, Clock: true, Keeps: true, Rounds: 3})
}

func BenchmarkStore(b *testing.B) { eventlogtest.Bench(b, place) }

// Topics that nobody writes to any longer leave the file.
func TestSweepRemovesWhatIsTooOld(t *testing.T) {
	var ahead time.Duration
	var mu sync.Mutex
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}
	s := openAt(t, t.TempDir(), Config{Now: now, Sweep: time.Millisecond})
	defer s.Close()
	first := eventlogtest.Append(t, s, "0", "x")
	for i := range 2*sweepTopic + 10 {
		eventlogtest.Append(t, s, fmt.Sprint(i), "x")
	}
	mu.Lock()
	ahead = 25 * time.Hour
	mu.Unlock()
	eventlogtest.Eventually(t, "the tables are empty", func() bool {
		var entries, topics int
		err := s.read.QueryRow("SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM topics)").Scan(&entries, &topics)
		return err == nil && entries == 0 && topics == 0
	})
	var trimmed *live.Trimmed
	if _, err := s.Read(t.Context(), "0", first.Pos, 1); !errors.As(err, &trimmed) {
		t.Errorf("Read after an entry that was swept away, with a younger one: %v, want a *live.Trimmed", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	sqlite := func(statements ...string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			db, err := sql.Open("sqlite", filepath.Join(dir, fileName))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, statement := range statements {
				if _, err := db.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, test := range []struct {
		name  string
		given func(t *testing.T, dir string)
		words []string
	}{
		{"a file that is no database", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, fileName), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"is no event log", "--data-dir"}},
		{"a database of another program", sqlite("CREATE TABLE t (x)"), []string{"is no event log", "another program", "--data-dir"}},
		{
			"a newer version", sqlite(fmt.Sprintf("PRAGMA application_id = %d", application), "PRAGMA user_version = 2", "CREATE TABLE t (x)"),
			[]string{"newer version", "version 2", "--data-dir"},
		},
		{"a directory that is used", func(t *testing.T, dir string) {
			s := openAt(t, dir, Config{})
			t.Cleanup(func() { _ = s.Close() })
		}, []string{"another gateway", "--data-dir"}},
		{"a directory where a file is", func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, fileName), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"cannot be opened", "--data-dir"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.given(t, dir)
			s, err := Open(dir, Config{})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			t.Log(err)
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
}

func TestDirectoriesWithStrangeNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c=d&e#f%20", "ログ")
	s := openAt(t, dir, Config{})
	e := eventlogtest.Append(t, s, "a", "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
	s = openAt(t, dir, Config{})
	defer s.Close()
	if entries, err := s.Before(t.Context(), "a", live.Position{}, 1); err != nil || len(entries) != 1 || entries[0].Pos != e.Pos {
		t.Errorf("reopened: %v, %v", entries, err)
	}
}

// While the writer is held up, appends wait in a queue that is bounded, and for
// room in it.
func TestAppendsWaitForRoomUnderTheirContexts(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir, Config{Retention: eventlog.Retention{Events: 10_000}})
	defer s.Close()
	other, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	const senders = 2 * queueSize
	var work sync.WaitGroup
	for i := range senders {
		work.Go(func() {
			for { // the writer gives up after 2 s
				_, _, err := s.Append(t.Context(), eventlog.Draft{Topic: "a", ID: fmt.Sprint(i)})
				if err == nil {
					return
				}
				var refusal *live.Error
				if !errors.As(err, &refusal) || refusal.Code != eventlog.CodeUnavailable {
					t.Errorf("Append: %v", err)
					return
				}
			}
		})
	}
	eventlogtest.Eventually(t, "the queue is full", func() bool { return len(s.queue) == queueSize })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := s.Append(ctx, eventlog.Draft{Topic: "b"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an append without room: %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	work.Wait()
	entries, err := s.Before(t.Context(), "a", live.Position{}, 10_000)
	if err != nil || len(entries) != senders {
		t.Errorf("%d entries, %v, want %d", len(entries), err, senders)
	}
}

// appendUntilKilled is the child of the test below: it appends and prints the
// ids that were acknowledged.
func appendUntilKilled(dir string) {
	s, err := Open(dir, Config{Retention: eventlog.Retention{Events: 1_000_000}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for sender := range 16 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%d-%d", sender, n)
				_, _, err := s.Append(context.Background(), eventlog.Draft{Topic: fmt.Sprint(sender % 4), ID: id, Data: childData(id)})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		}()
	}
	select {}
}

func childData(id string) []byte { return bytes.Repeat([]byte(id+" "), 100) }

func TestAcknowledgedEventsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == 500*(round+1) {
				if err := cmd.Process.Kill(); err != nil { // SIGKILL; what it has printed is still read
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		if said.Len() > 0 {
			t.Fatalf("the child said: %s", &said)
		}
		check(t, dir, acknowledged)
		if t.Failed() {
			return
		}
	}
}

// check looks for acknowledged events, and that there are no broken ones.
func check(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	s := openAt(t, dir, Config{Retention: eventlog.Retention{Events: 1_000_000}})
	defer s.Close()
	var verdict string
	if err := s.read.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %s, %v", verdict, err)
	}
	found := map[string]bool{}
	for topic := range 4 {
		entries, err := s.Before(t.Context(), fmt.Sprint(topic), live.Position{}, 1_000_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if found[e.ID] {
				t.Errorf("%s is there twice", e.ID)
			}
			if !bytes.Equal(e.Data, childData(e.ID)) {
				t.Errorf("%s is broken", e.ID)
			}
			found[e.ID] = true
		}
	}
	for id := range acknowledged {
		if !found[id] {
			t.Errorf("%s was acknowledged and is gone", id)
		}
	}
	t.Logf("%d acknowledged, %d found", len(acknowledged), len(found))
}

// A real file system that is full. It takes the rights to mount one.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root may mount a small file system")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m", "sluice-test", dir).CombinedOutput(); err != nil {
		t.Skipf("a small file system cannot be mounted: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, dir, Config{Retention: eventlog.Retention{Events: 1_000_000}})
	acknowledged := map[string]bool{}
	send := func(n int) error {
		id := fmt.Sprint(n)
		_, _, err := s.Append(t.Context(), eventlog.Draft{Topic: fmt.Sprint(n % 4), ID: id, Data: childData(id)})
		if err == nil {
			acknowledged[id] = true
		}
		return err
	}
	n, failures := 0, 0
	for ; failures < 20; n++ {
		if n > 1_000_000 {
			t.Fatal("the disk does not fill")
		}
		if err := send(n); err != nil {
			failures++
			var refusal *live.Error
			if !errors.As(err, &refusal) || refusal.Code != eventlog.CodeUnavailable || refusal.Cause == nil {
				t.Fatalf("on a full disk: %v, want %s with its cause", err, eventlog.CodeUnavailable)
			}
			if failures == 1 {
				t.Logf("after %d: %v", n, err)
			}
		}
	}
	if _, err := s.Before(t.Context(), "0", live.Position{}, 10); err != nil {
		t.Errorf("reading on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := send(n); err != nil {
			t.Fatalf("with room again: %v", err)
		}
		n++
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	check(t, dir, acknowledged)
}
