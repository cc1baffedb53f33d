package audit

// Orders with what came of them, and words for them.

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/text"
)

// Ordered is an order with what came of it.
type Ordered struct {
	Entry
	// Ended is when it was followed or not; zero if nothing tells.
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
		if e.Kind == Look {
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
