// Package dutystatus finds duty in AtHoc that is too old, and users for whom AtHoc holds another status than it should. It reads AtHoc
// and asks the resolver, which judges.
package dutystatus

// What AtHoc was seen to hold, and how the resolver is asked about it.

import (
	"context"
	"time"

	"bobosync/services/janitor/internal/users"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// requestBytes bounds what the users of one observation may take, well below the broker's limit of 1 MB for a message.
const requestBytes = 600 << 10

// userFrame is more than a user takes in an observation beside its name.
const userFrame = 80

// Observe reports to the resolver what AtHoc was seen to hold.
type Observe func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error)

// observed is what AtHoc was seen to hold for a user.
type observed struct {
	control.ObservedUser
	// text is what it holds, verbatim, asked a moment just before AtHoc was asked for it.
	text  string
	asked time.Time
}

// observe reads what AtHoc holds as duty status, each user once: what was read last counts.
func observe(people []users.Person, zone *time.Location) []observed {
	at := make(map[string]int, len(people))
	var all []observed
	for _, p := range people {
		name := topology.NormalUsername(p.Username)
		if name == "" || len(name) > users.MaxText {
			continue
		}

		s := observed{text: p.Value, asked: p.Asked}
		s.ObservedUser = reading(p.Value, zone)
		s.User = p.Username
		if i, ok := at[name]; ok {
			all[i] = s
			continue
		}

		at[name] = len(all)
		all = append(all, s)
	}

	return all
}

// reading is what the text of a duty status means.
func reading(text string, zone *time.Location) control.ObservedUser {
	since, err := athoc.ParseTime(text, zone)
	switch {
	case err != nil:
		return control.ObservedUser{Odd: true}
	case since.IsZero():
		return control.ObservedUser{}
	}

	u := control.ObservedUser{On: true, At: since.Unix()}
	if twin, ok := twinOf(since, zone); ok {
		u.At2 = twin.Unix()
	}

	return u
}

// twinOf returns the later moment at which AtHoc's clock shows the same as at t, in the hour that autumn repeats. No zone changes
// its clocks twice within two days.
func twinOf(t time.Time, zone *time.Location) (time.Time, bool) {
	_, before := t.Add(-24 * time.Hour).In(zone).Zone()
	_, after := t.Add(24 * time.Hour).In(zone).Zone()
	twin := t.Add(time.Duration(before-after) * time.Second)
	return twin, before > after && athoc.FormatTime(twin, zone) == athoc.FormatTime(t, zone)
}

// stale returns those whose duty is older than the given moment, whichever of two moments its text may mean, and counts those
// whose status is no date.
func stale(all []observed, before time.Time) (old []observed, odd int) {
	for _, s := range all {
		if s.Odd {
			odd++
		} else if s.On && time.Unix(max(s.At, s.At2), 0).Before(before) {
			old = append(old, s)
		}
	}

	return old, odd
}

// requests cuts what was seen into requests that the resolver takes. Each has the moment before the earliest of its users was
// asked for.
func requests(all []observed, purpose control.ObservePurpose, apply bool) []control.ObserveRequest {
	var out []control.ObserveRequest
	size := 0
	for _, s := range all {
		last := len(out) - 1
		cost := users.JSONSize(s.User) + userFrame
		if last < 0 || len(out[last].Users) == control.MaxObserved || size+cost > requestBytes {
			out = append(out, control.ObserveRequest{Purpose: purpose, Apply: apply, Seen: s.asked})
			last, size = last+1, 0
		}

		size += cost

		out[last].Users = append(out[last].Users, s.ObservedUser)
		if s.asked.Before(out[last].Seen) {
			out[last].Seen = s.asked
		}
	}

	return out
}

// askAll reports everything that was seen to the resolver, and puts its answers together.
func (ask Observe) askAll(ctx context.Context, all []observed, purpose control.ObservePurpose, apply bool) (sum control.ObserveAnswer, err error) {
	for _, req := range requests(all, purpose, apply) {
		answer, err := ask(ctx, req)
		if err != nil {
			return sum, err
		}

		sum.Compared += answer.Compared
		sum.Unmanaged += answer.Unmanaged
		sum.UnderWay += answer.UnderWay
		sum.Held += answer.Held
		sum.Published += answer.Published
		sum.Findings = append(sum.Findings, answer.Findings...)
	}

	return sum, nil
}
