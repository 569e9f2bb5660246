package gqlws

import (
	"fmt"
	"testing"
)

// Who joins a group that has sent something is told that the stream is open,
// also where the source keeps nothing.
func TestReadyOfAGroupThatHasMovedWithoutACursor(t *testing.T) {
	g := start(t, Config{})
	c := g.connect(t)
	for _, field := range []string{"words", "latest"} {
		topic := "of " + field
		document := fmt.Sprintf(`subscription { %s(topic: \"%s\") }`, field, topic)
		c.send(`{"id":"1` + field + `","type":"subscribe","payload":{"query":"` + document + `"}}`)
		eventually(t, "a stream", func() bool { return len(g.queues(topic)) == 1 })
		g.publish(topic, "one")
		c.want(fmt.Sprintf(`{"id":"1%s","type":"next","payload":{"data":{"%[1]s":"one"}}}`, field))
		c.send(`{"id":"2` + field + `","type":"subscribe","payload":{"query":"` + document + `","extensions":{"sluice":{"ready":true}}}}`)
		c.want(fmt.Sprintf(`{"id":"2%s","type":"next","payload":{"data":null,"extensions":{"sluice":{"ready":true}}}}`, field))
		if field == "latest" && !unshared {
			c.want(fmt.Sprintf(`{"id":"2%s","type":"next","payload":{"data":{"%[1]s":"one"}}}`, field))
		}
	}
}
