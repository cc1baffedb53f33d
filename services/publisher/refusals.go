package publisher

// Users whom AtHoc refuses again and again, in answers to calls that it takes otherwise.

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
)

const (
	// refusedOften is from how many refusals on a user is named: the pauses in between grow, so that it takes a quarter of a minute.
	refusedOften = 5
	// refusedFor is how long a refusal counts: three times the longest pause. Another publisher may have succeeded meanwhile.
	refusedFor = 3 * time.Minute
	// maxRefused is how many users are kept in mind.
	maxRefused = 100
)

// refused is what is remembered of a user, and when it was refused last.
type refused struct {
	control.RefusedUser
	last time.Time
}

// refusals remembers them by username. The zero value is ready; it is safe for concurrent use.
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

// list returns the users who are refused again and again, the first one first, and forgets what is long ago.
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
