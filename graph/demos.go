package graph

import (
	"context"
	"slices"
	"strings"

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
	{id: "countdown", en: "A countdown that ends by itself", ja: "自分で終わるカウントダウン", phase: 2, server: "graphql", document: "subscription Countdown {\n  countdown(from: 5)\n}"},
	{id: "failing", en: "A subscription that ends with an error", ja: "エラーで終わるサブスクリプション", phase: 2, server: "graphql", document: "subscription Failing {\n  failing(after: 2)\n}"},
	{id: "room", en: "Messages of a chat room", ja: "チャットルームのメッセージ", phase: 2, server: "graphql", document: "subscription Room {\n  messageUpdates(room: \"lobby\") {\n    id\n    author\n    content\n    cursor\n  }\n}"},
	{id: "presence", en: "Who is in a chat room, and who types", ja: "ルームにいる人と、入力中の人", phase: 2, server: "graphql", document: "subscription Presence {\n  presenceUpdates(room: \"lobby\") {\n    kind\n    member {\n      name\n    }\n  }\n}"},
	{id: "mqtt", en: "MQTT over WebSocket", ja: "MQTT over WebSocket", phase: 2, server: "mqtt", bridge: bridges.KindMQTT},
	{id: "mqtt-messages", en: "MQTT messages as a subscription", ja: "MQTTメッセージの購読", phase: 2, server: "graphql", bridge: bridges.KindMQTT, document: "subscription Sensors {\n  mqttMessages(topic: \"demo/#\") {\n    topic\n    payload\n    receivedAt\n  }\n}"},
	{id: "redis-messages", en: "Redis messages as a subscription", ja: "Redisメッセージの購読", phase: 2, server: "graphql", bridge: bridges.KindRedis, document: "subscription Channel {\n  redisMessages(channel: \"demo:hello\") {\n    channel\n    payload\n    receivedAt\n  }\n}"},
	{id: "redis-patterns", en: "Redis channels by a pattern", ja: "パターンで選ぶRedisチャンネル", phase: 2, server: "graphql", bridge: bridges.KindRedis, document: "subscription Patterns {\n  redisPatternMessages(pattern: \"demo:*\") {\n    channel\n    payload\n  }\n}"},
	{id: "redis-stream", en: "Entries of a Redis stream, resumable", ja: "Redis Streamsのエントリー（続きから再開できる）", phase: 2, server: "graphql", bridge: bridges.KindRedis, document: "subscription Stream {\n  redisStreamEntries(stream: \"demo:orders\") {\n    id\n    fields {\n      name\n      value\n    }\n    cursor\n  }\n}"},
	{id: "lessons", en: "What happens in the lessons: steps ticked, answers given", ja: "レッスンの出来事：済んだ課題、答えた問題", phase: 1, server: "graphql", document: "subscription Lessons {\n  lessonEvents {\n    at\n    lesson {\n      title\n    }\n    ... on StepTicked {\n      step {\n        id\n        title\n      }\n    }\n  }\n}"},
	{id: "wire", en: "Your own client's frames, taken apart", ja: "自分のクライアントが送ったフレームを分解して見る", phase: 2, server: "graphql", document: "subscription Wire($session: ID!) {\n  wireEvents(session: $session) {\n    number\n    ... on WireFrame {\n      direction\n      kind\n      fields {\n        name\n        value\n        meaning\n      }\n    }\n  }\n}"},
	{id: "mock", en: "Mock server: it obeys a script", ja: "モックサーバー：台本どおりに動く", phase: 3, server: "mock"},
	{id: "chaos", en: "Chaos server: it breaks connections on purpose", ja: "カオスサーバー：接続をわざと壊す", phase: 3, server: "chaos"},
	{id: "faults", en: "What the chaos server does to your frames", ja: "カオスサーバーがフレームにしたこと", phase: 3, server: "graphql", document: "subscription Faults {\n  chaosEvents {\n    number\n    fault\n    what\n  }\n}"},
	{id: "load", en: "Load server: it holds many connections and reports", ja: "負荷サーバー：多数の接続を保持して計測する", phase: 3, server: "load"},
	{id: "load-run", en: "How a load run goes", ja: "負荷試験の進み具合", phase: 3, server: "graphql", document: "subscription LoadRun($id: ID!) {\n  loadRunProgress(id: $id) {\n    phase\n    sent\n    received\n  }\n}"},
	{id: "bridges", en: "How the brokers are", ja: "ブローカーの状態", phase: 4, server: "graphql", document: "subscription Bridges {\n  bridgeStateChanges {\n    name\n    state\n    since\n  }\n}"},
	{id: "gateway", en: "What the gateway has to do", ja: "ゲートウェイの稼働状況", phase: 4, server: "graphql", document: "subscription Load {\n  gatewayStats {\n    connections\n    operations\n    framesSent\n  }\n}"},
}

// demos lists what can be tried, as this client reaches it.
func (r *Resolver) demos(ctx context.Context) []model.Demo {
	base, servers := ClientOf(ctx).Base, r.Practice()
	list := make([]model.Demo, 0, len(demos)+len(servers))
	for _, d := range demos {
		demo := model.Demo{ID: d.id, En: d.en, Ja: d.ja, Phase: d.phase, URLs: []string{base + "/" + d.server}, State: r.demoState(d.bridge)}
		if d.server != "graphql" && !slices.Contains(servers, d.server) {
			demo.State = model.DemoStateOff
		}
		if d.document != "" {
			demo.Document = &d.document
		}
		if port := r.CoursePorts[d.server]; port != "" {
			demo.URLs = append(demo.URLs, port)
		}
		list = append(list, demo)
		servers = slices.DeleteFunc(servers, func(name string) bool { return name == d.server })
	}
	for _, name := range servers {
		list = append(list, model.Demo{
			ID: "lesson-" + strings.ReplaceAll(name, "/", "-"), En: "What lessons use: /" + name, Ja: "レッスンで使うサーバー：/" + name,
			Phase: 1, URLs: []string{base + "/" + name}, State: model.DemoStateUp,
		})
	}
	return list
}

// demoState says whether what needs that broker works; empty: none.
func (r *Resolver) demoState(bridge bridges.Kind) model.DemoState {
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
