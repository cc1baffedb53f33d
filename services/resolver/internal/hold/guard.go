package hold

// This file applies the guard's rules to what it has counted, and works out what it counts next.

import (
	"maps"
	"slices"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/store"
)

// Guard holds the guard's rules and what it has counted so far. Callers must hold the roster's lock.
type Guard struct {
	rules   guard.Rules
	history guard.History
	// silent has the feeds from which nothing has come for unusually long. It is set while an observation of the
	// janitor is judged.
	silent []string
}

// History returns the history of changes.
func (g *Guard) History() guard.History { return g.history }

// SetSilent sets the feeds from which nothing has come for unusually long. Until it is called again, the clearing of
// duty that they booked is held.
func (g *Guard) SetSilent(feeds []string) { g.silent = feeds }

// Clearing returns the kind of change that clearing duty for its age makes, if the given feed booked that duty. An
// empty feed, which is unknown or that of CSV_DIRECTORY, counts as silent if any feed is.
func (g *Guard) Clearing(feed string, now time.Time) guard.Kind {
	silent := len(g.silent) > 0 && feed == "" || slices.Contains(g.silent, feed)
	if silent && g.rules.Holds(&g.history, now) {
		return guard.Silent
	}

	return guard.Stale
}

// Usual returns the fewest and the most users who are usually on duty at a moment.
func (g *Guard) Usual(now time.Time) (least, most int) { return g.rules.UsualOnDuty(&g.history, now) }

// count returns the state after changes were decided. Some of them may go into holds; ids names these holds by kind.
// The state takes effect with State.Apply.
func (g *Guard) count(now time.Time, onDuty int, counts guard.Counts, ids map[guard.Kind]string, holds []*guard.Group) store.GuardChange {
	c := g.Replace(now, holds...)
	recent, key, hour := g.rules.Count(&g.history, now, onDuty, counts, ids)
	c.Recent, c.Hours = recent, map[string]guard.Hour{key: hour}
	if c.Since.IsZero() {
		c.Since = now.UTC()
	}

	return c
}

// Decide returns the state after a decision about a hold. It takes effect with State.Apply.
func (g *Guard) Decide(about *guard.Group, d guard.Decision) store.GuardChange {
	decided := about.Clone()
	decided.Decision = &d

	c := g.Replace(d.At, decided)
	recent, key, hour := g.rules.Decide(&g.history, decided, d.Users, d.Outcome == guard.Approved)
	c.Recent = recent
	if hour != (guard.Hour{}) && key >= c.Before {
		c.Hours = map[string]guard.Hour{key: hour}
	}

	return c
}

// Replace returns the change that replaces holds. It takes effect with State.Apply.
func (g *Guard) Replace(now time.Time, holds ...*guard.Group) store.GuardChange {
	return store.GuardChange{Since: g.history.Since, Recent: g.history.Recent, Before: g.rules.Forgotten(now), Groups: holds}
}

// apply takes over what a change has counted.
func (g *Guard) apply(c store.GuardChange) {
	g.history.Since, g.history.Recent = c.Since, c.Recent
	maps.Copy(g.history.Hours, c.Hours)
	maps.DeleteFunc(g.history.Hours, func(key string, _ guard.Hour) bool { return key < c.Before })
}
