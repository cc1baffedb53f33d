package hold

// This file keeps the holds, and finds the hold that a row, an unmanaged user or an unusual change belongs to.

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/shared/erase"
	"bobosync/shared/topology"
)

// Groups are all holds, including decided ones. Callers must hold the roster's lock.
type Groups struct {
	// byID has all holds by id, and byFile those with rows of a file.
	byID   map[string]*guard.Group
	byFile map[string][]*guard.Group
	// unsynced has the ids of the holds that the broker's copy lacks.
	unsynced map[string]bool
}

func newGroups(all []*guard.Group) *Groups {
	l := &Groups{byID: map[string]*guard.Group{}, byFile: map[string][]*guard.Group{}, unsynced: map[string]bool{}}
	for _, g := range all {
		l.put(g)
	}

	return l
}

// put adds or replaces a hold.
func (l *Groups) put(g *guard.Group) {
	l.remove(g.ID)

	l.byID[g.ID] = g
	l.unsynced[g.ID] = true
	for file := range g.Rows {
		l.byFile[file] = append(l.byFile[file], g)
	}
}

// remove removes a hold, and reports whether it was there.
func (l *Groups) remove(id string) bool {
	g := l.byID[id]
	if g == nil {
		return false
	}

	for file := range g.Rows {
		l.byFile[file] = slices.DeleteFunc(l.byFile[file], func(x *guard.Group) bool { return x.ID == id })
		if len(l.byFile[file]) == 0 {
			delete(l.byFile, file)
		}
	}

	delete(l.byID, id)

	return true
}

// Find returns the hold with the given id, or else the only one whose id begins with it; nil if there is none.
func (l *Groups) Find(id string) *guard.Group {
	if g := l.byID[id]; g != nil {
		return g
	}

	var found *guard.Group
	for _, g := range l.byID {
		if id != "" && strings.HasPrefix(g.ID, id) {
			if found != nil {
				return nil
			}

			found = g
		}
	}

	return found
}

// All lists the holds, the newest first.
func (l *Groups) All() []*guard.Group {
	return slices.SortedFunc(maps.Values(l.byID), func(x, y *guard.Group) int {
		return cmp.Or(y.Since.Compare(x.Since), cmp.Compare(y.ID, x.ID))
	})
}

// OfRow returns the newest hold that a row's event was put into; nil if it is in none.
func (l *Groups) OfRow(file string, row int) (found *guard.Group) {
	for _, g := range l.byFile[file] {
		if g.Has(file, row) && (found == nil || g.Since.After(found.Since)) {
			found = g
		}
	}

	return found
}

// OfUser returns the newest hold that an unmanaged user was put into for stale duty since that moment (Unix seconds);
// nil if there is none.
func (l *Groups) OfUser(user string, at int64) (found *guard.Group) {
	for _, g := range l.byID {
		if since, in := g.Users[topology.NormalUsername(user)]; in && since == at && (found == nil || g.Since.After(found.Since)) {
			found = g
		}
	}

	return found
}

// Awaits reports whether any of these unmanaged users is in a hold that awaits a decision.
func (l *Groups) Awaits(users []string) bool {
	for _, g := range l.byID {
		for _, user := range users {
			if _, in := g.Users[topology.NormalUsername(user)]; in && g.Decision == nil {
				return true
			}
		}
	}

	return false
}

// Erase removes a person from the holds.
func (l *Groups) Erase(n erase.Names) {
	for _, g := range l.All() {
		if without := g.Without(n); without != g {
			l.put(without)
		}
	}
}

// taking returns the newest hold that an unusual change belongs to; nil if the change begins a new one.
func (l *Groups) taking(t guard.Trip, rules guard.Rules, now time.Time) *guard.Group {
	for _, g := range l.All() {
		if g.Takes(t, now, rules.Window) {
			return g
		}
	}

	return nil
}

// into returns a copy of the hold that an unusual change goes into, which may be a new one.
func (l *Groups) into(t guard.Trip, rules guard.Rules, now time.Time) *guard.Group {
	g := l.taking(t, rules, now)
	if g == nil {
		g = &guard.Group{
			ID: l.free(string(t.Kind) + "-" + rules.Wall(now)), Kind: t.Kind, Since: now.UTC(),
			Sent: t.Sent, Allowed: t.Allowed, Usual: t.Usual, OnDuty: t.OnDuty,
		}
	}

	return g.Clone()
}

// Split returns a new hold for the members who stay when the others are decided about. It has all rows of the hold, and
// no users yet.
func (l *Groups) Split(g *guard.Group) *guard.Group {
	rest := g.Clone()
	rest.ID, rest.Seq = l.free(g.ID+"-rest"), 1
	clear(rest.Users)
	return rest
}

// free returns an id that no other hold has: the given one, or a longer one.
func (l *Groups) free(id string) string {
	for l.byID[id] != nil {
		id += "-more"
	}
	return id
}
