// Package hold keeps the guard's state, and who is held: it asks package guard about each change before it is published, and
// knows the members of each hold.
package hold

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// State is the guard's state. Callers must hold the roster's lock, but for Facts.
type State struct {
	rules guard.Rules
	log   *slog.Logger

	history guard.History
	// groups are the holds, by id, decided ones too. byFile are those with rows of a file.
	groups map[string]*guard.Group
	byFile map[string][]*guard.Group
	// members are who is in each hold, and memberOf is the hold that a worker is in.
	members  map[string]map[string]member
	memberOf map[string]string
	// silent are the feeds from which nothing has come for unusually long, while an observation of the janitor is judged.
	silent []string
	// unusual are the last unusual changes that were not held, by kind.
	unusual map[guard.Kind]control.UnusualChange
	// unsynced are the holds that the broker's copy lacks, and behind is whether it lacks anything else.
	unsynced map[string]bool
	behind   bool
	// changed: Facts are out of date.
	changed bool

	facts atomic.Pointer[control.GuardState]
}

// member is a worker's entry in a hold.
type member struct {
	// seq is the count of its additions by then.
	seq int
	// file is that of the latest event, if its row awaits an outcome.
	file string
}

// New returns a state that is to be loaded.
func New(rules guard.Rules, log *slog.Logger) *State {
	s := &State{rules: rules, log: log, unusual: map[guard.Kind]control.UnusualChange{}}
	s.Load(guard.History{}, nil)
	return s
}

// Load loads the guard's state. The members follow with Note.
func (s *State) Load(h guard.History, groups []*guard.Group) {
	if h.Hours == nil {
		h.Hours = map[string]guard.Hour{}
	}
	s.history, s.groups, s.byFile = h, map[string]*guard.Group{}, map[string][]*guard.Group{}
	s.members, s.memberOf, s.unsynced, s.behind = map[string]map[string]member{}, map[string]string{}, map[string]bool{}, true
	for _, g := range groups {
		s.put(g)
	}
	s.refresh()
}

// put adds or replaces a hold.
func (s *State) put(g *guard.Group) {
	if old := s.groups[g.ID]; old != nil {
		s.unlist(old)
	}
	s.groups[g.ID] = g
	s.unsynced[g.ID] = true
	for file := range g.Rows {
		s.byFile[file] = append(s.byFile[file], g)
	}
}

func (s *State) unlist(g *guard.Group) {
	for file := range g.Rows {
		s.byFile[file] = slices.DeleteFunc(s.byFile[file], func(x *guard.Group) bool { return x.ID == g.ID })
		if len(s.byFile[file]) == 0 {
			delete(s.byFile, file)
		}
	}
}

// Forget drops a decided hold.
func (s *State) Forget(id string) {
	if g := s.groups[id]; g != nil {
		s.unlist(g)
		delete(s.groups, id)
		s.behind = true
	}
}

// Note notes a worker as it was saved.
func (s *State) Note(employee string, w latest.Worker) {
	before, group := s.memberOf[employee], ""
	if w.Hold != nil {
		group = w.Hold.Group
	}
	if before == "" && group == "" {
		return
	}
	if before != group {
		delete(s.members[before], employee)
		delete(s.memberOf, employee)
	}
	if group != "" {
		employee = strings.Clone(employee) // it may be a part of a whole message
		if s.members[group] == nil {
			s.members[group] = map[string]member{}
		}
		p := member{seq: w.Hold.Seq}
		if w.Open {
			p.file = w.Latest.File
		}
		s.members[group][employee], s.memberOf[employee] = p, group
	}
	s.changed = true
}

// Members are the present members of a hold, by employee id, with guard.Member.Seq.
func (s *State) Members(group string) map[string]int {
	all := make(map[string]int, len(s.members[group]))
	for employee, p := range s.members[group] {
		all[employee] = p.seq
	}
	return all
}

// Empty reports whether only unmanaged users are in a hold.
func (s *State) Empty(group string) bool { return len(s.members[group]) == 0 }

// Group returns a hold by its id, or the beginning of it that no other one has; nil if there is none.
func (s *State) Group(id string) *guard.Group {
	if g := s.groups[id]; g != nil {
		return g
	}
	var found *guard.Group
	for _, g := range s.groups {
		if id != "" && strings.HasPrefix(g.ID, id) {
			if found != nil {
				return nil
			}
			found = g
		}
	}
	return found
}

// Groups lists all holds, the newest first.
func (s *State) Groups() []*guard.Group {
	return slices.SortedFunc(maps.Values(s.groups), func(x, y *guard.Group) int {
		return cmp.Or(y.Since.Compare(x.Since), cmp.Compare(y.ID, x.ID))
	})
}

// Of returns the hold that a row's event was put into last; nil if it is in none.
func (s *State) Of(file string, row int) (found *guard.Group) {
	for _, g := range s.byFile[file] {
		if g.Has(file, row) && (found == nil || g.Since.After(found.Since)) {
			found = g
		}
	}
	return found
}

// OfUser returns the hold that an unmanaged user was put into last, for stale duty of that moment; nil if there is none.
func (s *State) OfUser(user string, at int64) (found *guard.Group) {
	for _, g := range s.groups {
		if since, in := g.Users[topology.NormalUsername(user)]; in && since == at && (found == nil || g.Since.After(found.Since)) {
			found = g
		}
	}
	return found
}

// Change is a change of a user's status that is not published yet.
type Change struct {
	Kind guard.Kind
	// Employee is empty for an unmanaged user.
	Employee, User string
	// File and Row are those of the latest event, and At is the moment of the duty that is cleared, in Unix seconds.
	File string
	Row  int
	At   int64
}

// SetSilent notes from which feeds nothing has come for unusually long. Duty that they booked is held meanwhile, and not cleared for its age.
func (s *State) SetSilent(feeds []string) { s.silent = feeds }

// Clearing is the kind of change if duty that a feed has booked is cleared for its age. A feed that is not known, as that of
// CSV_DIRECTORY is not named, counts as silent if any is.
func (s *State) Clearing(feed string, now time.Time) guard.Kind {
	silent := len(s.silent) > 0 && feed == "" || slices.Contains(s.silent, feed)
	if silent && s.rules.Holds(&s.history, now) {
		return guard.Silent
	}
	return guard.Stale
}

// Answer is what becomes of some changes.
type Answer struct {
	// Save is to be saved with what is held, and before anything is published.
	Save store.GuardChange
	// held are the entries in holds, by kind.
	held  map[guard.Kind]latest.Hold
	trips []guard.Trip
	at    time.Time
}

// Held returns the entry in a hold for a change of that kind; false if it is let through.
func (a *Answer) Held(k guard.Kind) (latest.Hold, bool) {
	h, held := a.held[k]
	return h, held
}

// Ask decides about changes, which takes effect with Apply. onDuty is how many users AtHoc was sent to be on duty.
func (s *State) Ask(now time.Time, onDuty int, changes []Change) *Answer {
	counts := guard.Counts{}
	for _, c := range changes {
		counts[c.Kind]++
	}
	a := &Answer{held: map[guard.Kind]latest.Hold{}, trips: s.Judge(now, onDuty, counts), at: now}
	groups, ids := map[guard.Kind]*guard.Group{}, map[guard.Kind]string{}
	for _, t := range a.trips {
		if t.Hold {
			g := s.groupFor(t, now)
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
	s.count(a, now, onDuty, counts, ids)
	return a
}

// Judge decides about changes, and notes nothing. It returns the kinds that are unusual.
func (s *State) Judge(now time.Time, onDuty int, changes guard.Counts) []guard.Trip {
	trips := s.rules.Judge(&s.history, now, onDuty, changes)
	if t, waits := s.stillStale(changes, trips, now); waits {
		trips = append(trips, t)
	}
	return trips
}

// stillStale reports whether stale duty is to be held though it is not unusual by itself: as long as a mass of it waits for a person, it
// would otherwise be cleared bit by bit.
func (s *State) stillStale(counts guard.Counts, trips []guard.Trip, now time.Time) (guard.Trip, bool) {
	tripped := slices.ContainsFunc(trips, func(t guard.Trip) bool { return t.Kind == guard.Stale })
	if counts[guard.Stale] == 0 || tripped {
		return guard.Trip{}, false
	}
	for _, g := range s.Groups() {
		t := guard.Trip{
			Kind: guard.Stale, Users: counts[guard.Stale], Sent: g.Sent, Allowed: g.Allowed, Usual: g.Usual, OnDuty: g.OnDuty, Hold: true, Joins: true,
		}
		if g.Takes(t, now, s.rules.Window) {
			return t, true
		}
	}
	return guard.Trip{}, false
}

// groupFor returns the hold that an unusual change goes into, as a copy.
func (s *State) groupFor(t guard.Trip, now time.Time) *guard.Group {
	for _, g := range s.Groups() { // the newest that fits
		if g.Takes(t, now, s.rules.Window) {
			return g.Clone()
		}
	}
	g := &guard.Group{
		ID: s.free(string(t.Kind) + "-" + s.rules.Wall(now)), Kind: t.Kind, Since: now.UTC(), Sent: t.Sent, Allowed: t.Allowed, Usual: t.Usual, OnDuty: t.OnDuty,
	}
	return g.Clone()
}

// free returns a name for a hold that no other one has.
func (s *State) free(id string) string {
	for s.groups[id] != nil {
		id += "-more"
	}
	return id
}

// Split returns a hold for the members who stay when the others are decided.
func (s *State) Split(g *guard.Group) *guard.Group {
	rest := g.Clone()
	rest.ID, rest.Seq = s.free(g.ID+"-rest"), 1
	clear(rest.Rows)
	clear(rest.Users)
	return rest
}

func (s *State) count(a *Answer, now time.Time, onDuty int, counts guard.Counts, ids map[guard.Kind]string) {
	recent, key, hour := s.rules.Count(&s.history, now, onDuty, counts, ids)
	a.Save.Since, a.Save.Recent, a.Save.Before = s.history.Since, recent, s.rules.Forgotten(now)
	if a.Save.Since.IsZero() {
		a.Save.Since = now.UTC()
	}
	a.Save.Hours = map[string]guard.Hour{key: hour}
}

// Apply puts it into effect, once it is saved.
func (s *State) Apply(c store.GuardChange) {
	s.history.Since, s.history.Recent = c.Since, c.Recent
	maps.Copy(s.history.Hours, c.Hours)
	maps.DeleteFunc(s.history.Hours, func(key string, _ guard.Hour) bool { return key < c.Before })
	for _, g := range c.Groups {
		s.put(g)
	}
	s.behind = true
	s.refresh()
}

// Report logs what is unusual in an answer that was applied, and counts it.
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
		fresh := a.at.Sub(last.At) >= s.rules.Window
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

// Decide returns the state after a person's decision about a hold, which takes effect with Apply.
func (s *State) Decide(g *guard.Group, d guard.Decision) store.GuardChange {
	g = g.Clone()
	g.Decision = &d
	recent, key, hour := s.rules.Decide(&s.history, g, d.Users, d.Outcome == guard.Approved)
	c := store.GuardChange{Since: s.history.Since, Recent: recent, Before: s.rules.Forgotten(d.At), Groups: []*guard.Group{g}}
	if hour != (guard.Hour{}) && key >= c.Before {
		c.Hours = map[string]guard.Hour{key: hour}
	}
	return c
}

// Replace returns the change that replaces holds.
func (s *State) Replace(now time.Time, groups ...*guard.Group) store.GuardChange {
	return store.GuardChange{Since: s.history.Since, Recent: s.history.Recent, Before: s.rules.Forgotten(now), Groups: groups}
}

// Usual is how few and how many are usually on duty at a moment.
func (s *State) Usual(now time.Time) (least, most int) { return s.rules.UsualOnDuty(&s.history, now) }

// Awaits reports whether one of these unmanaged users is in a hold that awaits a decision.
func (s *State) Awaits(users []string) bool {
	for _, g := range s.groups {
		for _, user := range users {
			if _, in := g.Users[topology.NormalUsername(user)]; in && g.Decision == nil {
				return true
			}
		}
	}
	return false
}

// Erase removes unmanaged users from the holds.
func (s *State) Erase(users []string) {
	for _, g := range s.groups {
		before := len(g.Users)
		for _, user := range users {
			delete(g.Users, topology.NormalUsername(user))
		}
		if len(g.Users) < before {
			s.unsynced[g.ID] = true
		}
	}
}
