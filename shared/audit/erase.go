package audit

// Taking a person out of what belongs to records. The records themselves name nobody but callers, and stay.

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

// Erased is what an erasure answers of the audit.
type Erased struct {
	// Redacted counts the details that have the person taken out.
	Redacted int `json:"audit"`
}

// Erase takes a person out of the details of all services' records, by an order, and returns of how many. What is left of a detail does not
// fit the hash in its record any more, and its salt is gone, so that nobody can try names against that hash. It needs the rights of the
// resolver.
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
		if err := json.Unmarshal(detail, &d); err != nil { // nobody knows what is in it
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

// EachMention calls f for the details that mention a person, by their keys.
func EachMention(ctx context.Context, js jetstream.JetStream, n erase.Names, f func(key string, detail []byte)) error {
	prefix := "$KV." + topology.BucketAudit + "."

	return bus.Read(ctx, js, bucketStream, bus.ReadFrom{}, func(data []byte, subject string) {
		if n.MentionedIn(data) {
			f(strings.TrimPrefix(subject, prefix), bytes.Clone(data))
		}
	})
}

// without is the detail without a person.
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

// erasures counts, by order, what may have been erased; -1 is any number, as it is not known how the order ended.
type erasures map[string]int

func (b Chains) erasures() erasures {
	all := erasures{}
	for _, e := range b.Entries() {
		if e.Service != string(topology.Resolver) || e.Endpoint != EndpointErase {
			continue
		}

		if _, there := all[e.ID]; e.Kind == Order && !there { // results come first
			all[e.ID] = -1
		}

		var answer Erased
		if e.Kind == Result && e.Outcome == OK && e.What != nil && json.Unmarshal(e.What.Result, &answer) == nil {
			all[e.Order] = answer.Redacted
		}
	}

	return all
}

// take reports whether an order may have erased one more.
func (e erasures) take(order string) bool {
	left, there := e[order]
	if left > 0 {
		e[order]--
	}

	return there && left != 0
}
