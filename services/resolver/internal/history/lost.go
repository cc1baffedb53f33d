package history

// Calls whose publisher was killed before their answers were stored.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/cas"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// storing is how long a publisher that lives may need to store the answers to a call that is over.
const storing = 90 * time.Second

// lostCalls records the calls of publishers that cannot be alive any more. One that is alive all the same does no harm: where an
// answer is known it counts.
func (k *Keeper) lostCalls(ctx context.Context) error {
	kv, err := k.js.KeyValue(ctx, topology.BucketCalls)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketCalls, err)
	}
	var keys []string
	prefix := "$KV." + topology.BucketCalls + "."
	err = bus.Read(ctx, k.js, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, subject string) {
		var c event.Calling
		if len(data) > 0 && (event.Decode(data, &c) != nil || k.over(c)) {
			keys = append(keys, strings.TrimPrefix(subject, prefix))
		}
	})
	for _, key := range keys {
		if err := k.lostCall(ctx, kv, key); err != nil {
			return err
		}
	}
	return err
}

// underWay are the publishers' records of calls whose answers are not stored.
func (k *Keeper) underWay(ctx context.Context) ([]event.Delivery, error) {
	var out []event.Delivery
	err := bus.Read(ctx, k.js, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, _ string) {
		var c event.Calling
		if len(data) > 0 && event.Decode(data, &c) == nil {
			for _, call := range c.Calls {
				out = append(out, lostBy(call, k.longest)...)
			}
		}
	})
	return out, err
}

// over reports whether the last of the calls must have its answer stored by now.
func (k *Keeper) over(c event.Calling) bool {
	if len(c.Calls) == 0 {
		return true
	}
	sent := time.UnixMilli(c.Calls[len(c.Calls)-1].Sent)
	return k.now().Sub(sent) > k.timeout+storing
}

// lostCall records what a publisher had sent to AtHoc, or had been about to, and deletes it from the bucket.
func (k *Keeper) lostCall(ctx context.Context, kv jetstream.KeyValue, key string) error {
	value, revision, err := cas.Load(ctx, kv, key)
	if err != nil || len(value) == 0 {
		return err
	}
	var c event.Calling
	switch err := event.Decode(value, &c); {
	case err != nil:
		k.log.Warn("what a publisher wrote down of its calls cannot be read and is dropped", "error", err)
	case !k.over(c):
		return nil // it is under way
	}

	var entries []entry
	for _, call := range c.Calls {
		for n, t := range lostBy(call, k.longest) {
			entries = append(entries, entry{Delivery: t, id: fmt.Sprintf("%s-%d", call.ID, n)})
		}
	}
	if err := k.store(ctx, entries); err != nil {
		return err
	}
	if len(entries) > 0 {
		k.log.Warn("a publisher ended without storing AtHoc's answer to a call: whether AtHoc took it is uncertain", "users", len(entries))
	}
	if err := kv.Delete(ctx, key, jetstream.LastRevision(revision)); err != nil && !errors.Is(cas.Conflicting(err), cas.ErrConflict) {
		return fmt.Errorf("take a call from bucket %s: %w", topology.BucketCalls, err)
	}
	return nil
}

// lostBy is what a call without an answer sent to AtHoc.
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
