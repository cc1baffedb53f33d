package hold

// This file has what others may read of the guard, and the copy of its state that survives the state store.

import (
	"maps"
	"slices"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/shared/control"
)

// Facts are what is known of the guard. It needs no lock.
func (s *State) Facts(now time.Time) *control.GuardState {
	f := *s.facts.Load()
	f.Holding = f.HoldsNow(now)
	return &f
}

// Noted ends a round of Note.
func (s *State) Noted() {
	if s.changed {
		s.refresh()
	}
}

// refresh updates the facts.
func (s *State) refresh() {
	s.changed = false
	f := &control.GuardState{Mode: string(s.rules.Mode), Since: s.history.Since, HoldsFrom: s.rules.HoldsFrom(&s.history), Rows: map[string]int{}}
	for _, g := range s.Groups() {
		if g.Is("") {
			f.Held = append(f.Held, s.Describe(g))
			for _, p := range s.members[g.ID] {
				if p.file != "" {
					f.Rows[p.file]++
				}
			}
		}
	}
	for _, k := range guard.Kinds() {
		if t, known := s.unusual[k]; known {
			f.Unusual = append(f.Unusual, t)
		}
	}
	s.facts.Store(f)
}

// Describe describes a hold, without persons.
func (s *State) Describe(g *guard.Group) control.HeldGroup {
	d := control.HeldGroup{
		ID: g.ID, Kind: string(g.Kind), Since: g.Since, Last: g.Last, Users: len(s.members[g.ID]) + len(g.Users),
		Sent: g.Sent, Allowed: g.Allowed, Usual: g.Usual, OnDuty: g.OnDuty,
	}
	if x := g.Decision; x != nil {
		d.Users, d.Decision, d.Decided, d.By, d.Reason = x.Users, x.Outcome, x.At, x.By, x.Reason
	}
	return d
}

// Unsynced returns what the broker's copy lacks; index is whether its history and list of holds lack anything.
func (s *State) Unsynced() (groups []*guard.Group, index bool) {
	for id := range s.unsynced {
		if g := s.groups[id]; g != nil {
			groups = append(groups, g)
		}
	}
	return groups, s.behind
}

// Synced notes that the copy has all of it.
func (s *State) Synced() { clear(s.unsynced); s.behind = false }

// History is the history of changes.
func (s *State) History() guard.History { return s.history }

// Orphans are the workers whose hold is not known.
func (s *State) Orphans() (employees []string) {
	for id, in := range s.members {
		if s.groups[id] == nil {
			employees = slices.AppendSeq(employees, maps.Keys(in))
		}
	}
	return employees
}

// decidedKept is how long a decided hold is kept.
const decidedKept = 30 * 24 * time.Hour

// Old lists the holds that were decided longer ago than decidedKept, and those that are empty although nothing was decided.
func (s *State) Old(now time.Time) (forget, overtaken []*guard.Group) {
	for _, g := range s.groups {
		switch {
		case g.Decision != nil && now.Sub(g.Decision.At) >= decidedKept:
			forget = append(forget, g)
		case g.Is("") && len(s.members[g.ID])+len(g.Users) == 0:
			overtaken = append(overtaken, g)
		}
	}
	return forget, overtaken
}
