// Package hold keeps the guard's state and the members of each hold. It asks package guard about each change before the
// change is published.
package hold

import (
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// State is the guard's state: what it has counted, the holds, and who is in them. Callers must hold the roster's lock,
// except for Facts.
type State struct {
	// Guard is never replaced; Load replaces the other two.
	Guard   *Guard
	Groups  *Groups
	Members *Members

	log *slog.Logger
	// unusual has the last unusual change of each kind that was not held.
	unusual map[guard.Kind]control.UnusualChange
	// behind: the broker's copy lacks something besides the holds in Groups.unsynced.
	behind bool
	// changed: the facts are out of date.
	changed bool

	facts atomic.Pointer[control.GuardState]
}

// New returns an empty state, for Load to fill.
func New(rules guard.Rules, log *slog.Logger) *State {
	s := &State{Guard: &Guard{rules: rules}, log: log, unusual: map[guard.Kind]control.UnusualChange{}}
	s.Load(guard.History{}, nil)
	return s
}

// Load replaces the guard's state. The members follow with Note.
func (s *State) Load(h guard.History, groups []*guard.Group) {
	if h.Hours == nil {
		h.Hours = map[string]guard.Hour{}
	}

	s.Guard.history, s.Groups, s.Members, s.behind = h, newGroups(groups), newMembers(), true
	s.refresh()
}

// Change is a change of a user's status that has not been published yet.
type Change struct {
	Kind guard.Kind
	// Employee is empty for an unmanaged user.
	Employee, User string
	// File and Row are those of the latest event, and At is when the duty that is cleared began, in Unix seconds.
	File string
	Row  int
	At   int64
}

// Answer is what the guard decided about some changes.
type Answer struct {
	// Save must be saved together with what is held, and before anything is published.
	Save store.GuardChange
	// held has the entry in a hold for each kind that is held.
	held  map[guard.Kind]latest.Hold
	trips []guard.Trip
	at    time.Time
}

// Held returns the entry in a hold for a change of the given kind; false if the change is let through.
func (a *Answer) Held(k guard.Kind) (latest.Hold, bool) {
	h, held := a.held[k]
	return h, held
}

// Ask decides about changes. The answer takes effect with Apply. onDuty is the number of users whom AtHoc was last sent
// as on duty.
func (s *State) Ask(now time.Time, onDuty int, changes []Change) *Answer {
	counts := guard.Counts{}
	for _, c := range changes {
		counts[c.Kind]++
	}

	a := &Answer{held: map[guard.Kind]latest.Hold{}, trips: s.Judge(now, onDuty, counts), at: now}
	groups, ids := map[guard.Kind]*guard.Group{}, map[guard.Kind]string{}
	for _, t := range a.trips {
		if t.Hold {
			g := s.Groups.into(t, s.Guard.rules, now)
			g.Add(t, now)
			groups[t.Kind], ids[t.Kind] = g, g.ID
			a.held[t.Kind] = latest.Hold{Group: g.ID, Seq: g.Seq}
			a.Save.Groups = append(a.Save.Groups, g)
		}
	}

	for _, c := range changes {
		switch g := groups[c.Kind]; {
		case g == nil:
		case c.Employee == "":
			g.Users[topology.NormalUsername(c.User)] = c.At
		default:
			g.AddRow(c.File, c.Row)
		}
	}

	a.Save = s.Guard.count(now, onDuty, counts, ids, a.Save.Groups)

	return a
}

// Judge decides about changes without recording anything. It returns the unusual kinds.
func (s *State) Judge(now time.Time, onDuty int, changes guard.Counts) []guard.Trip {
	trips := s.Guard.rules.Judge(&s.Guard.history, now, onDuty, changes)
	if changes[guard.Stale] == 0 || !s.Guard.rules.Holds(&s.Guard.history, now) || slices.ContainsFunc(trips, func(t guard.Trip) bool { return t.Kind == guard.Stale }) {
		return trips
	}

	// Stale duty that is not unusual by itself is held as long as a mass of it waits for a person: otherwise it would
	// be cleared bit by bit.
	t := guard.Trip{Kind: guard.Stale, Users: changes[guard.Stale], Hold: true, Joins: true}
	if g := s.Groups.taking(t, s.Guard.rules, now); g != nil {
		t.Sent, t.Allowed, t.Usual, t.OnDuty = g.Sent, g.Allowed, g.Usual, g.OnDuty
		trips = append(trips, t)
	}

	return trips
}

// Apply puts a change into effect, once it is saved.
func (s *State) Apply(c store.GuardChange) {
	s.Guard.apply(c)

	for _, g := range c.Groups {
		s.Groups.put(g)
	}

	s.behind = true
	s.refresh()
}

// Report logs and counts what is unusual in an answer that was applied.
func (s *State) Report(a *Answer, count func(kind string, held bool)) {
	for _, t := range a.trips {
		if !t.Hold && !t.Report {
			continue
		}

		count(string(t.Kind), t.Hold)

		attrs := []any{"kind", string(t.Kind), "users", t.Users, "allowed", t.Allowed, "usual", t.Usual, "on_duty", t.OnDuty, "sent_before", t.Sent}
		if h, held := a.held[t.Kind]; held {
			s.log.Error("a mass change that is not usual is held until a person decides: look at `bobosync held list`", append(attrs, "hold", h.Group)...)
			continue
		}

		last := s.unusual[t.Kind]
		fresh := a.at.Sub(last.At) >= s.Guard.rules.Window
		if fresh {
			s.log.Warn("a mass change is not usual, and goes on", attrs...)
		}

		if fresh || t.Users > last.Users {
			s.unusual[t.Kind] = control.UnusualChange{
				Kind: string(t.Kind), At: a.at.UTC(), Users: t.Users, Allowed: t.Allowed, Usual: t.Usual, OnDuty: t.OnDuty,
			}
		}
	}

	s.refresh()
}

// Note takes over a worker as it was saved. After one or more calls, Noted must be called.
func (s *State) Note(employee string, w latest.Worker) {
	s.changed = s.Members.note(employee, w) || s.changed
}

// Noted brings the facts up to date after calls of Note.
func (s *State) Noted() {
	if s.changed {
		s.refresh()
	}
}

// Orphans returns the workers whose hold is not known.
func (s *State) Orphans() (employees []string) {
	for id, in := range s.Members.of {
		if s.Groups.byID[id] == nil {
			employees = slices.AppendSeq(employees, maps.Keys(in))
		}
	}

	return employees
}

// decidedKept is how long a decided hold is kept.
const decidedKept = 30 * 24 * time.Hour

// Old lists the holds that were decided at least decidedKept ago, and the undecided ones that have no members left.
func (s *State) Old(now time.Time) (forget, overtaken []*guard.Group) {
	for _, g := range s.Groups.byID {
		switch {
		case g.Decision != nil && now.Sub(g.Decision.At) >= decidedKept:
			forget = append(forget, g)
		case g.Is("") && s.Members.Count(g.ID)+len(g.Users) == 0:
			overtaken = append(overtaken, g)
		}
	}

	return forget, overtaken
}

// Forget drops a decided hold.
func (s *State) Forget(id string) {
	if s.Groups.remove(id) {
		s.behind = true
	}
}

// Unsynced returns the holds that the broker's copy lacks; index is whether the copy's history or its list of holds is
// out of date.
func (s *State) Unsynced() (groups []*guard.Group, index bool) {
	for id := range s.Groups.unsynced {
		if g := s.Groups.byID[id]; g != nil {
			groups = append(groups, g)
		}
	}

	return groups, s.behind
}

// Synced notes that the broker's copy is complete.
func (s *State) Synced() { clear(s.Groups.unsynced); s.behind = false }
