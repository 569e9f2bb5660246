package graph

import (
	"context"

	"github.com/sluice-gateway/sluice/bridges"
	"github.com/sluice-gateway/sluice/graph/model"
)

// demos are what can be tried. server is the path of a practice server, or
// "graphql"; bridge is the broker that it needs.
var demos = []struct {
	id, en, ja       string
	phase            int
	server, document string
	bridge           bridges.Kind
}{
	{id: "echo", en: "Echo server: every message comes back", ja: "エコーサーバー：送ったメッセージがそのまま返る", phase: 1, server: "echo"},
	{id: "compare", en: "One feed in four ways: polling, long polling, SSE, WebSocket", ja: "同じ配信を4通りで比べる：ポーリング、ロングポーリング、SSE、WebSocket", phase: 1, server: "compare"},
	{id: "deflate", en: "Echo server with compression", ja: "圧縮を受け付けるエコーサーバー", phase: 2, server: "deflate"},
	{id: "time", en: "The time, every second", ja: "毎秒の時刻", phase: 2, server: "graphql", document: "subscription Time {\n  timeUpdates\n}"},
	{id: "room", en: "Messages of a chat room", ja: "チャットルームのメッセージ", phase: 2, server: "graphql", document: "subscription Room {\n  messageUpdates(room: \"lobby\") {\n    id\n    author\n    content\n    cursor\n  }\n}"},
	{id: "mqtt", en: "MQTT over WebSocket", ja: "MQTT over WebSocket", phase: 2, server: "mqtt", bridge: bridges.KindMQTT},
	{id: "mqtt-messages", en: "MQTT messages as a subscription", ja: "MQTTメッセージの購読", phase: 2, server: "graphql", bridge: bridges.KindMQTT, document: "subscription Sensors {\n  mqttMessages(topic: \"demo/#\") {\n    topic\n    payload\n    receivedAt\n  }\n}"},
	{id: "redis-messages", en: "Redis messages as a subscription", ja: "Redisメッセージの購読", phase: 2, server: "graphql", bridge: bridges.KindRedis, document: "subscription Channel {\n  redisMessages(channel: \"demo:hello\") {\n    channel\n    payload\n    receivedAt\n  }\n}"},
	{id: "redis-stream", en: "Entries of a Redis stream, resumable", ja: "Redis Streamsのエントリー（続きから再開できる）", phase: 2, server: "graphql", bridge: bridges.KindRedis, document: "subscription Stream {\n  redisStreamEntries(stream: \"demo:orders\") {\n    id\n    fields {\n      name\n      value\n    }\n    cursor\n  }\n}"},
	{id: "wire", en: "Your own client's frames, taken apart", ja: "自分のクライアントが送ったフレームを分解して見る", phase: 2, server: "graphql", document: "subscription Wire($session: ID!) {\n  wireEvents(session: $session) {\n    number\n    ... on WireFrame {\n      direction\n      kind\n      fields {\n        name\n        value\n        meaning\n      }\n    }\n  }\n}"},
	{id: "mock", en: "Mock server: it obeys a script", ja: "モックサーバー：台本どおりに動く", phase: 3, server: "mock"},
	{id: "chaos", en: "Chaos server: it breaks connections on purpose", ja: "カオスサーバー：接続をわざと壊す", phase: 3, server: "chaos"},
	{id: "load", en: "Load server: it holds many connections and reports", ja: "負荷サーバー：多数の接続を保持して計測する", phase: 3, server: "load"},
	{id: "gateway", en: "What the gateway has to do", ja: "ゲートウェイの稼働状況", phase: 4, server: "graphql", document: "subscription Load {\n  gatewayStats {\n    connections\n    operations\n    framesSent\n  }\n}"},
}

// demos lists what can be tried, as this client reaches it.
func (r *Resolver) demos(ctx context.Context) []model.Demo {
	list := make([]model.Demo, 0, len(demos))
	for _, d := range demos {
		demo := model.Demo{ID: d.id, En: d.en, Ja: d.ja, Phase: d.phase, State: r.demoState(d.server, d.bridge)}
		if d.document != "" {
			demo.Document = &d.document
		}
		demo.URLs = append(demo.URLs, ClientOf(ctx).Base+"/"+d.server)
		if port := r.CoursePorts[d.server]; port != "" {
			demo.URLs = append(demo.URLs, port)
		}
		list = append(list, demo)
	}
	return list
}

func (r *Resolver) demoState(server string, bridge bridges.Kind) model.DemoState {
	if r.Serves != nil && !r.Serves(server) {
		return model.DemoStateOff
	}
	if bridge == "" {
		return model.DemoStateUp
	}
	for _, b := range r.States.List() {
		if b.Kind == bridge && b.State == bridges.Connected {
			return model.DemoStateUp
		}
	}
	return model.DemoStateAway
}
