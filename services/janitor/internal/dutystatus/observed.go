// Package dutystatus finds duty statuses in AtHoc that are too old, and users for whom AtHoc holds another status than
// it should. It reads AtHoc and asks the resolver, which judges.
package dutystatus

// What AtHoc was seen to hold, and how it is reported to the resolver.

import (
	"context"
	"time"

	"bobosync/services/janitor/internal/users"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// requestBytes bounds the size of one request's users, well below the broker's limit of 1 MB for a message.
const requestBytes = 600 << 10

// userFrame is more than the bytes that a user takes in a request in addition to its name.
const userFrame = 80

// Observe reports to the resolver what AtHoc was seen to hold.
type Observe func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error)

// observed is what AtHoc was seen to hold for a user.
type observed struct {
	control.ObservedUser
	// text is the status verbatim. asked is a moment just before AtHoc was asked for it.
	text  string
	asked time.Time
}

// observe returns the duty status that AtHoc holds for each user. Of a user that was read twice, the later reading
// counts.
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

// reading interprets the text of a duty status.
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

// twinOf returns the later moment at which AtHoc's clock shows the same time as at t, and reports whether there is
// one: t must lie in the first pass of the hour that is repeated in autumn. No zone changes its clocks twice within
// two days.
func twinOf(t time.Time, zone *time.Location) (time.Time, bool) {
	_, before := t.Add(-24 * time.Hour).In(zone).Zone()
	_, after := t.Add(24 * time.Hour).In(zone).Zone()
	twin := t.Add(time.Duration(before-after) * time.Second)
	return twin, before > after && athoc.FormatTime(twin, zone) == athoc.FormatTime(t, zone)
}

// stale returns the users whose duty began before the given moment, even by the later of two moments that its text may
// mean. It also counts the users whose status is no date.
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

// requests cuts the observations into requests that are small enough for the resolver. The Seen of each request is the
// earliest moment at which AtHoc was asked for one of its users.
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

// askAll reports all observations to the resolver, and adds up its answers.
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
