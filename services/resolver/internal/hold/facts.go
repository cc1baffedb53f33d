package hold

// This file is what others are told of the guard, and the copy of its memory that survives the state store.

import (
	"maps"
	"slices"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/shared/control"
)

// Facts are what is known of the guard. It needs no lock.
func (b *Book) Facts(now time.Time) *control.GuardState {
	f := *b.facts.Load()
	f.Holding = f.HoldsNow(now)
	return &f
}

// Noted ends a round of Note.
func (b *Book) Noted() {
	if b.changed {
		b.refresh()
	}
}

// refresh takes in what has changed.
func (b *Book) refresh() {
	b.changed = false
	f := &control.GuardState{Mode: string(b.rules.Mode), Since: b.history.Since, HoldsFrom: b.rules.HoldsFrom(&b.history), Rows: map[string]int{}}
	for _, g := range b.Groups() {
		if g.Is("") {
			f.Held = append(f.Held, b.Describe(g))
			for _, p := range b.members[g.ID] {
				if p.file != "" {
					f.Rows[p.file]++
				}
			}
		}
	}
	for _, k := range guard.Kinds() {
		if t, told := b.told[k]; told {
			f.Told = append(f.Told, t)
		}
	}
	b.facts.Store(f)
}

// Describe tells of a hold, without persons.
func (b *Book) Describe(g *guard.Group) control.HeldGroup {
	d := control.HeldGroup{
		ID: g.ID, Kind: string(g.Kind), Since: g.Since, Last: g.Last, Users: len(b.members[g.ID]) + len(g.Users),
		Sent: g.Sent, Allowed: g.Allowed, Usual: g.Usual, OnDuty: g.OnDuty,
	}
	if x := g.Decision; x != nil {
		d.Users, d.Decision, d.Decided, d.By, d.Reason = x.Users, x.Verdict, x.At, x.By, x.Reason
	}
	return d
}

// Unsynced returns what the broker's copy lacks; index is whether its history and list of holds lack anything.
func (b *Book) Unsynced() (groups []*guard.Group, index bool) {
	for id := range b.unsynced {
		if g := b.groups[id]; g != nil {
			groups = append(groups, g)
		}
	}
	return groups, b.behind
}

// Synced notes that the copy has all of it.
func (b *Book) Synced() { clear(b.unsynced); b.behind = false }

// History is what is remembered of changes.
func (b *Book) History() guard.History { return b.history }

// Orphans are the workers whose hold is not known.
func (b *Book) Orphans() (employees []string) {
	for id, in := range b.members {
		if b.groups[id] == nil {
			employees = slices.AppendSeq(employees, maps.Keys(in))
		}
	}
	return employees
}

// decidedKept is how long a hold is kept about which was decided.
const decidedKept = 30 * 24 * time.Hour

// Old lists the holds about which was decided so long ago that nobody asks any more, and those that nobody is in any more although
// nothing was decided.
func (b *Book) Old(now time.Time) (forget, overtaken []*guard.Group) {
	for _, g := range b.groups {
		switch {
		case g.Decision != nil && now.Sub(g.Decision.At) >= decidedKept:
			forget = append(forget, g)
		case g.Is("") && len(b.members[g.ID])+len(g.Users) == 0:
			overtaken = append(overtaken, g)
		}
	}
	return forget, overtaken
}
