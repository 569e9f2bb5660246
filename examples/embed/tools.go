//go:build tools

package main

// The generator is a dependency, so that go.mod holds its version.
import _ "github.com/99designs/gqlgen"
