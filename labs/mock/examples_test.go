package mock

import (
	"encoding/binary"
	"os"
	"regexp"
	"strings"
	"testing"
)

// examples are the scripts of docs/practice.md, by their names.
func examples(t testing.TB) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/practice.md")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, block := range regexp.MustCompile("(?s)```(?:yaml|json)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if name := regexp.MustCompile(`(?m)^ *"?name"?: "?(\w+)`).FindStringSubmatch(block[1]); name != nil {
			found[name[1]] = block[1]
		}
	}
	return found
}

func TestExampleChat(t *testing.T) {
	r := start(t, examples(t)["chat"])
	c := r.dial("/chat", "chat.v2", "chat.v1")
	if got := c.Subprotocol(); got != "chat.v1" {
		t.Errorf("chose %q", got)
	}
	c.say(`{"type":"say","id":1,"text":"hi"}`)
	c.want(`{"type":"error","message":"join first"}`)
	c.say(`{"type":"join","id":2,"name":"Ann"}`)
	c.want(`{"type":"ack","id":2,"room":"lobby"}`)
	c.say(`{"type":"say","id":3,"text":"<b>hi</b>"}`)
	c.want(`{"type":"ack","id":3}`, `{"type":"said","by":"Ann","text":"<b>hi</b>"}`)
	c.say(`{"type":"dance"}`)
	c.want(`{"type":"error","message":"unknown type dance"}`)
	c.say(`{"type":"bye"}`)
	c.want("close 1000 bye, Ann")
	r.dial("/chat").want(`{"type":"error","message":"offer chat.v1"}`)
}

func TestExampleResume(t *testing.T) {
	r := start(t, examples(t)["resume"])
	c := r.dial("/")
	c.say(`{"type":"start","last":0}`)
	c.want(`{"seq":1}`, `{"seq":2}`, `{"seq":3}`, "close 1012 restarting")
	r.dial("/").want("close 1013 try again later")
	c = r.dial("/")
	c.say(`{"type":"start","last":3}`)
	c.want(`{"seq":4}`, `{"seq":5}`, `{"seq":6}`, "close 1012 restarting")
	r.settle(Passed)
}

func TestExampleUpload(t *testing.T) {
	r := start(t, examples(t)["upload"])
	c := r.dial("/")
	chunk := func(n, of uint32, data string) []byte {
		return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, n), of), data...)
	}
	c.sayBinary(chunk(0, 2, "abc"))
	c.want(`{"type":"ack","seq":0,"bytes":3,"done":false}`)
	c.sayBinary(chunk(1, 2, "de"))
	c.want(`{"type":"ack","seq":1,"bytes":2,"done":true}`)
	c.sayBinary(chunk(2, 2, "f"))
	c.want(`{"type":"error","message":"chunk 2 of 2 with 9 bytes is none"}`)
	c.sayBinary(chunk(5, 9, "f"))
	c.want(`{"type":"again","from":2}`)
	if v := r.Verdict(); v.State != Failed || !strings.Contains(v.String(), "nothing else") {
		t.Error(v)
	}
}

// The verdict that the page shows is the one that the resume example earns.
func TestTheVerdictOnThePageIsTrue(t *testing.T) {
	page, err := os.ReadFile("../../docs/practice.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```\n(Verdict: .*?)```").FindStringSubmatch(string(page))
	script, err := Parse([]byte(examples(t)["resume"]))
	if err != nil {
		t.Fatal(err)
	}
	r := startWith(t, "", Config{Script: script, Seed: 42})
	c := r.dial("/")
	c.say(`{"type":"start","last":0}`)
	c.want(`{"seq":1}`, `{"seq":2}`, `{"seq":3}`, "close 1012 restarting")
	r.dial("/").want("close 1013 try again later")
	c = r.dial("/")
	c.say(`{"type":"start","last":0}`)
	c.want(`{"seq":1}`)
	c.Close()
	if got := r.settle(Failed).String(); shown == nil || got != shown[1] {
		t.Errorf("the verdict is\n%s", got)
	}
}
