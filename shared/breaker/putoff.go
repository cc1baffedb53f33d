package breaker

import (
	"slices"
	"time"

	"bobosync/shared/pause"
)

// PutOff is a user whose update makes calls fail that would succeed without it. The update is retried alone, with
// back-off.
type PutOff struct {
	// User is the username.
	User string `json:"user"`
	// Failures counts the calls that failed with this user alone.
	Failures int `json:"failures"`
	// Since is when the first of these calls failed, Until when the user is sent again.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Cause is what AtHoc said last, without personal data.
	Cause string `json:"cause"`
}

const (
	putOffFirst, maxPutOff = 2 * time.Second, 10 * time.Minute
	// putOffUsers is the most users that are kept; beyond that, the oldest is dropped.
	putOffUsers = 100
)

// PutOffs are the users who are put off, the oldest first. The zero value holds nobody.
type PutOffs []PutOff

// Of returns what is known about a user; false means that the user is not put off.
func (all PutOffs) Of(user string) (PutOff, bool) {
	if at := all.index(user); at >= 0 {
		return all[at], true
	}
	return PutOff{}, false
}

func (all PutOffs) index(user string) int {
	return slices.IndexFunc(all, func(p PutOff) bool { return p.User == user })
}

// With returns the list after a call with this user alone has failed.
func (all PutOffs) With(user, cause string, now time.Time) PutOffs {
	all = slices.Clone(all)
	at := all.index(user)
	if at < 0 {
		if len(all) >= putOffUsers {
			all = all[1:]
		}

		at = len(all)
		all = append(all, PutOff{User: user, Since: now})
	}

	p := &all[at]
	p.Failures++
	p.Cause = cause
	p.Until = now.Add(pause.Delay(putOffFirst, maxPutOff, p.Failures, 1))

	return all
}

// Without returns the list without these users, whose updates have their outcomes.
func (all PutOffs) Without(users ...string) PutOffs {
	all = slices.DeleteFunc(slices.Clone(all), func(p PutOff) bool { return slices.Contains(users, p.User) })
	if len(all) == 0 {
		return nil
	}

	return all
}
