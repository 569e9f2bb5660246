package main

import (
	"strings"
	"testing"
)

func TestPublicServicesAreListedInBothLanguages(t *testing.T) {
	p := startProgram(t)
	got := p.post(t, `{ publicServices { name url en: description ja: description(locale: JA) features reliability latency } }`)
	const want = `{"name":"Postman Echo","url":"wss://ws.postman-echo.com/raw","en":"Postman WebSocket echo service","ja":"Postmanが公開するWebSocketのエコーサービス","features":["echo","headers-inspection","json-support"],"reliability":"HIGH","latency":"MEDIUM"}`
	if !strings.Contains(got, want) || strings.Count(got, `"name"`) != 3 {
		t.Errorf("got %s", got)
	}
}
