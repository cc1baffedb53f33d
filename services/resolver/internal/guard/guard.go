// Package guard decides whether a mass change of duty statuses is unusual and waits for a person. All of it is pure: no clock, no
// store, no broker.
//
// What is counted are decisions, each once: how many users go off duty because they booked off, how many because their duty is stale,
// and how many go on duty. A change is unusual if more change within a window than is allowed; and allowed is the most of three: fewer
// than MinUsers, OffPercent of those on duty, and Factor times the most that changed within a window in the same hour of the week, an
// hour more or less, over the last six weeks. Hours are those of BOBO's wall clock, so that neither change of summer time moves a shift.
package guard

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kind is what kind of change a user's status makes.
type Kind string

// The kinds of changes.
const (
	// Off: on duty in AtHoc, and booked off.
	Off Kind = "off"
	// Stale: on duty in AtHoc, and cleared for its age.
	Stale Kind = "stale"
	// Silent: like Stale, but it was booked by a feed that is silent, so that it is not known whether the worker has booked off.
	Silent Kind = "silent"
	// On: off duty in AtHoc, and booked on.
	On Kind = "on"
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{Off, Stale, Silent, On} }

// Clears reports whether the change is that stale duty is cleared.
func (k Kind) Clears() bool { return k == Stale || k == Silent }

// Mode is what is done about an unusual change.
type Mode string

// The modes.
const (
	// Auto observes until there is enough history, then holds.
	Auto    Mode = "auto"
	Observe Mode = "observe"
	Hold    Mode = "hold"
	Never   Mode = "off"
)

const (
	// autoAfter is how much history Auto needs before it holds, and reportAfter before it reports what it would have held: until each hour
	// of the week was seen once, everything is unusual.
	autoAfter   = 14 * 24 * time.Hour
	reportAfter = 7 * 24 * time.Hour
	// weeks is how far back the usual is taken from.
	weeks = 6
	// maxWindow is as long as the hours that the usual is taken from.
	maxWindow = time.Hour
)

// Rules are the guard's settings.
type Rules struct {
	Mode Mode
	// HoldOn: what goes on duty is held as well, and not only reported.
	HoldOn bool
	Window time.Duration
	// MinUsers, OffPercent (of those on duty) and Factor (times the usual) all have to be reached.
	MinUsers   int
	OffPercent int
	Factor     float64
	// Zone is that of BOBO's wall clock.
	Zone *time.Location
}

// Validate reports settings that contradict each other, by the names of their variables.
func (r Rules) Validate() error {
	var errs []error
	if !slices.Contains([]Mode{Auto, Observe, Hold, Never}, r.Mode) {
		errs = append(errs, errors.New("GUARD: must be auto, observe, hold or off"))
	}

	if r.HoldOn && (r.Mode == Observe || r.Mode == Never) {
		errs = append(errs, fmt.Errorf("GUARD_ON: hold contradicts GUARD=%s, with which nothing is held", r.Mode))
	}

	if r.Window < time.Minute || r.Window > maxWindow {
		errs = append(errs, errors.New("GUARD_WINDOW: must be from 1m to 1h"))
	}

	if r.MinUsers < 1 {
		errs = append(errs, errors.New("GUARD_MIN_USERS: must be at least 1"))
	}

	if r.OffPercent < 0 || r.OffPercent > 99 {
		errs = append(errs, errors.New("GUARD_OFF_PERCENT: must be from 0 to 99; nothing is more than 100 percent (GUARD=off switches the guard off)"))
	}

	if !(r.Factor >= 1 && r.Factor <= 1000) {
		errs = append(errs, errors.New("GUARD_FACTOR: must be at least 1, or the usual change would be held, and 1000 at most"))
	}

	return errors.Join(errs...)
}

// Counts are numbers of users by kind.
type Counts map[Kind]int

// Recent is what was decided recently.
type Recent struct {
	// At is when, in Unix seconds.
	At   int64 `json:"at"`
	Kind Kind  `json:"kind"`
	N    int   `json:"n"`
	// Group is the hold that they are in; empty if they were let through.
	Group string `json:"group,omitempty"`
}

// Hour is what is kept of an hour of the wall clock.
type Hour struct {
	// Off, Stale and On are the most that were let through within a window that ended in this hour; Off counts the stale ones too.
	Off   int `json:"off,omitempty"`
	Stale int `json:"stale,omitempty"`
	On    int `json:"on,omitempty"`
	// OnDuty is how many were on duty at the last change.
	OnDuty int `json:"on_duty"`
}

func (h Hour) most(k Kind) int { return map[Kind]int{Off: h.Off, Stale: h.Stale, On: h.On}[k] }

// History is the guard's state. The zero value is a guard that begins.
type History struct {
	// Since is when it began to count.
	Since time.Time `json:"since,omitzero"`
	// Recent is what was decided within the window.
	Recent []Recent `json:"recent,omitempty"`
	// Hours are by HourKey.
	Hours map[string]Hour `json:"hours,omitempty"`
}

const hourLayout = "2006-01-02T15"

// wall is the wall clock's time, as if it never were put forward or back.
func (r Rules) wall(t time.Time) time.Time {
	l := t.In(r.Zone)
	return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), 0, 0, 0, time.UTC)
}

// Wall writes a moment of the wall clock, for names.
func (r Rules) Wall(t time.Time) string { return t.In(r.Zone).Format("20060102-150405") }

// HourKey names the hour of the wall clock that a moment is in.
func (r Rules) HourKey(t time.Time) string { return r.wall(t).Format(hourLayout) }

// Forgotten is the HourKey before which nothing is needed any more.
func (r Rules) Forgotten(now time.Time) string {
	return r.wall(now).AddDate(0, 0, -7*weeks-1).Format(hourLayout)
}

// Holds reports whether unusual changes are held now.
func (r Rules) Holds(h *History, now time.Time) bool {
	return r.Mode == Hold || r.Mode == Auto && !h.Since.IsZero() && now.Sub(h.Since) >= autoAfter
}

// HoldsFrom is when Auto begins to hold; zero in other modes and as long as nothing was counted.
func (r Rules) HoldsFrom(h *History) time.Time {
	if r.Mode != Auto || h.Since.IsZero() {
		return time.Time{}
	}
	return h.Since.Add(autoAfter)
}

// reports reports whether to report what would have been held.
func (r Rules) reports(h *History, now time.Time) bool {
	return r.Mode == Observe || r.Mode == Auto && !h.Since.IsZero() && now.Sub(h.Since) >= reportAfter
}

// sameHours visits the hours of the last six weeks that a moment is compared with.
func (r Rules) sameHours(h *History, now time.Time, visit func(Hour)) {
	wall := r.wall(now)
	for week := 1; week <= weeks; week++ {
		for _, beside := range []time.Duration{-time.Hour, 0, time.Hour} {
			if hour, known := h.Hours[wall.AddDate(0, 0, -7*week).Add(beside).Format(hourLayout)]; known {
				visit(hour)
			}
		}
	}
}

// Usual is the most of a kind that was let through within a window at this hour of the week, an hour more or less.
func (r Rules) Usual(h *History, now time.Time, k Kind) (most int) {
	r.sameHours(h, now, func(hour Hour) { most = max(most, hour.most(k)) })
	return most
}

// UsualOnDuty is how few and how many were on duty at this hour of the week; 0 and 0 if that is not known.
func (r Rules) UsualOnDuty(h *History, now time.Time) (least, most int) {
	r.sameHours(h, now, func(hour Hour) {
		if least == 0 || hour.OnDuty < least {
			least = hour.OnDuty
		}

		most = max(most, hour.OnDuty)
	})

	return least, most
}

// inWindow leaves out what is no longer within the window, or not yet, as when a clock was put back.
func (r Rules) inWindow(recent []Recent, now time.Time) []Recent {
	return slices.DeleteFunc(slices.Clone(recent), func(x Recent) bool { return now.Sub(time.Unix(x.At, 0)).Abs() >= r.Window })
}

// Trip is an unusual change.
type Trip struct {
	Kind Kind
	// Users are how many change within the window with those who are decided now, of whom Sent were let through before.
	Users, Sent int
	// Allowed is how many may, Usual the most that usually do, and OnDuty how many were on duty when the window began.
	Allowed, Usual, OnDuty int
	// Hold: they are held. Otherwise it is only reported, if Report is set.
	Hold, Report bool
	// Joins: they are not too many by themselves, and held since others of their kind are.
	Joins bool
}

// Judge decides about changes that are not published yet. onDuty is how many AtHoc was sent to be on duty. It returns the kinds that
// are unusual.
func (r Rules) Judge(h *History, now time.Time, onDuty int, changes Counts) (trips []Trip) {
	if r.Mode == Never {
		return nil
	}

	sent, all := Counts{}, Counts{}
	for _, x := range r.inWindow(h.Recent, now) {
		all[x.Kind] += x.N
		if x.Group == "" {
			sent[x.Kind] += x.N
		}
	}

	before := onDuty + sent[Off] + sent[Stale]
	holds, reports := r.Holds(h, now), r.reports(h, now)
	for _, k := range Kinds() {
		if changes[k] == 0 {
			continue
		}

		if k == Silent { // whatever the number
			trips = append(trips, Trip{Kind: k, Users: changes[k], OnDuty: before, Hold: holds, Report: reports || holds})
			continue
		}

		t := Trip{Kind: k, Users: all[k] + changes[k], Sent: sent[k], Usual: r.Usual(h, now, k), OnDuty: before}
		if k == Off { // those who were cleared are gone as well; those whose clearing is held are not
			t.Users, t.Sent = t.Users+sent[Stale], t.Sent+sent[Stale]
		}

		t.Allowed = max(r.MinUsers-1, before*r.OffPercent/100, int(r.Factor*float64(t.Usual)))
		t.Hold, t.Report = holds && (k != On || r.HoldOn), reports || holds
		if t.Users > t.Allowed {
			trips = append(trips, t)
		}
	}

	return trips
}

// Count returns the state after changes that are decided: Recent as it is then, and the hour, by its key. held names the holds that
// kinds go into.
func (r Rules) Count(h *History, now time.Time, onDuty int, changes Counts, held map[Kind]string) (recent []Recent, key string, hour Hour) {
	recent = r.inWindow(h.Recent, now)
	for _, k := range Kinds() {
		if changes[k] > 0 {
			recent = add(recent, Recent{At: now.Unix(), Kind: k, N: changes[k], Group: held[k]})
		}
	}

	sent := Counts{}
	for _, x := range recent {
		if x.Group == "" {
			sent[x.Kind] += x.N
		}
	}

	key = r.HourKey(now)
	hour = h.Hours[key]
	hour.Off, hour.Stale, hour.On = max(hour.Off, sent[Off]+sent[Stale]), max(hour.Stale, sent[Stale]), max(hour.On, sent[On])
	hour.OnDuty = onDuty

	return recent, key, hour
}

// grain is how exactly the times of changes are kept, in seconds, so that a window holds few of them.
const grain = 10

func add(recent []Recent, x Recent) []Recent {
	for i, y := range recent {
		if y.Kind == x.Kind && y.Group == x.Group && x.At-y.At < grain && x.At >= y.At {
			recent[i].N += x.N
			return recent
		}
	}

	return append(recent, x)
}

// Decide returns the state after a person's decision about a hold: its members no longer count as a present change. What was
// approved was usual, at the hour at which it was held.
func (r Rules) Decide(h *History, g *Group, users int, approved bool) (recent []Recent, key string, hour Hour) {
	recent = slices.DeleteFunc(slices.Clone(h.Recent), func(x Recent) bool { return x.Group == g.ID })
	key = r.HourKey(g.Since)
	hour = h.Hours[key]
	if !approved {
		return recent, key, hour
	}

	switch g.Kind {
	case On:
		hour.On = max(hour.On, users)
	case Stale:
		hour.Stale, hour.Off = max(hour.Stale, users), max(hour.Off, users)
	default:
		hour.Off = max(hour.Off, users)
	}

	return recent, key, hour
}
