// Package trial finds out what bookings would do, without doing it: package latest decides, on copies.
package trial

import (
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

// Try answers a request. It takes the roster's lock only for moments, to ask the guard, and so blocks nobody.
func Try(r *roster.Roster, req control.TryRequest) (control.TryAnswer, error) {
	var answer control.TryAnswer
	if len(req.Entries) > control.MaxTryEntries {
		return answer, control.Refuse("a trial asks for at most %d bookings at once", control.MaxTryEntries)
	}

	now, mapping := r.Now(), r.Mapping()

	changes := guard.Counts{}
	for kind, n := range req.Changes {
		changes[guard.Kind(kind)] += n
	}

	clearing := clearing(r, now)

	err := r.View(func(v store.View) error {
		for _, e := range req.Entries {
			w, err := v.Worker(e.Employee)
			if err != nil {
				return err
			}

			d := decide(w, e, req.File, mapping.User(e.Employee), now, r.Rules)
			count(&answer, d.consequence)

			if d.update == nil {
				continue
			}

			if kind, is := roster.Kind(&d.before, d.update, clearing); is {
				changes[kind]++
			}
		}

		return nil
	})
	if err == nil {
		answer.Guard = judge(r, now, changes)
	}

	return answer, err
}

// clearing returns the kind of change that clearing duty for its age would be now. From which feed the file would come
// is unknown.
func clearing(r *roster.Roster, now time.Time) guard.Kind {
	r.Lock()
	defer r.Unlock()
	return r.Holds.Guard.Clearing("", now)
}

// judge asks the guard about changes, without counting them.
func judge(r *roster.Roster, now time.Time, changes guard.Counts) *control.TryGuard {
	r.Lock()
	defer r.Unlock()

	f := r.Holds.Facts(now)

	g := &control.TryGuard{Mode: f.Mode, Holding: f.Holding, HoldsFrom: f.HoldsFrom, Changes: map[string]int{}, Unusual: []control.TryUnusual{}}
	for kind, n := range changes {
		g.Changes[string(kind)] = n
	}

	for _, t := range r.Holds.Judge(now, r.Stats.SentOn(), changes) {
		g.Unusual = append(g.Unusual, control.TryUnusual{UnusualChange: control.UnusualChange{
			Kind: string(t.Kind), At: now.UTC(), Users: t.Users, Allowed: t.Allowed, Usual: t.Usual, OnDuty: t.OnDuty,
		}, Hold: t.Hold})
	}

	return g
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

// decided is the decision about a booking: the update that it leads to, if any, and its worker as it was before that.
type decided struct {
	consequence
	update *event.Update
	before latest.Worker
}

// decide returns what follows from a booking of a file that arrives now, for a worker who is mapped to user.
func decide(w latest.Worker, e event.Entry, file, user string, now time.Time, rules latest.Rules) decided {
	booked := latest.Event{Version: e.Version(now.UnixNano()), File: file, On: e.On, At: e.At}
	if taken, _ := w.Take(booked, false); taken == latest.Older {
		return decided{consequence: beaten}
	}

	before := w
	update, outcome := w.Resolve(e.Employee, user, event.ReasonEvent, now, rules)
	switch {
	case outcome == event.Unmapped:
		return decided{consequence: unmapped}
	case update == nil && outcome == event.Expired:
		return decided{consequence: expired}
	case update == nil:
		return decided{consequence: unchanged}
	case update.On:
		return decided{on, update, before}
	default:
		return decided{off, update, before}
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
