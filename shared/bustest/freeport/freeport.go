// Package freeport finds loopback ports for the servers of tests.
package freeport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below those that the system gives to outgoing connections and to port 0. A port must still be
// free when a server is started on it a moment after it was chosen, or again after the server was down. And a client
// that keeps trying to reach a server that is down could be given the server's port and connect to itself.
const (
	first = 20_000
	count = 12_000
	tries = 1000
)

var given sync.Map

// Find returns a port of 127.0.0.1 on which nothing listens, and never the same one twice. Several goroutines may call
// it.
func Find() (int, error) {
	for range tries {
		port := first + rand.IntN(count) //nolint:gosec // nothing is secret about it
		if _, before := given.LoadOrStore(port, true); before {
			continue
		}

		if l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}

	return 0, errors.New("no free port was found")
}
