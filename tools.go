//go:build tools

// Package sluice has no code: this file pins the version of the code generator that go generate runs.
package sluice

import _ "github.com/99designs/gqlgen"
