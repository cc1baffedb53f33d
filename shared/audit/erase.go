package audit

// Erasing a person from the details of records. The records themselves name nobody but callers, and stay.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/erase"
	"bobosync/shared/topology"
)

// EndpointErase is the endpoint of the resolver that orders an erasure.
const EndpointErase = "erase"

// Erased is the audit's part of an erasure's answer.
type Erased struct {
	// Redacted is the number of details from which the person was removed.
	Redacted int `json:"audit"`
}

// Erase removes a person from the details of all services' records, by the given order, and returns how many details it
// changed. What is left of a detail no longer matches the hash in its record, and its salt is gone, so that nobody can
// try names against that hash. Erase needs the rights of the resolver.
func Erase(ctx context.Context, js jetstream.JetStream, n erase.Names, order string) (redacted int, err error) {
	kv, err := js.KeyValue(ctx, topology.BucketAudit)
	if err != nil {
		return 0, fmt.Errorf("open bucket %s: %w", topology.BucketAudit, err)
	}

	found := map[string][]byte{}
	if err := EachMention(ctx, js, n, func(key string, detail []byte) { found[key] = detail }); err != nil {
		return 0, err
	}

	for key, detail := range found {
		var d Detail
		if err := json.Unmarshal(detail, &d); err != nil { // nobody knows what is in it, so all of it goes
			d = Detail{}
		}

		if d, err = d.without(n); err != nil {
			return redacted, fmt.Errorf("take a worker out of a record of the audit: %w", err)
		}

		d.Erased = order

		data, err := json.Marshal(d)
		if err == nil {
			_, err = kv.Put(ctx, key, data)
		}

		if err != nil {
			return redacted, fmt.Errorf("take a worker out of a record of the audit: %w", err)
		}

		redacted++
	}

	return redacted, nil
}

// EachMention calls f with the key and the content of each detail that mentions a person.
func EachMention(ctx context.Context, js jetstream.JetStream, n erase.Names, f func(key string, detail []byte)) error {
	prefix := "$KV." + topology.BucketAudit + "."

	return bus.Read(ctx, js, bucketStream, bus.ReadFrom{}, func(data []byte, subject string) {
		if n.MentionedIn(data) {
			f(strings.TrimPrefix(subject, prefix), bytes.Clone(data))
		}
	})
}

// without returns the detail with the person removed. The result has no salt.
func (d Detail) without(n erase.Names) (_ Detail, err error) {
	d.Salt = ""
	for _, part := range []*json.RawMessage{&d.Request, &d.Forecast, &d.Result} {
		if *part, err = n.Redact(*part); err != nil {
			return d, err
		}
	}

	if n.Within(d.Error) {
		d.Error = erase.Gone
	}

	return d, nil
}

// erasures counts, by order, the details that it may have redacted; -1 means any number, because the order's end is not
// recorded.
type erasures map[string]int

func (b Chains) erasures() erasures {
	all := erasures{}
	for _, e := range b.Entries() {
		if e.Service != string(topology.Resolver) || e.Endpoint != EndpointErase {
			continue
		}

		if _, there := all[e.ID]; e.Kind == Order && !there { // entries are newest first, so an order's result precedes it
			all[e.ID] = -1
		}

		var answer Erased
		if e.Kind == Result && e.Outcome == OK && e.What != nil && json.Unmarshal(e.What.Result, &answer) == nil {
			all[e.Order] = answer.Redacted
		}
	}

	return all
}

// take reports whether an order may have redacted one more detail, and counts it.
func (e erasures) take(order string) bool {
	left, there := e[order]
	if left > 0 {
		e[order]--
	}

	return there && left != 0
}
