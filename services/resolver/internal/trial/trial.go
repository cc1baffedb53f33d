// Package trial tells what bookings would do, and does nothing of it: the decisions are those of package latest, on copies.
package trial

import (
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

// Try answers a request. It needs no lock, and holds up nobody.
func Try(r *roster.Roster, req control.TryRequest) (control.TryAnswer, error) {
	var answer control.TryAnswer
	if len(req.Entries) > control.MaxTryEntries {
		return answer, control.Refuse("a trial asks for at most %d bookings at once", control.MaxTryEntries)
	}
	now, mapping := r.Now(), r.Mapping()
	err := r.View(func(v store.View) error {
		for _, e := range req.Entries {
			w, err := v.Worker(e.Employee)
			if err != nil {
				return err
			}
			count(&answer, decide(w, e, req.File, mapping.User(e.Employee), now, r.Rules))
		}
		return nil
	})
	return answer, err
}

// consequence is what a booking leads to.
type consequence int

const (
	beaten consequence = iota
	unmapped
	expired
	unchanged
	on
	off
)

// decide tells what follows from a booking of a file that arrives now, for a worker who is mapped to user.
func decide(w latest.Worker, e event.Entry, file, user string, now time.Time, rules latest.Rules) consequence {
	booked := latest.Event{Version: e.Version(now.UnixNano()), File: file, On: e.On, At: e.At}
	if taken, _ := w.Take(booked, false); taken == latest.Older {
		return beaten
	}
	update, outcome := w.Resolve(e.Employee, user, event.ReasonEvent, now, rules)
	switch {
	case outcome == event.Unmapped:
		return unmapped
	case update == nil && outcome == event.Expired:
		return expired
	case update == nil:
		return unchanged
	case update.On:
		return on
	default:
		return off
	}
}

func count(a *control.TryAnswer, c consequence) {
	switch c {
	case beaten:
		a.Beaten++
	case unmapped:
		a.Unmapped++
	case expired:
		a.Expired++
	case unchanged:
		a.Unchanged++
	case on:
		a.On++
	default:
		a.Off++
	}
}
