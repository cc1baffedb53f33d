package audit

// Orders with their results, and words for them.

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// Ordered is an order with its result.
type Ordered struct {
	Entry
	// Ended is when its result was recorded; zero if no result is known.
	Ended time.Time `json:"ended,omitzero"`
	// Answer is what the service answered.
	Answer *Detail `json:"answer,omitempty"`
}

// Orders pairs each order with its result.
func Orders(entries []Entry) []Ordered {
	results := map[string]Entry{}
	for _, e := range entries {
		if e.Kind == Result {
			results[e.Order] = e
		}
	}

	all := []Ordered{} // JSON's null is not a list
	for _, e := range entries {
		if e.Kind == Result {
			continue
		}

		o := Ordered{Entry: e}
		if result, there := results[e.ID]; there {
			o.Ended, o.Outcome, o.Answer = result.At, result.Outcome, result.What
		}

		if e.Kind == Read {
			o.Outcome = "looked"
		}

		all = append(all, o)
	}

	return all
}

// KnownBy says how certain it is who gave an order.
func (c Caller) KnownBy() string {
	switch {
	case c.Known != ByKey:
		return "his word"
	case c.Shared:
		return "shared key"
	default:
		return "his key"
	}
}

// Words says in one line what was ordered and, if it was not carried out, why.
func (o Ordered) Words() string {
	switch {
	case o.Hidden:
		return "(for operators to see)"
	case o.What == nil:
		return "(gone)"
	}

	var fields map[string]json.RawMessage
	if json.Unmarshal(o.What.Request, &fields) != nil {
		return string(o.What.Request)
	}

	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "by" {
			parts = append(parts, name+"="+string(fields[name]))
		}
	}

	line := text.Dash(strings.Join(parts, " "))
	if o.Answer != nil && o.Answer.Error != "" {
		line += ": " + o.Answer.Error
	}

	return line
}

// familyLen is how many leading characters the ids of all orders given by one form share; the remaining ones are a
// counter. See NewFamily.
const familyLen = len("01234567-0123-7123-8123-0123")

// NewFamily makes an id for an order: a UUIDv7 that ends in eight zeros, which Member replaces to make the ids of the
// order's parts.
func NewFamily() string { return uuid.Must(uuid.NewV7()).String()[:familyLen] + "00000000" }

// Member returns the id of the n-th part of an order, counted from 0.
func Member(family string, n int) string { return fmt.Sprintf("%s%08x", family[:familyLen], n) }

// Find returns the recorded parts of an order by the id that its sender made with NewFamily; none if the order was not
// given. Records that are older than the id are not read. Find needs a viewer's rights.
func Find(ctx context.Context, js jetstream.JetStream, id string) ([]Ordered, error) {
	made, err := uuid.Parse(id)
	if err != nil || made.Version() != 7 || !strings.HasSuffix(id, "00000000") {
		return nil, fmt.Errorf("%q is no id of an order", id)
	}

	sec, nsec := made.Time().UnixTime()
	from, family := bus.ReadFrom{Since: time.Unix(sec, nsec).Add(-slack)}, id[:familyLen]

	var found []Entry
	err = bus.Read(ctx, js, topology.StreamAudit, from, func(data []byte, _ string) {
		var e Entry
		if json.Unmarshal(data, &e.Record) == nil && (strings.HasPrefix(e.ID, family) || strings.HasPrefix(e.Order, family)) {
			found = append(found, e)
		}
	})
	for i := range found {
		if err == nil {
			found[i].What, err = detailOf(ctx, js, found[i].Record)
		}
	}

	return Orders(found), err
}

// detailOf reads the detail of a record; nil if it was erased.
func detailOf(ctx context.Context, js jetstream.JetStream, r Record) (detail *Detail, err error) {
	key := "$KV." + topology.BucketAudit + "." + topology.AuditDetail(topology.Service(r.Service), r.ID)
	err = bus.Read(ctx, js, "KV_"+topology.BucketAudit, bus.ReadFrom{Subject: key}, func(data []byte, _ string) {
		if d := (Detail{}); json.Unmarshal(data, &d) == nil {
			detail = &d
		}
	})

	return detail, err
}
