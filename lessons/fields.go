package lessons

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/internal/wire"
)

// Text is a text in both languages.
type Text struct {
	EN string `json:"en"`
	JA string `json:"ja"`
}

// sort is what kind of value a field has.
type sort int

const (
	aText sort = iota
	aNumber
	aBool
	aTime
	aList
	someBytes
	anything // whatever JSON has
)

var sortNames = [...]string{aText: "a text", aNumber: "a number", aBool: "true or false", aTime: "a time", aList: "a list", someBytes: "bytes", anything: "any JSON"}

// field is something of an event that a matcher can look at.
type field struct {
	name  string
	sort  sort
	about bool // says what the event is about: one that differs there is no near miss
	label Text // what it is called in sentences
	// phrase has a place for the value, %s; empty: it stands behind the label.
	phrase Text
	unit   Text // of a number
	// yes and no are the phrases of a bool; words are those of certain texts.
	yes, no Text
	words   map[string]Text
	// get returns a string, float64, bool, time.Duration, []any or []byte, or
	// for anything what encoding/json returns; nil: the event has no such thing.
	get func(*view) any
}

func label(en, ja string) Text { return Text{en, ja} }

var bytesUnit = label(" bytes", " バイト")

func textField(name, en, ja string, get func(*view) any) field {
	return field{name: name, sort: aText, label: label(en, ja), get: get}
}

func numberField[N int | uint | byte | uint16 | uint64 | float64](name, en, ja string, unit Text, get func(*view) N) field {
	return field{name: name, sort: aNumber, label: label(en, ja), unit: unit, get: func(v *view) any { return float64(get(v)) }}
}

func flagField(name string, yes, no Text, get func(*view) bool) field {
	return field{name: name, sort: aBool, yes: yes, no: no, get: func(v *view) any { return get(v) }}
}

func listField(name, en, ja string, get func(*view) any) field {
	return field{name: name, sort: aList, label: label(en, ja), get: get}
}

func timeField(name, en, ja string, get func(*view) time.Duration) field {
	return field{name: name, sort: aTime, label: label(en, ja), get: func(v *view) any {
		if d := get(v); d >= 0 {
			return d
		}
		return nil
	}}
}

func (f field) isAbout() field { f.about = true; return f }

func (f field) saying(en, ja string) field { f.phrase = Text{en, ja}; return f }

func (f field) with(words map[string]Text) field { f.words = words; return f }

// orNil makes the zero text absent.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func zeroIsNil[N int | byte | uint16](n N) any {
	if n == 0 {
		return nil
	}
	return float64(n)
}

func numberOrNil(name, en, ja string, unit Text, get func(*view) any) field {
	return field{name: name, sort: aNumber, label: label(en, ja), unit: unit, get: get}
}

var none Text

var directions = map[string]Text{
	"c2s": label("from the client", "クライアントから"),
	"s2c": label("from the server", "サーバーから"),
}

var sides = map[string]Text{
	"client": label("by the client", "クライアントから"),
	"server": label("by the server", "サーバーから"),
	"nobody": label("without a Close frame", "Closeフレームなし"),
}

var endings = map[string]Text{
	"fin":     label("with FIN", "FIN"),
	"rst":     label("by a reset (RST)", "リセット(RST)"),
	"timeout": label("by a timeout", "タイムアウト"),
}

var opcodes = map[string]Text{
	"text":         label("text", "テキスト"),
	"binary":       label("binary", "バイナリ"),
	"continuation": label("continuation", "継続"),
	"close":        label("Close", "Close"),
	"ping":         label("ping", "ping"),
	"pong":         label("pong", "pong"),
}

func direction(v *view) any { return ways[v.dir] }

// pathField tells the servers of a session apart: what happens on another one is
// no near miss.
var pathField = textField("path", "path", "パス", func(v *view) any { return v.path() }).isAbout()

var requestFields = []field{
	pathField,
	textField("method", "method", "メソッド", func(v *view) any { return orNil(v.request.Method) }),
	numberField("status", "status", "ステータス", none, func(v *view) int { return v.response.Status }),
	textField("version", "version", "バージョン", func(v *view) any { return header(v.request.Header, "Sec-WebSocket-Version") }),
	numberOrNil("keyBytes", "key", "キー", bytesUnit, (*view).keyBytes).saying("a key of %s", "%sのキー"),
	textField("host", "Host", "Host", func(v *view) any { return orNil(v.request.Host) }),
	textField("origin", "Origin", "Origin", func(v *view) any { return header(v.request.Header, "Origin") }),
	textField("userAgent", "user agent", "User-Agent", func(v *view) any { return header(v.request.Header, "User-Agent") }),
}

var openFields = []field{
	listField("offered", "offered subprotocols", "提案されたサブプロトコル", func(v *view) any { return elements(v.request.Header, "Sec-WebSocket-Protocol") }),
	textField("subprotocol", "subprotocol", "サブプロトコル", func(v *view) any { return orNil(v.chosen) }),
	listField("extensionsOffered", "offered extensions", "提案された拡張", func(v *view) any { return elements(v.request.Header, "Sec-WebSocket-Extensions") }),
	listField("extensions", "extensions agreed on", "合意した拡張", func(v *view) any { return elements(v.response.Header, "Sec-WebSocket-Extensions") }),
	numberField("open", "number of open connections", "同時に開いているコネクションの数", label("", " 本"), func(v *view) int { return v.open }).saying("connections open at once: %s", "同時に%sのコネクション"),
	timeField("sinceEnd", "gap since the last connection", "前の切断からの間隔", func(v *view) time.Duration { return v.idle }).saying("%s since the last connection ended", "前の切断から%s"),
}

var frameFields = []field{
	textField("dir", "direction", "向き", direction).with(directions).saying("%s", "%s").isAbout(),
	textField("opcode", "opcode", "opcode", opcode).with(opcodes).saying("opcode %s", "opcodeが%s").isAbout(),
	flagField("fin", label("FIN set", "FINあり"), label("FIN not set", "FINなし"), func(v *view) bool { return v.wireFrame.FIN }),
	flagField("rsv1", label("RSV1 set", "RSV1あり"), label("RSV1 not set", "RSV1なし"), func(v *view) bool { return v.wireFrame.RSV1 }),
	flagField("rsv2", label("RSV2 set", "RSV2あり"), label("RSV2 not set", "RSV2なし"), func(v *view) bool { return v.wireFrame.RSV2 }),
	flagField("rsv3", label("RSV3 set", "RSV3あり"), label("RSV3 not set", "RSV3なし"), func(v *view) bool { return v.wireFrame.RSV3 }),
	flagField("masked", label("masked", "マスクあり"), label("not masked", "マスクなし"), func(v *view) bool { return v.wireFrame.Masked }),
	numberField("length", "payload length", "ペイロードの長さ", bytesUnit, func(v *view) uint64 { return v.wireFrame.Length }).saying("a payload of %s", "%sのペイロード"),
	numberField("form", "length form", "長さの表記", label(" bits", " ビット"), func(v *view) int { return int(v.wireFrame.Form) }).saying("a length in %s", "%sの長さ表記"),
	numberField("headerSize", "header size", "ヘッダーの長さ", bytesUnit, func(v *view) int { return v.wireFrame.Size() }).saying("a header of %s", "%sのヘッダー"),
	{name: "payload", sort: someBytes, label: label("payload", "ペイロード"), get: payload},
	textField("text", "payload", "ペイロード", func(v *view) any {
		if b, ok := payload(v).([]byte); ok {
			return string(b)
		}
		return nil
	}),
	numberOrNil("code", "close code", "クローズコード", none, func(v *view) any {
		if v.wireFrame.Opcode != wire.Close {
			return nil
		}
		code, _ := wire.ClosePayload(v.wireFrame.Payload)
		return float64(code)
	}),
	textField("reason", "reason", "クローズの理由", func(v *view) any {
		if v.wireFrame.Opcode != wire.Close {
			return nil
		}
		_, reason := wire.ClosePayload(v.wireFrame.Payload)
		return orNil(reason)
	}),
	timeField("roundTrip", "ping with this payload", "同じペイロードのping", func(v *view) time.Duration { return v.roundTrip }).saying("%s after the ping with this payload", "同じペイロードのpingから%s"),
	flagField("splitsCharacter", label("an end within a character", "文字の途中での区切り"), label("an end between characters", "文字の切れ目での区切り"), func(v *view) bool { return v.splits }),
	listField("problems", "broken rules", "規則違反", func(v *view) any { return problems(v.wireFrame.Problems) }),
	flagField("partial", label("incomplete", "途中まで"), label("complete", "最後まで"), func(v *view) bool { return v.wireFrame.Partial() }),
	numberField("position", "number within its direction", "その向きでの番号", none, func(v *view) int { return v.position }).saying("frame number %s of its direction", "その向きで%s番目のフレーム"),
}

func opcode(v *view) any {
	o := v.wireFrame.Opcode
	if o > wire.Binary && o < wire.Close || o > wire.Pong {
		return strconv.FormatUint(uint64(o), 16)
	}
	return o.String()
}

func payload(v *view) any {
	if uint64(len(v.wireFrame.Payload)) < v.wireFrame.Length {
		return nil
	}
	if v.wireFrame.Payload == nil {
		return []byte{}
	}
	return v.wireFrame.Payload
}

func problems(list []wire.Problem) any {
	rules := make([]any, len(list))
	for i, p := range list {
		rules[i] = string(p.Rule)
	}
	return rules
}

var messageFields = []field{
	textField("dir", "direction", "向き", direction).with(directions).saying("%s", "%s").isAbout(),
	textField("kind", "kind", "種類", func(v *view) any { return v.message.Opcode.String() }).with(opcodes).saying("%s", "%s"),
	numberField("size", "size", "サイズ", bytesUnit, func(v *view) uint64 { return v.message.Size }),
	numberField("wireSize", "size on the wire", "回線上のサイズ", bytesUnit, func(v *view) uint64 { return v.message.WireSize }),
	numberOrNil("ratio", "compression ratio", "圧縮比", none, func(v *view) any {
		if v.message.WireSize == 0 {
			return nil
		}
		return float64(v.message.Size) / float64(v.message.WireSize)
	}),
	numberOrNil("saved", "saving", "節約", bytesUnit, func(v *view) any { return float64(v.message.Size) - float64(v.message.WireSize) }).saying("%s saved", "%sの節約"),
	numberField("fragments", "number of fragments", "フラグメントの数", label("", " 個"), func(v *view) int { return v.message.Fragments }).saying("fragments: %s", "%sのフラグメント"),
	flagField("compressed", label("compressed", "圧縮あり"), label("not compressed", "圧縮なし"), func(v *view) bool { return v.message.Compressed }),
	flagField("valid", label("well formed", "正しい形"), label("not well formed", "正しくない形"), func(v *view) bool { return len(v.message.Problems) == 0 }),
	listField("problems", "broken rules", "規則違反", func(v *view) any { return problems(v.message.Problems) }),
	textField("text", "text", "テキスト", (*view).text).saying("the text %s", "テキスト%s"),
	{name: "data", sort: someBytes, label: label("bytes", "バイト列"), get: func(v *view) any {
		if data := v.whole(); data != nil || v.message.Size == 0 {
			return data
		}
		return nil
	}},
	numberOrNil("number", "number", "数値", none, func(v *view) any {
		s, _ := v.text().(string)
		if n, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return n
		}
		return nil
	}),
	textField("sha256", "SHA-256", "SHA-256", func(v *view) any { return sum(v.message.SHA256) }),
	{name: "json", sort: anything, label: label("JSON", "JSON"), get: (*view).decoded},
	numberField("position", "number within its direction", "その向きでの番号", none, func(v *view) int { return v.position }).saying("message number %s of its direction", "その向きで%s番目のメッセージ"),
}

var closeFields = []field{
	textField("by", "side", "閉じた側", func(v *view) any { return string(v.close.By) }).with(sides).saying("closed %s", "%s"),
	numberField("code", "close code", "クローズコード", none, func(v *view) int { return v.close.Code }),
	textField("reason", "reason", "クローズの理由", func(v *view) any { return orNil(v.close.Reason) }),
	numberField("reasonBytes", "length of the reason", "理由の長さ", bytesUnit, func(v *view) int { return len(v.close.Reason) }).saying("a reason of %s", "%sの理由"),
	flagField("complete", label("answered by the other side", "相手の応答あり"), label("not answered by the other side", "相手の応答なし"), func(v *view) bool { return v.close.Complete }),
}

var tcpFields = []field{
	textField("by", "side", "終えた側", func(v *view) any { return string(v.end.By) }).with(sides).saying("ended %s", "%s"),
	textField("how", "end", "終わり方", func(v *view) any { return string(v.end.How) }).with(endings).saying("%s", "%sによる終わり"),
	numberField("open", "number of open connections", "残りのコネクションの数", label("", " 本"), func(v *view) int { return v.open }).saying("connections still open: %s", "残り%sのコネクション"),
	numberField("bytes.c2s", "bytes from the client", "クライアントからの量", bytesUnit, func(v *view) uint64 { return v.end.Bytes[wire.ToServer] }).saying("%s from the client", "クライアントから%s"),
	numberField("bytes.s2c", "bytes from the server", "サーバーからの量", bytesUnit, func(v *view) uint64 { return v.end.Bytes[wire.ToClient] }).saying("%s from the server", "サーバーから%s"),
}

var gqlFields = []field{
	textField("dir", "direction", "向き", direction).with(directions).saying("%s", "%s").isAbout(),
	textField("type", "type", "type", func(v *view) any { return v.gql.Type }).saying("type %s", "typeが%s").isAbout(),
	textField("protocol", "subprotocol", "サブプロトコル", func(v *view) any { return v.chosen }),
	textField("id", "id", "id", func(v *view) any { return orNil(v.gql.ID) }).saying("id %s", "idが%s"),
	flagField("known", label("a type of the subprotocol", "サブプロトコルにあるtype"), label("not a type of the subprotocol", "サブプロトコルにないtype"), func(v *view) bool { return v.gql.Known }),
	textField("operation", "operation", "操作", func(v *view) any {
		if o := v.parsedOperation(); o != nil {
			return string(o.Operation)
		}
		return nil
	}),
	listField("fields", "fields", "フィールド", (*view).rootFields),
	listField("errors", "error codes", "エラーコード", (*view).errorCodes),
	{name: "payload", sort: anything, label: label("payload", "payload"), get: (*view).decodedPayload},
}

var mqttFields = []field{
	textField("dir", "direction", "向き", direction).with(directions).saying("%s", "%s").isAbout(),
	textField("packet", "packet", "パケット", func(v *view) any { return v.mqtt.Type.String() }).isAbout(),
	numberOrNil("packetId", "packet id", "パケットID", none, func(v *view) any { return zeroIsNil(v.mqtt.PacketID) }),
	textField("topic", "topic", "トピック", func(v *view) any { return orNil(v.mqtt.Topic) }),
	numberField("qos", "QoS", "QoS", none, func(v *view) byte { return v.mqtt.QoS }).saying("QoS %s", "QoS %s"),
	flagField("dup", label("DUP 1", "DUP 1"), label("DUP 0", "DUP 0"), func(v *view) bool { return v.mqtt.DUP }),
	flagField("retain", label("RETAIN 1", "RETAIN 1"), label("RETAIN 0", "RETAIN 0"), func(v *view) bool { return v.mqtt.Retain }),
	numberField("payloadLength", "payload of", "ペイロードの長さ", bytesUnit, func(v *view) int { return v.mqtt.PayloadLength }),
	listField("filters", "topic filters", "トピックフィルター", func(v *view) any {
		if v.mqtt.Filters == nil {
			return nil
		}
		list := make([]any, len(v.mqtt.Filters))
		for i, f := range v.mqtt.Filters {
			list[i] = f.Filter
		}
		return list
	}),
	listField("codes", "return codes", "リターンコード", func(v *view) any {
		if v.mqtt.Codes == nil {
			return nil
		}
		list := make([]any, len(v.mqtt.Codes))
		for i, code := range v.mqtt.Codes {
			list[i] = float64(code)
		}
		return list
	}),
	textField("protocol", "protocol", "プロトコル名", connecting(func(c *wire.MQTTConnect) any { return c.Protocol })),
	numberOrNil("level", "protocol level", "プロトコルレベル", none, connecting(func(c *wire.MQTTConnect) any { return float64(c.Level) })),
	textField("clientId", "client id", "クライアントID", connecting(func(c *wire.MQTTConnect) any { return orNil(c.ClientID) })),
	numberOrNil("keepAlive", "keep alive", "キープアライブ", label(" s", " 秒"), connecting(func(c *wire.MQTTConnect) any { return float64(c.KeepAlive) })),
	{name: "clean", sort: aBool, yes: label("clean session", "クリーンセッションあり"), no: label("no clean session", "クリーンセッションなし"), get: connecting(func(c *wire.MQTTConnect) any { return c.Clean })},
	flagField("sessionPresent", label("session present", "セッションあり"), label("no session present", "セッションなし"), func(v *view) bool { return v.mqtt.SessionPresent }),
	{name: "will", sort: aBool, yes: label("a will", "遺言あり"), no: label("no will", "遺言なし"), get: connecting(func(c *wire.MQTTConnect) any { return c.Will != nil })},
	textField("will.topic", "topic of the will", "遺言のトピック", willing(func(w *wire.Will) any { return w.Topic })),
	numberOrNil("will.qos", "QoS of the will", "遺言のQoS", none, willing(func(w *wire.Will) any { return float64(w.QoS) })),
	{name: "will.retain", sort: aBool, yes: label("a retained will", "保持される遺言"), no: label("a will that is not retained", "保持されない遺言"), get: willing(func(w *wire.Will) any { return w.Retain })},
	textField("problem", "fault in the packet", "パケットの誤り", func(v *view) any { return orNil(v.mqtt.Problem) }),
}

// connecting reads the fields that only a CONNECT has.
func connecting(get func(*wire.MQTTConnect) any) func(*view) any {
	return func(v *view) any {
		if v.mqtt.Connect == nil {
			return nil
		}
		return get(v.mqtt.Connect)
	}
}

func willing(get func(*wire.Will) any) func(*view) any {
	return connecting(func(c *wire.MQTTConnect) any {
		if c.Will == nil {
			return nil
		}
		return get(c.Will)
	})
}

var connFields = []field{
	numberField("conn", "connection", "コネクション", none, func(v *view) uint64 { return v.conn }),
	timeField("age", "age of the connection", "接続開始からの時間", func(v *view) time.Duration { return v.age }).saying("%s after the connection opened", "接続開始から%s"),
	pathField,
}

// kind is a kind of event: its fields, those that take a parameter behind their
// name, and what it is called.
type kind struct {
	fields   map[string]field
	families map[string]func(parameter string) (field, bool)
	label    Text
}

func kindOf(en, ja string, families map[string]func(string) (field, bool), lists ...[]field) kind {
	k := kind{fields: make(map[string]field), families: families, label: label(en, ja)}
	for _, fields := range lists {
		for _, f := range fields {
			k.fields[f.name] = f
		}
	}
	return k
}

// field finds a field by its name.
func (k kind) field(name string) (field, bool) {
	if f, ok := k.fields[name]; ok {
		return f, true
	}
	for prefix, family := range k.families {
		if parameter, ok := strings.CutPrefix(name, prefix); ok && parameter != "" {
			f, ok := family(parameter)
			f.name = name
			return f, ok
		}
	}
	return field{}, false
}

// names lists the fields, for errors.
func (k kind) names() string {
	names := slices.Sorted(maps.Keys(k.fields))
	for _, prefix := range slices.Sorted(maps.Keys(k.families)) {
		names = append(names, prefix+"…")
	}
	return strings.Join(names, ", ")
}

func requestHeader(name string) (field, bool) {
	quoted := "`" + name + "`"
	return textField("", quoted, quoted, func(v *view) any { return header(v.request.Header, name) }).saying(quoted+" %s", quoted+"が%s"), wire.IsToken(name)
}

func answeredHeader(name string) (field, bool) {
	en, ja := "`"+name+"` in the answer", "応答の`"+name+"`"
	return textField("", en, ja, func(v *view) any { return header(v.response.Header, name) }).saying(en+" %s", ja+"が%s"), wire.IsToken(name)
}

func query(name string) (field, bool) {
	en, ja := "URL parameter `"+name+"`", "URLパラメーター`"+name+"`"
	return textField("", en, ja, func(v *view) any {
		if !v.url().Query().Has(name) {
			return nil
		}
		return v.url().Query().Get(name)
	}).saying(en+" %s", ja+"が%s"), true
}

// path makes a family of what stands in a JSON value.
func jsonPath(get func(*view) any) func(string) (field, bool) {
	return func(path string) (field, bool) {
		quoted := "`" + path + "`"
		return field{sort: anything, label: label(quoted, quoted), phrase: label(quoted+" %s", quoted+"が%s"), get: func(v *view) any { return at(get(v), path) }}, true
	}
}

func values(get func(*view) map[string]any) map[string]func(string) (field, bool) {
	return map[string]func(string) (field, bool){"value.": jsonPath(func(v *view) any { return get(v) })}
}

// maxOffset is the last byte of a message that a field may begin at.
const maxOffset = 1 << 16

// numeric makes a family of numbers in the bytes of a message.
func numeric(size int, read func([]byte) float64) func(string) (field, bool) {
	return func(parameter string) (field, bool) {
		at, err := strconv.Atoi(parameter)
		en, ja := "number at byte "+parameter, "バイト"+parameter+"からの数"
		return numberOrNil("", en, ja, none, func(v *view) any {
			if data := v.whole(); v.message.Opcode == wire.Binary && len(data) >= at+size {
				return read(data[at:])
			}
			return nil
		}), err == nil && at >= 0 && at <= maxOffset
	}
}

var requestFamilies = map[string]func(string) (field, bool){"header.": requestHeader, "answered.": answeredHeader, "query.": query}

var kinds = map[string]kind{
	"http.request": kindOf("request", "リクエスト", requestFamilies, requestFields, connFields[:1]),
	"open":         kindOf("new connection", "新しいコネクション", requestFamilies, requestFields, openFields, connFields),
	"frame":        kindOf("frame", "フレーム", nil, frameFields, connFields),
	"message": kindOf("message", "メッセージ", map[string]func(string) (field, bool){
		"json.": jsonPath((*view).decoded),
		"u8@":   numeric(1, func(b []byte) float64 { return float64(b[0]) }),
		"u16@":  numeric(2, func(b []byte) float64 { return float64(binary.BigEndian.Uint16(b)) }),
		"u32@":  numeric(4, func(b []byte) float64 { return float64(binary.BigEndian.Uint32(b)) }),
		"u64@":  numeric(8, func(b []byte) float64 { return float64(binary.BigEndian.Uint64(b)) }),
		"f32@":  numeric(4, func(b []byte) float64 { return float64(math.Float32frombits(binary.BigEndian.Uint32(b))) }),
		"f64@":  numeric(8, func(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }),
	}, messageFields, connFields),
	"close": kindOf("close", "クローズ", nil, closeFields, connFields),
	"tcp":   kindOf("end of a connection", "コネクションの終わり", nil, tcpFields, connFields),
	"gql": kindOf("GraphQL message", "GraphQLのメッセージ", map[string]func(string) (field, bool){
		"payload.": jsonPath((*view).decodedPayload),
	}, gqlFields, connFields),
	"mqtt": kindOf("MQTT packet", "MQTTパケット", nil, mqttFields, connFields),
	"bridge": kindOf("bridge event", "ブリッジの動作", values(func(v *view) map[string]any { return v.bridge.Value }), []field{
		textField("source", "source", "ブローカー", func(v *view) any { return v.bridge.Source }).isAbout(),
		textField("name", "name", "名前", func(v *view) any { return v.bridge.Name }),
		textField("what", "outcome", "結果", func(v *view) any { return v.bridge.What }).saying("%s", "%s").with(map[string]Text{
			"delivered": label("delivered", "配信"), "dropped": label("dropped", "破棄"),
		}),
	}),
	"answer": kindOf("answer", "回答", map[string]func(string) (field, bool){
		"value.": jsonPath(func(v *view) any { return v.answer.Value }),
	}, []field{
		textField("name", "answer", "回答", func(v *view) any { return v.answer.Name }).isAbout(),
		{name: "value", sort: anything, label: label("value", "値"), phrase: label("%s", "%s"), get: func(v *view) any { return v.answer.Value }},
	}),
	"probe": kindOf("result of the probe", "プローブの結果", values(func(v *view) map[string]any { return v.probe.Value }), []field{
		textField("case", "case", "検査", func(v *view) any { return v.probe.Case }).isAbout(),
		flagField("passed", label("passed", "合格"), label("failed", "不合格"), func(v *view) bool { return v.probe.Passed }),
	}),
	"sample": kindOf("measurement", "測定", values(func(v *view) map[string]any { return v.sample.Value }), []field{
		textField("source", "source", "測定元", func(v *view) any { return v.sample.Source }).isAbout(),
	}),
	"chaos": kindOf("fault", "障害", values(func(v *view) map[string]any { return v.chaos.Value }), []field{
		textField("fault", "fault", "障害", func(v *view) any { return v.chaos.Fault }).isAbout(),
		numberField("number", "number", "番号", none, func(v *view) int { return v.chaos.Number }),
		numberOrNil("seed", "seed", "シード", none, func(v *view) any { return float64(v.chaos.Seed) }),
	}, connFields[:1]),
}
