// Package guard decides whether a mass change of duty statuses is unusual and must wait for a person. It is pure: no
// clock, no store, no broker.
//
// It counts decisions, each once: how many users go off duty because they booked off, how many because their duty is
// stale, and how many go on duty. A change is unusual if more users change within a window than is allowed. Allowed is
// the largest of three numbers: one less than MinUsers, OffPercent of the users on duty, and Factor times the most that
// changed within a window in the same hour of the week, an hour more or less, over the last six weeks. Hours are those
// of BOBO's wall clock, so that a shift stays in its hour when the clocks change.
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
	// Silent: like Stale, but a silent feed booked the duty, so we do not know whether the worker has booked off.
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
	// autoAfter is how much history Auto needs before it holds, and reportAfter how much it needs before it reports
	// what it would have held. Until each hour of the week has been seen once, everything is unusual.
	autoAfter   = 14 * 24 * time.Hour
	reportAfter = 7 * 24 * time.Hour
	// weeks is how many weeks back the usual is taken from.
	weeks = 6
	// maxWindow is the length of the hours that the usual is taken from.
	maxWindow = time.Hour
)

// Rules are the guard's settings.
type Rules struct {
	Mode Mode
	// HoldOn: users who go on duty are held as well, and not only reported.
	HoldOn bool
	Window time.Duration
	// A change is unusual if it reaches MinUsers and exceeds both OffPercent (of the users on duty) and Factor (times
	// the usual).
	MinUsers   int
	OffPercent int
	Factor     float64
	// Zone is the time zone of BOBO's wall clock.
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

// Recent is a number of changes that were decided recently.
type Recent struct {
	// At is when, in Unix seconds.
	At   int64 `json:"at"`
	Kind Kind  `json:"kind"`
	N    int   `json:"n"`
	// Group is the hold that the changes went into; empty if they were let through.
	Group string `json:"group,omitempty"`
}

// Hour is what is kept of one hour of the wall clock.
type Hour struct {
	// Off, Stale and On are the most changes that were let through within a window that ended in this hour; Off
	// includes the stale ones.
	Off   int `json:"off,omitempty"`
	Stale int `json:"stale,omitempty"`
	On    int `json:"on,omitempty"`
	// OnDuty is how many users were on duty at the last change.
	OnDuty int `json:"on_duty"`
}

func (h Hour) most(k Kind) int { return map[Kind]int{Off: h.Off, Stale: h.Stale, On: h.On}[k] }

// History is the guard's state. The zero value is that of a guard that has counted nothing yet.
type History struct {
	// Since is when the guard began to count.
	Since time.Time `json:"since,omitzero"`
	// Recent has the changes that were decided within the window.
	Recent []Recent `json:"recent,omitempty"`
	// Hours has the hours by HourKey.
	Hours map[string]Hour `json:"hours,omitempty"`
}

const hourLayout = "2006-01-02T15"

// wall returns the hour that the wall clock shows at t. It is returned as a UTC time, so that adding days and hours
// ignores changes of the clock.
func (r Rules) wall(t time.Time) time.Time {
	l := t.In(r.Zone)
	return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), 0, 0, 0, time.UTC)
}

// Wall formats a moment as the wall clock shows it, for names.
func (r Rules) Wall(t time.Time) string { return t.In(r.Zone).Format("20060102-150405") }

// HourKey returns the key of the wall clock's hour that a moment lies in.
func (r Rules) HourKey(t time.Time) string { return r.wall(t).Format(hourLayout) }

// Forgotten returns the HourKey before which hours are no longer needed.
func (r Rules) Forgotten(now time.Time) string {
	return r.wall(now).AddDate(0, 0, -7*weeks-1).Format(hourLayout)
}

// Holds reports whether unusual changes are held now.
func (r Rules) Holds(h *History, now time.Time) bool {
	return r.Mode == Hold || r.Mode == Auto && !h.Since.IsZero() && now.Sub(h.Since) >= autoAfter
}

// HoldsFrom returns when Auto begins to hold; zero in other modes, and as long as nothing was counted.
func (r Rules) HoldsFrom(h *History) time.Time {
	if r.Mode != Auto || h.Since.IsZero() {
		return time.Time{}
	}
	return h.Since.Add(autoAfter)
}

// reports reports whether changes that would have been held are reported.
func (r Rules) reports(h *History, now time.Time) bool {
	return r.Mode == Observe || r.Mode == Auto && !h.Since.IsZero() && now.Sub(h.Since) >= reportAfter
}

// sameHours calls visit for the hours of the last six weeks that the given moment is compared with.
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

// Usual returns the most changes of a kind that were let through within one window at this hour of the week, an hour
// more or less.
func (r Rules) Usual(h *History, now time.Time, k Kind) (most int) {
	r.sameHours(h, now, func(hour Hour) { most = max(most, hour.most(k)) })
	return most
}

// UsualOnDuty returns the fewest and the most users who were on duty at this hour of the week, an hour more or less; 0
// and 0 if that is not known.
func (r Rules) UsualOnDuty(h *History, now time.Time) (least, most int) {
	r.sameHours(h, now, func(hour Hour) {
		if least == 0 || hour.OnDuty < least {
			least = hour.OnDuty
		}

		most = max(most, hour.OnDuty)
	})

	return least, most
}

// inWindow returns the changes that lie less than a window before or after now. Later ones exist after a clock was put
// back.
func (r Rules) inWindow(recent []Recent, now time.Time) []Recent {
	return slices.DeleteFunc(slices.Clone(recent), func(x Recent) bool { return now.Sub(time.Unix(x.At, 0)).Abs() >= r.Window })
}

// Trip is an unusual change.
type Trip struct {
	Kind Kind
	// Users is how many users change within the window, including those who are being decided about now. Sent is how
	// many of them were let through before.
	Users, Sent int
	// Allowed is how many users may change, Usual the most that usually do, and OnDuty how many were on duty when the
	// window began.
	Allowed, Usual, OnDuty int
	// Hold: the change is held. Otherwise it is only reported, and that only if Report is set.
	Hold, Report bool
	// Joins: the change is not unusual by itself; it is held because others of its kind are.
	Joins bool
}

// Judge decides about changes that are not published yet, and returns the unusual kinds. onDuty is the number of users
// whom AtHoc was last sent as on duty.
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
		if k == Off { // users whose duty was cleared are gone as well; those whose clearing is held are not
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

// Count returns the state after the given changes were decided: the new Recent, and the present hour with its key. held
// names the holds that kinds go into.
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

// grain is the resolution, in seconds, at which the times of changes are kept, so that a window holds few entries.
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

// Decide returns the state after a decision about hold g: Recent without its members, who no longer count as a present
// change, and the hour in which the hold began, with its key. What was approved counts as usual in that hour.
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
