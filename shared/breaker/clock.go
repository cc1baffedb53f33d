package breaker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// clock gives the broker's time, to within a round trip to it. The broker is asked only once: the clocks of machines do
// not drift apart by much during the life of a session.
type clock struct {
	offset time.Duration
}

// newClock writes a key and compares the broker's time of that with the local time.
func newClock(ctx context.Context, kv jetstream.KeyValue) (*clock, error) {
	const key = "clock"
	sent := time.Now()

	if _, err := kv.Put(ctx, key, nil); err != nil {
		return nil, err
	}

	stored := time.Now()

	entry, err := kv.Get(ctx, key)
	if err != nil {
		return nil, err
	}

	middle := sent.Add(stored.Sub(sent) / 2)

	return &clock{offset: entry.Created().Sub(middle)}, nil
}

// now returns the broker's time, in UTC and without a monotonic reading, as it is stored.
func (c *clock) now() time.Time { return time.Now().Add(c.offset).Round(0).UTC() }
