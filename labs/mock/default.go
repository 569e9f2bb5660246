package mock

import (
	_ "embed"
	"sync"
)

//go:embed default.yaml
var defaultScript []byte

// Default is the script of a server that was given none: it greets, and sends
// every message back.
var Default = sync.OnceValue(func() *Script {
	script, err := Parse(defaultScript)
	if err != nil {
		panic(err) // its test would have failed
	}
	return script
})
