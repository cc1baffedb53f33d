package breaker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// clock gives the broker's time, to within a round trip to it. It is read once; machines' clocks do not drift apart by
// much during the life of a session.
type clock struct {
	offset time.Duration
}

// newClock lets the broker date a key and compares that with the moment here.
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

// now is the broker's time, in UTC and without a monotonic reading, as it is stored.
func (c *clock) now() time.Time { return time.Now().Add(c.offset).Round(0).UTC() }
