// Package content holds what is kept with the lessons.
package content

import (
	"embed"
	"io/fs"
	"path"
)

// Scripts are the files <slug>/server.yaml: the behaviour of the servers that a
// lesson uses beside the echo server, as scripts of the mock server.
//
//go:embed */server.yaml
var Scripts embed.FS

// ServerScripts maps the slugs of the lessons that have a script to its text.
func ServerScripts() map[string][]byte {
	scripts := make(map[string][]byte)
	files, _ := fs.Glob(Scripts, "*/server.yaml") // the pattern is right
	for _, file := range files {
		text, err := Scripts.ReadFile(file)
		if err != nil {
			panic(err) // it is within the program
		}
		scripts[path.Dir(file)] = text
	}
	return scripts
}
