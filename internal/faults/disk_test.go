//go:build linux

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/internal/testenv"
)

// A disk is full in two ways here: a file system of 3 MiB, which needs a kernel
// that lets users mount one in a namespace of their own (ENOSPC), and a limit of
// the size of files, which every process can have (EFBIG).
func TestAFullDiskLosesNothing(t *testing.T) {
	needed(t)
	flags := func(dir string) []string {
		return []string{"--data-dir", dir, "--mqtt-url", testenv.Mosquitto(t).URL()}
	}

	t.Run("no space left", func(t *testing.T) {
		dir := t.TempDir()
		mount := []string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", `mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"`, dir}
		if out, err := exec.Command(mount[0], append(mount[1:], "true")...).CombinedOutput(); err != nil {
			t.Skipf("no file system can be mounted here: %v: %s", err, out)
		}
		g := startUnder(t, mount, flags(dir)...)
		inside := filepath.Join("/proc", fmt.Sprint(g.Pid()), "root", dir)
		ballast := filepath.Join(inside, "ballast")
		fillDisk(t, g, func() {
			if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func() {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		})
	})

	t.Run("file too large", func(t *testing.T) {
		g := start(t, flags(t.TempDir())...)
		limit := func(bytes string) {
			if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(g.Pid()), "--fsize="+bytes+":unlimited").CombinedOutput(); err != nil {
				t.Fatalf("prlimit: %v: %s", err, out)
			}
		}
		s := fillDisk(t, g, func() { limit("2097152") }, func() { limit("unlimited") })

		limit("1")
		late := toRoom("late", s.history, g.Addr())
		if err := late.send(t.Context(), 0); codeOf(err) != "LOG_UNAVAILABLE" {
			t.Errorf("a message to a full disk was answered %v", err)
		}
		g.Stop(t)
		g.Start(t) // without the limit
		s.clients = []*client{readBack(t, s.history, g.Addr())}
		s.name = "room, killed while full"
		s.judge(t)
		if s.clients[0].has(late.name, 0) {
			t.Error("the message that was refused is there")
		}
	})
}

// fillDisk sends until the disk is full, makes room, and sends on.
func fillDisk(t *testing.T, g *gateway, shrink, makeRoom func()) *stream {
	g.ready(t)
	shrink()
	room := newRoom()
	s := &stream{name: "room", kept: true, history: room}
	for _, protocol := range []string{modern, legacy, sse} {
		s.clients = append(s.clients, subscribe(t, protocol, messagesOf(room), g.Addr()))
	}
	allOpen(t, s.clients)
	codes := make(map[*sender]string)
	for i := range 4 {
		from := toRoom(fmt.Sprint("sender", i), room, g.Addr())
		s.senders, codes[from] = append(s.senders, from), "LOG_UNAVAILABLE"
	}
	perSecond(t, 50, s.senders...)
	flow(t, s.clients, 20)
	areRefused(t, codes)
	testenv.Eventually(t, 5*time.Second, "the room has what was acknowledged, and nothing that was refused", func() string {
		kept, acked := readBack(t, room, g.Addr()), 0 // reading goes on
		for _, from := range s.senders {
			for _, n := range from.acknowledged() {
				acked++
				if !kept.has(from.name, n) {
					return fmt.Sprintf("%s %d is missing", from.name, n)
				}
			}
		}
		if len(kept.events) != acked {
			return fmt.Sprintf("%d messages are there, %d were acknowledged", len(kept.events), acked)
		}
		return ""
	})
	areRefused(t, codes)
	makeRoom()
	back := time.Now()
	resumed(t, s.clients, back)
	flow(t, s.clients, 40)
	stayed(t, s.clients)
	judgeRooms(t, []*stream{s}, g.Addr())
	refusedSoon(t, s.senders)
	return s
}
