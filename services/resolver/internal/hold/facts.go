package hold

// This file publishes the guard's state for readers who do not hold the lock.

import (
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/shared/control"
)

// Facts returns what is known of the guard. It needs no lock.
func (s *State) Facts(now time.Time) *control.GuardState {
	f := *s.facts.Load()
	f.Holding = f.HoldsNow(now)
	return &f
}

// refresh updates the facts.
func (s *State) refresh() {
	s.changed = false
	rules, history := s.Guard.rules, &s.Guard.history
	f := &control.GuardState{Mode: string(rules.Mode), Since: history.Since, HoldsFrom: rules.HoldsFrom(history), Rows: map[string]int{}}
	for _, g := range s.Groups.All() {
		if g.Is("") {
			f.Held = append(f.Held, s.Describe(g))
			for _, p := range s.Members.of[g.ID] {
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

// Describe describes a hold without naming its members.
func (s *State) Describe(g *guard.Group) control.HeldGroup {
	d := control.HeldGroup{
		ID: g.ID, Kind: string(g.Kind), Since: g.Since, Last: g.Last, Users: s.Members.Count(g.ID) + len(g.Users),
		Sent: g.Sent, Allowed: g.Allowed, Usual: g.Usual, OnDuty: g.OnDuty,
	}
	if x := g.Decision; x != nil {
		d.Users, d.Decision, d.Decided, d.By, d.Reason = x.Users, x.Outcome, x.At, x.By, x.Reason
	}

	return d
}
