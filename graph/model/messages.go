package model

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/bridges"
)

// MQTTMessage is a broker's message as one subscriber is told of it.
type MQTTMessage struct {
	*bridges.Message
}

// Payload is the payload as Encoding says.
func (m MQTTMessage) Payload() string { return encodePayload(m.Message.Payload) }

// Encoding says how Payload is written.
func (m MQTTMessage) Encoding() PayloadEncoding { return encodingOf(m.Message.Payload) }

// JSON is the payload parsed, or nil.
func (m MQTTMessage) JSON() JSON { return payloadJSON(m.Message.Payload) }

// RedisMessage is a Redis server's message as one subscriber is told of it.
type RedisMessage struct {
	*bridges.Message
}

// Channel is where it was published.
func (m RedisMessage) Channel() string { return m.Topic }

// Pattern is the pattern that matched, or nil.
func (m RedisMessage) Pattern() *string {
	if m.Message.Pattern == "" {
		return nil
	}
	return &m.Message.Pattern
}

// Payload is the payload as Encoding says.
func (m RedisMessage) Payload() string { return encodePayload(m.Message.Payload) }

// Encoding says how Payload is written.
func (m RedisMessage) Encoding() PayloadEncoding { return encodingOf(m.Message.Payload) }

// JSON is the payload parsed, or nil.
func (m RedisMessage) JSON() JSON { return payloadJSON(m.Message.Payload) }

func encodingOf(payload []byte) PayloadEncoding {
	if utf8.Valid(payload) {
		return PayloadEncodingUTF8
	}
	return PayloadEncodingBase64
}

func encodePayload(payload []byte) string {
	if utf8.Valid(payload) {
		return string(payload)
	}
	return base64.StdEncoding.EncodeToString(payload)
}

// payloadJSON parses only text: JSON is UTF-8 (RFC 8259, section 8.1).
func payloadJSON(payload []byte) JSON {
	if !utf8.Valid(payload) {
		return nil
	}
	return parseJSON(payload)
}

// DecodePayload is the opposite of what Payload does: the bytes of a payload
// written in the given encoding.
func DecodePayload(payload string, encoding PayloadEncoding) ([]byte, error) {
	if encoding == PayloadEncodingUTF8 {
		return []byte(payload), nil
	}
	return base64.StdEncoding.DecodeString(payload)
}
