package breaker

import (
	"slices"
	"time"

	"bobosync/shared/pause"
)

// PutOff is a user whose update makes calls fail that succeed without it; it is retried alone, with back-off.
type PutOff struct {
	// User is the username.
	User string `json:"user"`
	// Failures counts the calls that failed with this user alone.
	Failures int `json:"failures"`
	// Since is when the first of them failed, Until when the user is sent again.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Cause is what AtHoc said last, without personal data.
	Cause string `json:"cause"`
}

const (
	putOffFirst, maxPutOff = 2 * time.Second, 10 * time.Minute
	// putOffUsers is the most users that are kept.
	putOffUsers = 100
)

// PutOffOf returns what is known of a user who is put off.
func (s State) PutOffOf(user string) (PutOff, bool) {
	if at := s.putOff(user); at >= 0 {
		return s.PutOff[at], true
	}
	return PutOff{}, false
}

func (s State) putOff(user string) int {
	return slices.IndexFunc(s.PutOff, func(p PutOff) bool { return p.User == user })
}

// WithPutOff notes that a call failed with this user alone.
func (s State) WithPutOff(user, cause string, now time.Time) State {
	s.PutOff = slices.Clone(s.PutOff)
	at := s.putOff(user)
	if at < 0 {
		if len(s.PutOff) >= putOffUsers {
			s.PutOff = s.PutOff[1:]
		}
		at = len(s.PutOff)
		s.PutOff = append(s.PutOff, PutOff{User: user, Since: now})
	}
	p := &s.PutOff[at]
	p.Failures++
	p.Cause = cause
	p.Until = now.Add(pause.Delay(putOffFirst, maxPutOff, p.Failures, 1))
	return s
}

// WithoutPutOff notes that these users are done.
func (s State) WithoutPutOff(users ...string) State {
	s.PutOff = slices.DeleteFunc(slices.Clone(s.PutOff), func(p PutOff) bool { return slices.Contains(users, p.User) })
	if len(s.PutOff) == 0 {
		s.PutOff = nil
	}
	return s
}
