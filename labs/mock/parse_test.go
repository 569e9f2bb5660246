package mock

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/mock-script.schema.json anew")

const schemaFile = "../../docs/mock-script.schema.json"

func TestThePublishedSchemaIsThatOfTheTypes(t *testing.T) {
	if *update {
		if err := os.WriteFile(schemaFile, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	published, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(published) != string(Schema()) {
		t.Error("docs/mock-script.schema.json is not up to date: go test ./labs/mock -run Schema -update")
	}
}

// refusals are wrong scripts, each with what is said of it. Those that the
// schema cannot see are marked.
var refusals = []struct {
	name, script, want string
	unseen             bool
}{
	{"nothing", "", "line 1: the script is empty: it needs rules, or paths with rules", false},
	{"not YAML", "rules:\n  - on: [", "line 2: this is neither YAML nor JSON: did not find expected node content", true},
	{"not a mapping", "- 1", "line 1, column 1: the script is a mapping with name, seed, vars, draw, subprotocols, require_subprotocol, ping_every, pong_within, no_pong, deflate, message_bytes, rules, expect, paths, $schema", false},
	{"no rules", "name: x", "line 1, column 1: the script says nothing: it needs rules, expect, or paths", true},
	{"unknown word", "rulez: []", `line 1, column 1: "rulez" is not known in the script: did you mean "rules"?`, false},
	{"unknown trigger", "rules:\n  - on: conect\n    do: [echo]", `line 2, column 9: "conect" is not known as "on": did you mean "connect"?`, false},
	{"unknown action", "rules:\n  - on: message\n    do:\n      - sned: x", `line 4, column 9: "sned" is not known in an element of "do": did you mean "send"?`, false},
	{"nothing like it", "rules:\n  - on: message\n    do: [ { explode: now } ]", `line 3, column 13: "explode" is not known in an element of "do": known are send, echo, error, ping, pong, close, cut, raw, wait, repeat, set, stop`, false},
	{"two actions in one", "rules:\n  - on: message\n    do: [ { send: x, wait: 1s } ]", `line 3, column 11: an element of "do" has send and wait: it can be only one of them`, false},
	{"no action", "rules:\n  - on: message", `line 2, column 5: an element of "rules" needs "do"`, false},
	{"an action without its value", "rules:\n  - on: message\n    do: [send]", `line 3, column 10: "send" needs a value`, false},
	{"a word with a value", "rules:\n  - on: message\n    do: [ { cut: now } ]", `line 3, column 13: "cut" takes no value: write it alone`, false},
	{"twice", "rules:\n  - on: message\n    on: text\n    do: [echo]", `line 3, column 5: "on" is there twice`, true},
	{"null", "rules:\n  - on: message\n    do:", `line 3, column 8: "do" needs a value`, false},
	{"an empty list", "rules: []", `line 1, column 8: "rules" is empty`, false},
	{"too long a wait", "rules:\n  - on: message\n    do: [ { wait: 11s } ]", `line 3, column 19: "wait" is 11s: at most 10s is accepted`, true},
	{"a time without a unit", "rules:\n  - on: message\n    do: [ { wait: 3 } ]", `line 3, column 19: "3" is not a time: write 200ms, 1.5s or 0s`, false},
	{"the wrong way round", "rules:\n  - on: message\n    do: [ { wait: { from: 2s, to: 1s } } ]", `line 3: a wait goes from the shorter time to the longer`, true},
	{"an impossible code", "rules:\n  - on: message\n    do: [ { close: 1006 } ]", `line 3: 1006 cannot stand in a Close frame: 1000 to 1003, 1007 to 1014 and 3000 to 4999 can (RFC 6455, section 7.4). A lost connection, which is reported as 1006, is cut`, true},
	{"a code that is none", "rules:\n  - on: message\n    do: [ { close: soon } ]", `line 3, column 20: "close" is a whole number, not "soon"`, false},
	{"nothing to echo", "rules:\n  - on: connect\n    do: [ echo ]", `line 3: there is nothing to echo when a connection opens`, true},
	{"a repeat in a repeat", "rules:\n  - on: connect\n    do: [ { repeat: { every: 1s, do: [ { repeat: { every: 1s, do: [ { send: x } ] } } ] } } ]", `line 3: a repeat cannot stand in a repeat`, true},
	{"a flood", "rules:\n  - on: connect\n    do: [ { repeat: { every: 10ms, do: [ { send: x }, { send: y } ] } } ]", `line 3: 2 messages every 10ms are too many: at most 100 a second`, true},
	{"unknown variable", "vars: { word: x }\nrules:\n  - on: message\n    do: [ { send: \"{{wrod}}\" } ]", `line 4, column 19: "wrod" is not known here (variables are declared under vars or draw): did you mean "word"?`, true},
	{"set of an unknown variable", "vars: { word: x }\nrules:\n  - on: message\n    do: [ { set: { wort: y } } ]", `line 4: "wort" cannot be set: it is no variable (they are declared under vars or draw): did you mean "word"?`, true},
	{"a name with a meaning", "vars: { text: x }\nrules: [ { on: message, do: [echo] } ]", `line 1, column 9: "text" has a meaning of its own in expressions: choose another name`, true},
	{"declared twice", "vars: { a: x }\ndraw: { a: { hex: 2 } }\nrules: [ { on: message, do: [echo] } ]", `line 2, column 9: "a" is declared twice`, true},
	{"not a name", "vars: { A-1: x }\nrules: [ { on: message, do: [echo] } ]", `line 1, column 9: "A-1" cannot be the name of a variable: a small letter, then letters, digits and _, at most 64`, true},
	{"an expression as a beginning", "vars: { a: \"{{b}}\" }\nrules: [ { on: message, do: [echo] } ]", `line 1, column 12: "b" is not known here (variables are declared under vars or draw): known are text, json, bytes, hex, sha256, kind, connection, path, subprotocol, received, sent, round`, true},
	{"half an expression", "rules:\n  - on: message\n    if: received ==\n    do: [echo]", `line 3, column 9: "received ==" ends too early: a value has to follow`, true},
	{"too much of an expression", "rules:\n  - on: message\n    if: received 3\n    do: [echo]", `line 3, column 9: "3" does not belong into "received 3"`, true},
	{"an unknown function", "rules:\n  - on: message\n    if: u33(0) == 1\n    do: [echo]", `line 3, column 9: "u33" is not a function: did you mean "u32"?`, true},
	{"an open text", "rules:\n  - on: message\n    if: text == 'a\n    do: [echo]", `line 3, column 9: the text 'a has no end`, true},
	{"an open template", "rules:\n  - on: message\n    do: [ { send: \"{{text\" } ]", `line 3, column 19: "{{text" opens an expression with {{ and does not close it with }}`, true},
	{"half a byte", "rules:\n  - on: { binary: abc }\n    do: [echo]", `line 2, column 19: "abc" is not bytes: write pairs of hexadecimal digits, such as "de ad be ef"`, false},
	{"too many bytes", "rules:\n  - on: connect\n    do: [ { raw: [ { zeros: 1048576 }, { zeros: 1 } ] } ]", `line 3, column 18: these are more than 1048576 bytes`, true},
	{"a wrong regular expression", "rules:\n  - on: { text: { matches: \"(\" } }\n    do: [echo]", `line 2, column 28: "(" is not a regular expression in RE2's syntax (https://golang.org/s/re2syntax)`, true},
	{"a wrong type of JSON", "rules:\n  - on: { json: { a: { $type: text } } }\n    do: [echo]", `line 2, column 31: "text" is not a type of JSON: known are string, number, boolean, null, array, object, any`, true},
	{"an unknown pattern", "rules:\n  - on: { json: { a: { $match: text } } }\n    do: [echo]", `line 2, column 24: "$match" is not known in a JSON pattern: did you mean "$matches"?`, true},
	{"a path without its slash", "paths: { chat: { rules: [ { on: message, do: [echo] } ] } }", `line 1, column 16: "chat" cannot be a path: it begins with /, such as /chat, and does not end with one`, true},
	{"no subprotocol to require", "require_subprotocol: true\nrules: [ { on: message, do: [echo] } ]", `line 1, column 22: require_subprotocol needs subprotocols to choose from`, true},
	{"an alias", "vars: { a: &x 1, b: *x }\nrules: [ { on: message, do: [echo] } ]", `line 1, column 12: anchors and aliases are not accepted: write it out`, true},
	{"a ping that is too frequent", "ping_every: 10ms\nrules: [ { on: message, do: [echo] } ]", `line 1, column 13: ping_every is never, or a time from 200ms to 60s, not "10ms"`, true},
	{"two documents", "rules: [ { on: message, do: [echo] } ]\n---\nrules: []", `line 2: a script is one document: what follows the first one is not read`, true},
	{"a key that is a list", "rules: [ { on: { json: { ? [a] : 1 } }, do: [echo] } ]", `line 1, column 28: a key is a text`, true},
	{"no whole number", "draw: { a: { int: [1.2, 1.8] } }\nrules: [ { on: message, do: [echo] } ]", `line 1, column 19: there is no whole number between 1.2 and 1.8`, true},
	{"JSON", "{\"rules\": [\n  {\"on\": \"message\", \"do\": [\"eco\"]}]}", `line 2, column 28: "eco" is not known as an element of "do": did you mean "echo"?`, false},
}

func TestAWrongScriptIsRefusedWithLineAndReason(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.script))
			var wrong *Error
			if !errors.As(err, &wrong) {
				t.Fatalf("got %v", err)
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestAScriptHasBounds(t *testing.T) {
	for name, script := range map[string]string{
		"bytes":   "rules: [ { on: message, do: [ { send: \"" + strings.Repeat("x", maxScript) + "\" } ] } ]",
		"rules":   "rules: [" + strings.Repeat("{ on: message, do: [echo] },", maxRules+1) + "]",
		"actions": "rules: [ { on: message, do: [" + strings.Repeat("echo,", maxActions+1) + "] } ]",
		"parts":   "rules: [ { on: message, do: [ { raw: [" + strings.Repeat("{ u8: 1 },", maxActions+1) + "] } ] } ]",
		"depth":   "rules: [ { on: { json: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + " }, do: [echo] } ]",
		"parens":  "rules: [ { on: message, if: \"" + strings.Repeat("(", 40) + "1" + strings.Repeat(")", 40) + "\", do: [echo] } ]",
	} {
		if _, err := Parse([]byte(script)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range refusals {
		f.Add([]byte(c.script))
	}
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range append(files, "default.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		script, err := Parse(text)
		var wrong *Error
		switch {
		case err == nil && script == nil:
			t.Error("neither a script nor an error")
		case err != nil && (!errors.As(err, &wrong) || wrong.Line < 1 || wrong.Reason == ""):
			t.Errorf("the error is %#v", err)
		}
	})
}
