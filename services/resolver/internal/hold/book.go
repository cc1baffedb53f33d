// Package hold keeps what the guard remembers, and who is held: it asks package guard about each change before it is published, and
// knows for each hold who is in it.
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

// Book is the guard's memory. It is for who holds the roster's lock, but for Facts.
type Book struct {
	rules guard.Rules
	log   *slog.Logger

	history guard.History
	// groups are the holds, by id, those about which was decided too. byFile are those with rows of a file.
	groups map[string]*guard.Group
	byFile map[string][]*guard.Group
	// members are who is in each hold, and memberOf is the hold that a worker is in.
	members  map[string]map[string]place
	memberOf map[string]string
	// silent are the feeds from which nothing has come for unusually long, while it is decided what the janitor saw.
	silent []string
	// told are the last unusual changes that were not held, by kind.
	told map[guard.Kind]control.GuardTold
	// unsynced are the holds that the broker's copy lacks, and behind is whether it lacks anything else.
	unsynced map[string]bool
	behind   bool
	// changed: Facts lack something that was noted.
	changed bool

	facts atomic.Pointer[control.GuardState]
}

// place is somebody's in a hold.
type place struct {
	// seq is the count of its additions by then.
	seq int
	// file is that of the latest event, if its row awaits an outcome.
	file string
}

// New returns a book that is to be loaded.
func New(rules guard.Rules, log *slog.Logger) *Book {
	b := &Book{rules: rules, log: log, told: map[guard.Kind]control.GuardTold{}}
	b.Load(guard.History{}, nil)
	return b
}

// Load takes over what is remembered. Who is held follows with Note.
func (b *Book) Load(h guard.History, groups []*guard.Group) {
	if h.Hours == nil {
		h.Hours = map[string]guard.Hour{}
	}
	b.history, b.groups, b.byFile = h, map[string]*guard.Group{}, map[string][]*guard.Group{}
	b.members, b.memberOf, b.unsynced, b.behind = map[string]map[string]place{}, map[string]string{}, map[string]bool{}, true
	for _, g := range groups {
		b.put(g)
	}
	b.refresh()
}

// put puts a hold in the place of what was known of it.
func (b *Book) put(g *guard.Group) {
	if old := b.groups[g.ID]; old != nil {
		b.unlist(old)
	}
	b.groups[g.ID] = g
	b.unsynced[g.ID] = true
	for file := range g.Rows {
		b.byFile[file] = append(b.byFile[file], g)
	}
}

func (b *Book) unlist(g *guard.Group) {
	for file := range g.Rows {
		b.byFile[file] = slices.DeleteFunc(b.byFile[file], func(x *guard.Group) bool { return x.ID == g.ID })
		if len(b.byFile[file]) == 0 {
			delete(b.byFile, file)
		}
	}
}

// Forget forgets a hold about which was decided.
func (b *Book) Forget(id string) {
	if g := b.groups[id]; g != nil {
		b.unlist(g)
		delete(b.groups, id)
		b.behind = true
	}
}

// Note takes a worker in as it was saved.
func (b *Book) Note(employee string, w latest.Worker) {
	before, group := b.memberOf[employee], ""
	if w.Hold != nil {
		group = w.Hold.Group
	}
	if before == "" && group == "" {
		return
	}
	if before != group {
		delete(b.members[before], employee)
		delete(b.memberOf, employee)
	}
	if group != "" {
		employee = strings.Clone(employee) // it may be a part of a whole message
		if b.members[group] == nil {
			b.members[group] = map[string]place{}
		}
		p := place{seq: w.Hold.Seq}
		if w.Open {
			p.file = w.Latest.File
		}
		b.members[group][employee], b.memberOf[employee] = p, group
	}
	b.changed = true
}

// Members are who is in a hold now, by employee id, with guard.Member.Seq.
func (b *Book) Members(group string) map[string]int {
	all := make(map[string]int, len(b.members[group]))
	for employee, p := range b.members[group] {
		all[employee] = p.seq
	}
	return all
}

// Empty reports whether nobody is in a hold but users without a known worker.
func (b *Book) Empty(group string) bool { return len(b.members[group]) == 0 }

// Group returns a hold by its id, or the beginning of it that no other one has; nil if there is none.
func (b *Book) Group(id string) *guard.Group {
	if g := b.groups[id]; g != nil {
		return g
	}
	var found *guard.Group
	for _, g := range b.groups {
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
func (b *Book) Groups() []*guard.Group {
	return slices.SortedFunc(maps.Values(b.groups), func(x, y *guard.Group) int {
		return cmp.Or(y.Since.Compare(x.Since), cmp.Compare(y.ID, x.ID))
	})
}

// Of returns the hold that a row's event was put into last; nil if it is in none.
func (b *Book) Of(file string, row int) (found *guard.Group) {
	for _, g := range b.byFile[file] {
		if g.Has(file, row) && (found == nil || g.Since.After(found.Since)) {
			found = g
		}
	}
	return found
}

// OfUser returns the hold that a user without a known worker was put into last, for stale duty of that moment; nil if there is none.
func (b *Book) OfUser(user string, at int64) (found *guard.Group) {
	for _, g := range b.groups {
		if since, in := g.Users[topology.NormalUsername(user)]; in && since == at && (found == nil || g.Since.After(found.Since)) {
			found = g
		}
	}
	return found
}

// Change is a change of a user's status that is not published yet.
type Change struct {
	Kind guard.Kind
	// Employee is empty for a user without a known worker.
	Employee, User string
	// File and Row are those of the latest event, and At is the moment of the duty that is cleared, in Unix seconds.
	File string
	Row  int
	At   int64
}

// SetSilent notes from which feeds nothing has come for unusually long. Duty that they booked is held meanwhile, and not cleared for its age.
func (b *Book) SetSilent(feeds []string) { b.silent = feeds }

// Clearing is what kind of change it is that duty is cleared for its age which a feed has booked. A feed that is not known, as that of
// CSV_DIRECTORY is not named, counts as silent if any is.
func (b *Book) Clearing(feed string, now time.Time) guard.Kind {
	silent := len(b.silent) > 0 && feed == "" || slices.Contains(b.silent, feed)
	if silent && b.rules.Holds(&b.history, now) {
		return guard.Silent
	}
	return guard.Stale
}

// Answer is what becomes of some changes.
type Answer struct {
	// Save is to be saved with what is held, and before anything is published.
	Save store.GuardChange
	// held are the places in holds, by kind.
	held  map[guard.Kind]latest.Hold
	trips []guard.Trip
	at    time.Time
}

// Held returns the place in a hold of a change of that kind; false if it is let go.
func (a *Answer) Held(k guard.Kind) (latest.Hold, bool) {
	h, held := a.held[k]
	return h, held
}

// Ask decides about changes, which takes effect with Apply. onDuty is how many users AtHoc was told to be on duty.
func (b *Book) Ask(now time.Time, onDuty int, changes []Change) *Answer {
	counts := guard.Counts{}
	for _, c := range changes {
		counts[c.Kind]++
	}
	a := &Answer{held: map[guard.Kind]latest.Hold{}, trips: b.Judge(now, onDuty, counts), at: now}
	groups, ids := map[guard.Kind]*guard.Group{}, map[guard.Kind]string{}
	for _, t := range a.trips {
		if t.Hold {
			g := b.groupFor(t, now)
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
	b.count(a, now, onDuty, counts, ids)
	return a
}

// Judge decides about changes, and notes nothing. It returns the kinds that are unusual.
func (b *Book) Judge(now time.Time, onDuty int, changes guard.Counts) []guard.Trip {
	trips := b.rules.Judge(&b.history, now, onDuty, changes)
	if t, waits := b.stillStale(changes, trips, now); waits {
		trips = append(trips, t)
	}
	return trips
}

// stillStale reports whether stale duty is to be held though it is not unusual by itself: as long as a mass of it waits for a person, it
// would otherwise be cleared bit by bit.
func (b *Book) stillStale(counts guard.Counts, trips []guard.Trip, now time.Time) (guard.Trip, bool) {
	tripped := slices.ContainsFunc(trips, func(t guard.Trip) bool { return t.Kind == guard.Stale })
	if counts[guard.Stale] == 0 || tripped {
		return guard.Trip{}, false
	}
	for _, g := range b.Groups() {
		t := guard.Trip{
			Kind: guard.Stale, Users: counts[guard.Stale], Sent: g.Sent, Allowed: g.Allowed, Usual: g.Usual, OnDuty: g.OnDuty, Hold: true, Joins: true,
		}
		if g.Takes(t, now, b.rules.Window) {
			return t, true
		}
	}
	return guard.Trip{}, false
}

// groupFor returns the hold that an unusual change goes into, as a copy.
func (b *Book) groupFor(t guard.Trip, now time.Time) *guard.Group {
	for _, g := range b.Groups() { // the newest that fits
		if g.Takes(t, now, b.rules.Window) {
			return g.Clone()
		}
	}
	g := &guard.Group{
		ID: b.free(string(t.Kind) + "-" + b.rules.Wall(now)), Kind: t.Kind, Since: now.UTC(), Sent: t.Sent, Allowed: t.Allowed, Usual: t.Usual, OnDuty: t.OnDuty,
	}
	return g.Clone()
}

// free returns a name for a hold that no other one has.
func (b *Book) free(id string) string {
	for b.groups[id] != nil {
		id += "-more"
	}
	return id
}

// Split returns a hold for those who stay when it is decided about the others.
func (b *Book) Split(g *guard.Group) *guard.Group {
	rest := g.Clone()
	rest.ID, rest.Seq = b.free(g.ID+"-rest"), 1
	clear(rest.Rows)
	clear(rest.Users)
	return rest
}

func (b *Book) count(a *Answer, now time.Time, onDuty int, counts guard.Counts, ids map[guard.Kind]string) {
	recent, key, hour := b.rules.Count(&b.history, now, onDuty, counts, ids)
	a.Save.Since, a.Save.Recent, a.Save.Before = b.history.Since, recent, b.rules.Forgotten(now)
	if a.Save.Since.IsZero() {
		a.Save.Since = now.UTC()
	}
	a.Save.Hours = map[string]guard.Hour{key: hour}
}

// Apply makes it so, once it is saved.
func (b *Book) Apply(c store.GuardChange) {
	b.history.Since, b.history.Recent = c.Since, c.Recent
	maps.Copy(b.history.Hours, c.Hours)
	maps.DeleteFunc(b.history.Hours, func(key string, _ guard.Hour) bool { return key < c.Before })
	for _, g := range c.Groups {
		b.put(g)
	}
	b.behind = true
	b.refresh()
}

// Tell says what is unusual of an answer that was applied, and counts it.
func (b *Book) Tell(a *Answer, count func(kind string, held bool)) {
	for _, t := range a.trips {
		if !t.Hold && !t.Tell {
			continue
		}
		count(string(t.Kind), t.Hold)
		attrs := []any{"kind", string(t.Kind), "users", t.Users, "allowed", t.Allowed, "usual", t.Usual, "on_duty", t.OnDuty, "sent_before", t.Sent}
		if h, held := a.held[t.Kind]; held {
			b.log.Error("a mass change that is not usual is held until a person decides: look at `bobosync held list`", append(attrs, "hold", h.Group)...)
			continue
		}
		last := b.told[t.Kind]
		fresh := a.at.Sub(last.At) >= b.rules.Window
		if fresh {
			b.log.Warn("a mass change is not usual, and goes on", attrs...)
		}
		if fresh || t.Users > last.Users {
			b.told[t.Kind] = control.GuardTold{
				Kind: string(t.Kind), At: a.at.UTC(), Users: t.Users, Allowed: t.Allowed, Usual: t.Usual, OnDuty: t.OnDuty,
			}
		}
	}
	b.refresh()
}

// Decide returns what is remembered once a person has decided about a hold, which takes effect with Apply.
func (b *Book) Decide(g *guard.Group, d guard.Decision) store.GuardChange {
	g = g.Clone()
	g.Decision = &d
	recent, key, hour := b.rules.Decide(&b.history, g, d.Users, d.Verdict == guard.Approved)
	c := store.GuardChange{Since: b.history.Since, Recent: recent, Before: b.rules.Forgotten(d.At), Groups: []*guard.Group{g}}
	if hour != (guard.Hour{}) && key >= c.Before {
		c.Hours = map[string]guard.Hour{key: hour}
	}
	return c
}

// Replace returns the change that puts holds in the place of what is known of them.
func (b *Book) Replace(now time.Time, groups ...*guard.Group) store.GuardChange {
	return store.GuardChange{Since: b.history.Since, Recent: b.history.Recent, Before: b.rules.Forgotten(now), Groups: groups}
}

// Usual is how few and how many are usually on duty at a moment.
func (b *Book) Usual(now time.Time) (least, most int) { return b.rules.UsualOnDuty(&b.history, now) }

// Awaits reports whether one of these users without a known worker is in a hold that awaits a decision.
func (b *Book) Awaits(users []string) bool {
	for _, g := range b.groups {
		for _, user := range users {
			if _, in := g.Users[topology.NormalUsername(user)]; in && g.Decision == nil {
				return true
			}
		}
	}
	return false
}

// Erase takes users without a known worker out of the holds.
func (b *Book) Erase(users []string) {
	for _, g := range b.groups {
		before := len(g.Users)
		for _, user := range users {
			delete(g.Users, topology.NormalUsername(user))
		}
		if len(g.Users) < before {
			b.unsynced[g.ID] = true
		}
	}
}
