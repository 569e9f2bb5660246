package redispresence_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/internal/embedded"
	"github.com/sluice-gateway/sluice/internal/presence"
	"github.com/sluice-gateway/sluice/internal/presence/presencetest"
	"github.com/sluice-gateway/sluice/internal/presence/redispresence"
	"github.com/sluice-gateway/sluice/internal/testenv"
)

// gatewayURL in the environment makes the test binary a gateway on this Redis.
const gatewayURL = "PRESENCE_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if url := os.Getenv(gatewayURL); url != "" {
		gateway(url)
		return
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // most of them wait for an instance to expire
	goleak.VerifyTestMain(m)
}

// gateway enters a member, says so, and lives until its input ends.
func gateway(url string) {
	d, err := redispresence.New(redispresence.Config{URL: url})
	if err == nil {
		_, err = d.Enter("room", "child", "child")
	}
	fmt.Println("entered", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestGatewaysOnRedis(t *testing.T) {
	t.Parallel()
	suite(t, testenv.Redis(t).URL())
}

func TestGatewaysOnEmbeddedRedis(t *testing.T) {
	t.Parallel()
	server, err := embedded.StartRedis(embedded.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	suite(t, server.URL())
}

func suite(t *testing.T, url string) {
	presencetest.Run(t, presencetest.Subject{
		Open: func(t testing.TB) (here, there presence.Directory) { return open(t, url), open(t, url) },
		Run: func(t *testing.T, test func(*testing.T)) {
			t.Parallel()
			test(t)
		},
	})
}

// open makes a gateway's directory that the test closes at the latest.
func open(t testing.TB, url string) *redispresence.Directory {
	t.Helper()
	return openWith(t, redispresence.Config{URL: url})
}

func openWith(t testing.TB, cfg redispresence.Config) *redispresence.Directory {
	t.Helper()
	cfg.Logger = testenv.Logger(t)
	d, err := redispresence.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// connect makes a client that is no gateway.
func connect(t testing.TB, server *testenv.Server) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { client.Close() })
	return client
}

// A gateway that hangs is taken for dead and comes back when it does; one that
// is killed is gone for good. Either way it takes at most 10 s.
func TestMembersOfADeadGatewayAreGone(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	here := open(t, server.URL())
	w := presencetest.Watch(t, here, "room")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), gatewayURL+"="+server.URL())
	input, err := child.StdinPipe() // its end ends the child, should this process die
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait() // "signal: killed"
	}()
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "entered <nil>\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	w.Tells("JOINED child")

	signal := func(s os.Signal) {
		if err := child.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	hung := time.Now()
	signal(syscall.SIGSTOP)
	w.Tells("JOINED child", "LEFT child")
	t.Logf("gone %v after it hung", time.Since(hung))
	signal(syscall.SIGCONT)
	w.Tells("JOINED child", "LEFT child", "JOINED child")

	killed := time.Now()
	signal(syscall.SIGKILL)
	w.Tells("JOINED child", "LEFT child", "JOINED child", "LEFT child")
	took := time.Since(killed)
	t.Logf("gone %v after it was killed", took)
	if took > 10*time.Second {
		t.Errorf("gone after %v", took)
	}
	presencetest.Lists(t, here, "room")
}

func TestARedisThatIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	server.Stop(t)
	a, b := open(t, server.URL()), open(t, server.URL())
	presencetest.Enter(t, a, "room", "a")
	if _, err := a.List(t.Context(), "room"); presencetest.Code(err) != presence.CodeUnavailable {
		t.Errorf("List: %v", err)
	}
	w := presencetest.Watch(t, b, "room")
	server.Start(t)
	w.Tells("JOINED a")
	presencetest.Lists(t, b, "room", "a")
	presencetest.Lists(t, a, "room", "a")
}

func TestARestartedRedisIsFilledAgain(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b, c := open(t, server.URL()), open(t, server.URL()), open(t, server.URL())
	leaveA := presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, c, "room", "a")
	leaveB := presencetest.Enter(t, b, "room", "b")
	presencetest.Lists(t, c, "room", "a", "b")
	leaveOther := presencetest.Enter(t, b, "other", "b")
	presencetest.Lists(t, a, "other", "b")
	watchA, watchB, watchC := presencetest.Watch(t, a, "room"), presencetest.Watch(t, b, "room"), presencetest.Watch(t, c, "room")
	other := presencetest.Watch(t, a, "other")
	presencetest.Enter(t, b, "late", "b")

	server.Stop(t)
	for _, d := range []presence.Directory{a, b, c} {
		presencetest.Eventually(t, "List says that Redis is away", func() bool {
			_, err := d.List(t.Context(), "room")
			return presencetest.Code(err) == presence.CodeUnavailable
		})
	}
	leaveA2 := presencetest.Enter(t, a, "room", "a2")
	watchA.Tells("JOINED a2") // one's own gateway knows at once
	leaveOther()
	late := presencetest.Watch(t, c, "late")
	server.Start(t)
	started := time.Now()
	client := connect(t, server)
	for _, d := range []presence.Directory{a, b, c} {
		presencetest.Lists(t, d, "room", "a", "b", "a2")
	}
	presencetest.Eventually(t, "Redis has them", func() bool {
		return client.HLen(t.Context(), "sluice:presence:room").Val() == 3
	})
	t.Logf("right again %v after the restart", time.Since(started))

	told := []string{"JOINED a2"} // and at no time that somebody had left
	tells := func(change string) {
		t.Helper()
		told = append(told, change)
		begin := time.Now()
		for _, w := range []*presencetest.Watcher{watchA, watchB, watchC} {
			w.Tells(told...)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s after %v", change, took)
		}
	}
	leaveB2 := presencetest.Enter(t, b, "room", "b2")
	tells("JOINED b2")
	leaveB()
	tells("LEFT b")
	leaveB2()
	tells("LEFT b2") // the last of its gateway
	late.Tells("JOINED b")
	other.Tells("LEFT b")
	t.Logf("who left meanwhile is gone %v after the restart", time.Since(started))
	leaveA()
	tells("LEFT a")
	leaveA2()
	tells("LEFT a2")
}

// A Redis whose keys are all deleted, and which is there all the time.
func TestAFlushedRedisIsFilledAgain(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a := open(t, server.URL())
	presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, a, "room", "a")
	time.Sleep(time.Second) // so that a finds out when b and c have not yet
	b, c := open(t, server.URL()), open(t, server.URL())
	presencetest.Lists(t, c, "room", "a")
	presencetest.Enter(t, b, "room", "b")
	presencetest.Lists(t, c, "room", "a", "b")
	w := presencetest.Watch(t, c, "room")
	client := connect(t, server)
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	presencetest.Eventually(t, "Redis has the members again", func() bool {
		return client.HLen(t.Context(), "sluice:presence:room").Val() == 2
	})
	presencetest.Lists(t, c, "room", "a", "b")
	presencetest.Enter(t, a, "room", "last")
	w.Tells("JOINED last")
}

func TestManyRooms(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b := open(t, server.URL()), open(t, server.URL())
	rooms := make([]string, 300)
	watchers := make([]*presencetest.Watcher, len(rooms))
	for i := range rooms {
		rooms[i] = fmt.Sprintf("room-%d", i)
		watchers[i] = presencetest.Watch(t, b, rooms[i])
	}
	for i, room := range rooms {
		presencetest.Enter(t, a, room, fmt.Sprintf("a%d", i))
	}
	for i, w := range watchers {
		w.Tells(fmt.Sprintf("JOINED a%d", i))
	}
	server.Stop(t)
	server.Start(t)
	for i, room := range rooms {
		presencetest.Lists(t, b, room, fmt.Sprintf("a%d", i))
		watchers[i].Tells(fmt.Sprintf("JOINED a%d", i))
	}
	client := connect(t, server)
	presencetest.Eventually(t, "Redis has all rooms again", func() bool {
		return client.DBSize(t.Context()).Val() == int64(len(rooms))+2
	})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for i, w := range watchers {
		w.Tells(fmt.Sprintf("JOINED a%d", i), fmt.Sprintf("LEFT a%d", i))
	}
}

// A gateway whose connections were cut is not there twice, as what it was and
// what it is now.
func TestAReconnectedGatewayIsThereOnce(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b := open(t, server.URL()), open(t, server.URL())
	presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, b, "room", "a")
	leave := presencetest.Enter(t, a, "room", "b")
	presencetest.Lists(t, b, "room", "a", "b")
	watchA, watchB := presencetest.Watch(t, a, "room"), presencetest.Watch(t, b, "room")
	client := connect(t, server)
	for _, kind := range []string{"normal", "pubsub"} {
		if err := client.ClientKillByFilter(t.Context(), "TYPE", kind, "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	presencetest.Eventually(t, "the second instance is there alone", func() bool {
		fields := client.HKeys(t.Context(), "sluice:presence:room").Val()
		return len(fields) == 2 && strings.Contains(fields[0], "-2/") && strings.Contains(fields[1], "-2/")
	})
	leave()
	watchA.Tells("LEFT b")
	watchB.Tells("LEFT b")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("right again after %v", took)
	}
}

// A Redis that answers nothing must hold nobody up.
func TestAHangingRedis(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b, c := open(t, server.URL()), open(t, server.URL()), open(t, server.URL())
	leave := presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, b, "room", "a")
	presencetest.Enter(t, c, "other", "c")
	presencetest.Lists(t, b, "other", "c")
	server.Pause(t)
	defer server.Resume(t)

	begin := time.Now()
	leave()
	presencetest.Enter(t, a, "room", "a2")
	if err := a.SetTyping("room", "a2", true); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > time.Second { // a command may take twice as long
		t.Errorf("a member waited %v", took)
	}
	begin = time.Now()
	if _, err := a.List(t.Context(), "unknown"); presencetest.Code(err) != presence.CodeUnavailable {
		t.Errorf("List: %v", err)
	}
	if took := time.Since(begin); took > 3500*time.Millisecond {
		t.Errorf("List took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.List(ctx, "another"); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
	for _, d := range []presence.Directory{c, open(t, server.URL())} { // one that was connected, and one that never was
		begin = time.Now()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		took := time.Since(begin)
		t.Logf("Close took %v", took)
		if took > 5*time.Second {
			t.Errorf("Close took %v", took)
		}
	}
	server.Resume(t)
	presencetest.Lists(t, b, "room", "a2")
}

func TestAMissedMessageIsMadeUpFor(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b := open(t, server.URL()), open(t, server.URL())
	presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, b, "room", "a")
	w := presencetest.Watch(t, b, "room")
	client := connect(t, server)
	fields := client.HKeys(t.Context(), "sluice:presence:room").Val()
	if len(fields) != 1 || !strings.HasSuffix(fields[0], "/a") {
		t.Fatalf("fields %q", fields)
	}
	begin := time.Now()
	if err := client.HDel(t.Context(), "sluice:presence:room", fields[0]).Err(); err != nil {
		t.Fatal(err)
	}
	w.Tells("LEFT a")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("seen after %v", took)
	}
}

// What a Redis that drops keys has left over, and what is no member at all.
func TestLeftoversAreNotListed(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b := open(t, server.URL()), open(t, server.URL())
	presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, b, "room", "a")
	client := connect(t, server)
	fields := client.HKeys(t.Context(), "sluice:presence:room").Val()
	if len(fields) != 1 {
		t.Fatalf("fields %q", fields)
	}
	instance, _, _ := strings.Cut(fields[0], "/")
	record := `{"name":"x","since":1}`
	if err := client.HSet(t.Context(), "sluice:presence:room",
		"gone-1/x", record, "x", record, instance+"/x", "?", instance+"/b", record).Err(); err != nil {
		t.Fatal(err)
	}
	presencetest.Lists(t, b, "room", "b", "a")
}

// One message per change, and none for what is not one.
func TestEachChangeIsWrittenOnce(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a := open(t, server.URL())
	w := presencetest.Watch(t, a, "room")
	messages := connect(t, server).Subscribe(t.Context(), "sluice:presence")
	defer messages.Close()
	if _, err := messages.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	var told []string
	tells := func(change string) {
		t.Helper()
		told = append(told, change)
		w.Tells(told...)
		m, err := messages.ReceiveMessage(t.Context())
		if err != nil || !strings.HasSuffix(m.Payload, "/room") {
			t.Fatalf("message %v, %v", m, err)
		}
	}
	setTyping := func(typing bool) {
		t.Helper()
		for range 10 {
			if err := a.SetTyping("room", "a", typing); err != nil {
				t.Fatal(err)
			}
		}
	}
	leave := presencetest.Enter(t, a, "room", "a")
	presencetest.Enter(t, a, "room", "a")()
	tells("JOINED a")
	setTyping(true)
	tells("TYPING a")
	setTyping(false)
	tells("STOPPED_TYPING a")
	leave()
	tells("LEFT a")
	if m, err := messages.ReceiveTimeout(t.Context(), 200*time.Millisecond); err == nil {
		t.Errorf("one message too many: %v", m)
	}
}

// Keys outlive the last gateway for a while and no more, and are renewed as long
// as there is one.
func TestKeysExpireWithTheLastGateway(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	const keep = 10 * time.Second
	a := openWith(t, redispresence.Config{URL: server.URL(), Keep: keep})
	presencetest.Enter(t, a, "room", "a")
	presencetest.Lists(t, a, "room", "a")
	client := connect(t, server)
	var kinds []string
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(keep + 2*time.Second); time.Now().Before(deadline); <-poll.C {
		keys := client.Keys(t.Context(), "*").Val()
		for _, key := range keys {
			if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 2*keep {
				t.Fatalf("%s lives for %v", key, ttl)
			}
			if !strings.HasPrefix(key, "sluice:presence") {
				t.Fatalf("key %s", key)
			}
			if kind := client.Type(t.Context(), key).Val(); !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
		if len(kinds) == 3 && len(keys) != 3 {
			t.Fatalf("keys %q", keys)
		}
	}
	if len(kinds) != 3 {
		t.Errorf("kinds of keys: %q", kinds)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if keys := client.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("Close left %q", keys)
	}
}
