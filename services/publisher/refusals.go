package publisher

// This file remembers the users whom AtHoc refuses again and again, in answers to calls that it otherwise takes.

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
)

const (
	// refusedOften is how many refusals it takes for a user to be named. The pauses in between grow, so this takes a
	// quarter of a minute.
	refusedOften = 5
	// refusedFor is how long a refusal counts: three times the longest pause. Another publisher may have succeeded
	// meanwhile.
	refusedFor = 3 * time.Minute
	// maxRefused is how many users are remembered.
	maxRefused = 100
)

// refused is what is remembered of a user, and when the user was last refused.
type refused struct {
	control.RefusedUser
	last time.Time
}

// refusals remembers refused users by username. The zero value is ready; it is safe for concurrent use.
type refusals struct {
	mu    sync.Mutex
	users map[string]refused
}

// add notes that AtHoc has refused an update for now, and in which words.
func (r *refusals) add(u event.Update, words string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.users == nil {
		r.users = map[string]refused{}
	}

	known, isKnown := r.users[u.User]
	if !isKnown && len(r.users) >= maxRefused {
		return
	}

	r.users[u.User] = refused{control.RefusedUser{
		File: u.File, Row: u.Version.Row, Times: known.Times + 1, Words: words, Since: cmp.Or(known.Since, now.UTC()),
	}, now}
}

// drop notes that AtHoc's answer about a user is final.
func (r *refusals) drop(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()

	delete(r.users, user)
}

// list returns the users who are refused again and again, the longest refused first, and forgets users whose last
// refusal is long ago.
func (r *refusals) list(now time.Time) (all []control.RefusedUser) {
	r.mu.Lock()
	defer r.mu.Unlock()

	for user, u := range r.users {
		switch {
		case now.Sub(u.last) > refusedFor:
			delete(r.users, user)
		case u.Times >= refusedOften:
			all = append(all, u.RefusedUser)
		}
	}

	slices.SortFunc(all, func(a, b control.RefusedUser) int { return a.Since.Compare(b.Since) })

	return all
}
