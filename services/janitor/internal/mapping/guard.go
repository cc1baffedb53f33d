package mapping

// What a new mapping changes, and when a person must approve the change.

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/control"
)

// ErrHeld means that a mapping was fetched but is not put into force before an operator approves it: it is empty, or
// too many of the mapped employee ids would lose their user or get another one. That is far more likely to be a
// mistake than the truth, and would stop the duty statuses of all these workers, or show them for somebody else.
var ErrHeld = errors.New("the mapping is held back")

// change counts the differences between the previous mapping and a new one.
type change struct{ before, after, added, changed, removed int }

// compare counts the changes from one mapping to another.
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

// sinceLost returns the change if the stream has lost the mapping in force, of which only the size is known; size is 0
// if there was none. It assumes that as many ids as possible stay. The resolver goes on with the lost mapping.
func (c change) sinceLost(size int) change {
	return change{before: size, after: c.after, added: max(c.after-size, 0), removed: max(size-c.after, 0)}
}

// keepDifference stores what a mapping that is held back would change. The hash is that of the mapping that is held
// back.
func (r *Refresher) keepDifference(hash string, before, after map[string]string) {
	d := differences(before, after)
	d.ID = state.HeldID(hash)

	r.mu.Lock()
	defer r.mu.Unlock()

	r.differs, r.difference = hash, d
}

// Difference returns what the mapping that is held back would change. It refuses if none is held back, or if the list
// was lost in a restart.
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

// differences lists, by employee id, which ids would lose their user and which would get another one, at most
// control.MaxMappingChanges of each.
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

// guard returns why a change needs an approval, or "" if it needs none. Most is the percentage of ids that may lose
// their user or get another one without an approval.
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

// guardShort returns why a change needs an approval if AtHoc has returned fewer users than it says it has, or "" if it
// needs none. However few users are missing, they would lose their status. Without a mapping in force there is nothing
// to lose.
func (c change) guardShort(short *users.Short) string {
	if short == nil || c.removed+c.changed == 0 {
		return ""
	}
	return fmt.Sprintf("%s; of %d employee ids %d would be removed and %d given to another user", short, c.before, c.removed, c.changed)
}

// approves reports whether an operator has approved exactly the content with this hash. Any other content needs a new
// decision.
func approves(h *state.Held, hash string) bool {
	return h != nil && !h.Approved.IsZero() && h.Hash == hash
}
