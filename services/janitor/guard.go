package janitor

import (
	"errors"
	"fmt"
	"time"

	"bobosync/shared/control"
)

// ErrHeld means that a mapping was fetched and is not put into force before an operator approves it: it is empty, or lacks
// too many of the employee ids that are mapped. That is far more likely a mistake than the truth, and would stop the duty
// statuses of all these workers.
var ErrHeld = errors.New("the mapping is held back")

// change is what one mapping does to the one before.
type change struct{ before, after, added, changed, removed int }

// compare returns what the mapping after does to the one before.
func compare(before, after map[string]string) change {
	c := change{before: len(before), after: len(after)}
	for id, user := range after {
		switch was, known := before[id]; {
		case !known:
			c.added++
		case was != user:
			c.changed++
		}
	}
	c.removed = c.before - (c.after - c.added)
	return c
}

// guard says why a change needs an approval, or "". Most is the percentage of ids that may be removed without one.
func (c change) guard(most int) string {
	switch {
	case c.after == 0:
		return "no AtHoc user with an employee id was found"
	case c.removed*100 > most*c.before:
		return fmt.Sprintf("%d of %d employee ids would be removed, which is more than %d %% (MAPPING_MAX_REMOVAL_PERCENT)",
			c.removed, c.before, most)
	default:
		return ""
	}
}

// held is what the janitors remember of a mapping that is held back. It holds no personal data.
type held struct {
	// Hash names the content; see hashOf.
	Hash    string    `json:"hash"`
	Since   time.Time `json:"since"`
	Seen    time.Time `json:"seen"`
	Before  int       `json:"before"`
	After   int       `json:"after"`
	Added   int       `json:"added"`
	Changed int       `json:"changed"`
	Removed int       `json:"removed"`
	Reason  string    `json:"reason"`
	// Approved is when an operator approved it, and ApprovedBy who; zero if nobody has.
	Approved   time.Time `json:"approved,omitzero"`
	ApprovedBy string    `json:"approved_by,omitempty"`
}

// lets says whether an approval lets a mapping of the given content, which does c, into force: it has to be the content that
// was approved, or one that removes no more.
func (h *held) lets(hash string, c change) bool {
	if h == nil || h.Approved.IsZero() {
		return false
	}
	return hash == h.Hash || c.removed <= h.Removed && (c.after > 0 || h.After == 0)
}

// idLength is how much of a hash names a held mapping to operators.
const idLength = 12

func (h *held) id() string { return h.Hash[:min(len(h.Hash), idLength)] }

// told is how operators see it.
func (h *held) told() *control.HeldMapping {
	if h == nil {
		return nil
	}
	return &control.HeldMapping{
		ID: h.id(), Since: h.Since, Seen: h.Seen, Before: h.Before, After: h.After, Added: h.Added, Changed: h.Changed,
		Removed: h.Removed, Reason: h.Reason,
	}
}
