package labs

import (
	"strings"
	"testing"
)

func TestPublicServicesAreThoseOfTheCourse(t *testing.T) {
	var names []string
	for _, s := range PublicServices() {
		names = append(names, s.Name+" "+s.URL)
	}
	const want = "Echo WebSocket wss://echo.websocket.org, Postman Echo wss://ws.postman-echo.com/raw, SocketsBay Demo wss://socketsbay.com/wss/v2/1/demo/"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("got %s", got)
	}
	PublicServices()[0].Name = "changed"
	if PublicServices()[0].Name == "changed" {
		t.Error("a reader can change the list")
	}
}

func TestPublicServicesAreReadStrictly(t *testing.T) {
	const good = `{"name":"a","url":"wss://a.example","description":{"en":"a","ja":"あ"},"features":["echo"],"reliability":"low","latency":"high"}`
	if _, err := parsePublicServices([]byte("[" + good + "]")); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`"name":"a"`, `"name":""`},
		{`"wss://a.example"`, `"ws://a.example"`},
		{`"wss://a.example"`, `"wss:"`},
		{`"ja":"あ"`, `"ja":""`},
		{`"en":"a"`, `"de":"a"`},
		{`["echo"]`, `[]`},
		{`"low"`, `"unknown"`},
		{`"latency":"high"`, `"latency":"high","price":0`},
		{`"latency":"high"`, `"speed":"high"`},
		{`{"name"`, good + `,{"name"`},
	} {
		text := "[" + strings.Replace(good, change[0], change[1], 1) + "]"
		if _, err := parsePublicServices([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	for _, text := range []string{"", "[]", "null", "[" + good + "] []"} {
		if _, err := parsePublicServices([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
