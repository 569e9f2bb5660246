//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: it measures with epoll, taskset and /proc, so it needs Linux")
	os.Exit(1)
}
