package history

// What publishers have recorded of their calls: those under way, and those whose publisher was killed before it stored
// the answers.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/cas"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// storing is how long a live publisher may need to store the answers to a call that is over.
const storing = 90 * time.Second

// calls reads the publishers' records, and moves those of lost calls into the history. It may be used by several
// goroutines.
type calls struct {
	js  jetstream.JetStream
	log *slog.Logger
	now func() time.Time
	// timeout is the longest that a call to AtHoc takes; longest is the longest that AtHoc can be working on it.
	timeout, longest time.Duration
	writer           *writer
}

// recordLost records the calls of publishers that can no longer be alive. If a publisher is alive all the same, no harm
// is done: where an answer is known, the answer counts.
func (c *calls) recordLost(ctx context.Context) error {
	kv, err := c.js.KeyValue(ctx, topology.BucketCalls)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketCalls, err)
	}

	var keys []string
	prefix := "$KV." + topology.BucketCalls + "."

	err = bus.Read(ctx, c.js, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, subject string) {
		var recorded event.Calling
		if len(data) > 0 && (event.Decode(data, &recorded) != nil || c.over(recorded)) {
			keys = append(keys, strings.TrimPrefix(subject, prefix))
		}
	})
	for _, key := range keys {
		if err := c.take(ctx, kv, key); err != nil {
			return err
		}
	}

	return err
}

// underWay returns what AtHoc was sent, according to the publishers' records, in calls whose answers are not stored.
func (c *calls) underWay(ctx context.Context) ([]event.Delivery, error) {
	var out []event.Delivery
	err := bus.Read(ctx, c.js, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, _ string) {
		var recorded event.Calling
		if len(data) > 0 && event.Decode(data, &recorded) == nil {
			for _, call := range recorded.Calls {
				out = append(out, lostBy(call, c.longest)...)
			}
		}
	})

	return out, err
}

// over reports whether even the last of the calls must have its answer stored by now.
func (c *calls) over(recorded event.Calling) bool {
	if len(recorded.Calls) == 0 {
		return true
	}

	sent := time.UnixMilli(recorded.Calls[len(recorded.Calls)-1].Sent)

	return c.now().Sub(sent) > c.timeout+storing
}

// take moves into the history what a publisher had sent to AtHoc, or was about to send, and deletes its record from the
// bucket.
func (c *calls) take(ctx context.Context, kv jetstream.KeyValue, key string) error {
	value, revision, err := cas.Load(ctx, kv, key)
	if err != nil || len(value) == 0 {
		return err
	}

	var recorded event.Calling
	switch err := event.Decode(value, &recorded); {
	case err != nil:
		c.log.Warn("what a publisher wrote down of its calls cannot be read and is dropped", "error", err)
	case !c.over(recorded):
		return nil // it is under way
	}

	var entries []entry
	for _, call := range recorded.Calls {
		for n, t := range lostBy(call, c.longest) {
			entries = append(entries, entry{Delivery: t, id: fmt.Sprintf("%s-%d", call.ID, n)})
		}
	}

	if err := c.writer.store(ctx, entries); err != nil {
		return err
	}

	if len(entries) > 0 {
		c.log.Warn("a publisher ended without storing AtHoc's answer to a call: whether AtHoc took it is uncertain", "users", len(entries))
	}

	if err := kv.Delete(ctx, key, jetstream.LastRevision(revision)); err != nil && !errors.Is(cas.Conflicting(err), cas.ErrConflict) {
		return fmt.Errorf("take a call from bucket %s: %w", topology.BucketCalls, err)
	}

	return nil
}

// lostBy returns what a call without an answer sent to AtHoc.
func lostBy(call event.Attempt, longest time.Duration) []event.Delivery {
	out := make([]event.Delivery, 0, len(call.Whom))
	for _, w := range call.Whom {
		t := event.Delivery{
			User: w.User, Employee: w.Employee, On: w.On, At: w.At, Row: w.Row, Outcome: event.Pending,
			Until: call.Sent + longest.Milliseconds(), Call: call.Call,
		}
		if w.File >= 1 && w.File <= len(call.Files) {
			t.File = call.Files[w.File-1]
		}

		out = append(out, t)
	}

	return out
}
