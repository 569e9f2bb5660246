//go:build tools

// Package tools pins the version of the code generator that go generate runs.
package tools

import _ "github.com/99designs/gqlgen"
