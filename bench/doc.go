// Command bench measures the gateway from the outside: the built binary as a
// process of its own on a core of its own, real brokers, clients over real
// sockets. It measures servers to compare with in the same run, in turn, and
// prints one Markdown table.
//
//	go run ./bench -short        less than three minutes
//	go run ./bench -docs docs    everything; writes docs/performance.md
//	go run ./bench -only burst -profile /tmp/profiles
//	go run ./bench -against /tmp/sluice-before -rounds 7
//
// What counts is the CPU time of the server's process, as a user and in the
// kernel, for one delivery: one message at one subscriber. Unlike the time on
// the clock it does not depend on what else the machine does. Latencies do, and
// they share the machine with the load, so they are upper bounds.
//
// The load generator is one goroutine on epoll that takes frames apart only as
// far as it needs to count them; every payload carries a sequence number, so
// that lost, doubled and reordered deliveries are counted.
//
// It needs Linux, taskset, redis-server and mosquitto.
package main
