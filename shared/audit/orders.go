package audit

// Orders with what came of them, and words for them.

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

// Ordered is an order with what came of it.
type Ordered struct {
	Entry
	// Ended is when it was followed or not; zero if that is not known.
	Ended time.Time `json:"ended,omitzero"`
	// Answer is what the service answered.
	Answer *Detail `json:"answer,omitempty"`
}

// Orders puts together what was ordered and what came of it.
func Orders(entries []Entry) []Ordered {
	results := map[string]Entry{}
	for _, e := range entries {
		if e.Kind == Result {
			results[e.Order] = e
		}
	}

	all := []Ordered{} // JSON's null is no list
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

// KnownBy says how far it is certain who gave an order.
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

// Words says in a line what was ordered, and why it was not followed.
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

// familyLen is how many of an id's letters are the same for all orders that were given by one form; the rest counts them. See NewFamily.
const familyLen = len("01234567-0123-7123-8123-0123")

// NewFamily makes an id for an order, a UUIDv7 that ends in eight zeros, so that Member makes those of its parts.
func NewFamily() string { return uuid.Must(uuid.NewV7()).String()[:familyLen] + "00000000" }

// Member is the id of the n-th part of an order, counted from 0.
func Member(family string, n int) string { return fmt.Sprintf("%s%08x", family[:familyLen], n) }

// Find returns the parts of an order whose id its giver has made, as far as they are recorded; none if it was not given. The id is of
// NewFamily, and what is older than it is not read. It needs a viewer's rights.
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

// detailOf reads what belongs to a record; nil if it was erased.
func detailOf(ctx context.Context, js jetstream.JetStream, r Record) (detail *Detail, err error) {
	key := "$KV." + topology.BucketAudit + "." + topology.AuditDetail(topology.Service(r.Service), r.ID)
	err = bus.Read(ctx, js, "KV_"+topology.BucketAudit, bus.ReadFrom{Subject: key}, func(data []byte, _ string) {
		if d := (Detail{}); json.Unmarshal(data, &d) == nil {
			detail = &d
		}
	})

	return detail, err
}
