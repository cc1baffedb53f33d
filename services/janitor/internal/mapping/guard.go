package mapping

// What a new mapping does to the one in force, and when a person has to approve that.

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/control"
)

// ErrHeld means that a mapping was fetched and is not put into force before an operator approves it: it is empty, or too many of
// the employee ids that are mapped would have no user or another one. That is far more likely a mistake than the truth, and would
// stop the duty statuses of all these workers, or show them for somebody else.
var ErrHeld = errors.New("the mapping is held back")

// change is what one mapping changes in the previous one.
type change struct{ before, after, added, changed, removed int }

// compare returns what the mapping after changes in the one before.
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

// sinceLost is the change where the stream has lost the mapping in force, of which the size alone is known; 0 if there was none. The resolver
// goes on with the one that was lost.
func (c change) sinceLost(size int) change {
	return change{before: size, after: c.after, added: max(c.after-size, 0), removed: max(size-c.after, 0)}
}

// keepDifference keeps what a mapping that is held back would change.
func (r *Refresher) keepDifference(hash string, before, after map[string]string) {
	d := differences(before, after)
	d.ID = state.HeldID(hash)

	r.mu.Lock()
	defer r.mu.Unlock()

	r.differs, r.difference = hash, d
}

// Difference returns what a mapping that is held back would change.
func (r *Refresher) Difference(h *state.Held) (control.MappingDifference, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	switch {
	case h == nil:
		return control.MappingDifference{}, control.Refuse("no mapping is held back")
	case h.Hash != r.differs:
		return control.MappingDifference{}, control.Refuse("the janitor has been restarted since and has not kept the list: refresh the mapping, and it has it again")
	default:
		return r.difference, nil
	}
}

// differences lists whose user is taken away, and who gets another one, by employee id.
func differences(before, after map[string]string) control.MappingDifference {
	d := control.MappingDifference{Removed: []control.MappingChange{}, Changed: []control.MappingChange{}}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		change := control.MappingChange{Employee: id, Before: before[id], After: after[id]}
		switch {
		case change.After == "" && len(d.Removed) < control.MaxMappingChanges:
			d.Removed = append(d.Removed, change)
		case change.After != "" && change.After != change.Before && len(d.Changed) < control.MaxMappingChanges:
			d.Changed = append(d.Changed, change)
		}
	}

	return d
}

// guard returns why a change needs an approval, or "". Most is the percentage of ids that may lose their user without one, those
// that get another user included.
func (c change) guard(most int) string {
	switch {
	case c.after == 0:
		return "no AtHoc user with an employee id was found"
	case (c.removed+c.changed)*100 > most*c.before:
		return fmt.Sprintf("of %d employee ids %d would be removed and %d given to another user, together more than %d %% "+
			"(MAPPING_MAX_REMOVAL_PERCENT)", c.before, c.removed, c.changed, most)
	default:
		return ""
	}
}

// guardShort returns why a change needs an approval if AtHoc has returned fewer users than it has, or "": those who are missing would lose
// their status, however few they are. Without a mapping in force there is nothing to lose.
func (c change) guardShort(short *users.Short) string {
	if short == nil || c.removed+c.changed == 0 {
		return ""
	}
	return fmt.Sprintf("%s; of %d employee ids %d would be removed and %d given to another user", short, c.before, c.removed, c.changed)
}

// approves reports whether an operator has approved just the content of this hash. Any other content is a new decision.
func approves(h *state.Held, hash string) bool {
	return h != nil && !h.Approved.IsZero() && h.Hash == hash
}
