package auth

// Sessions, which lie in a sealed cookie of the browser.

import (
	"crypto/rand"
	"net/http"
	"time"
)

const (
	// idleLife is how long a session lasts in which nothing is asked, and wholeLife how long any lasts: a shift.
	idleLife  = 30 * time.Minute
	wholeLife = 12 * time.Hour
	// renewAfter is how much of idleLife may have gone by before the cookie is written again.
	renewAfter = time.Minute
)

// The ways to log in, as Identity.How.
const (
	howPassword = "password"
	howLink     = "link"
	howProxy    = "proxy"
	howOIDC     = "oidc"
	howWall     = "wall"
)

// session is what a cookie holds. Times are Unix seconds.
type session struct {
	ID      string `json:"i"`
	Name    string `json:"n"`
	Role    Role   `json:"r"`
	How     string `json:"h"`
	Subject string `json:"u,omitempty"`
	Started int64  `json:"s"`
	Seen    int64  `json:"l"`
	// Mark changes with the user's line in the file, with the identity provider, or with the wall's token.
	Mark string `json:"m,omitempty"`
}

// newSession begins a session; it has nothing of one that was before.
func newSession(who Identity, mark string, now time.Time) *session {
	return &session{ID: rand.Text(), Name: who.Name, Role: who.Role, How: who.How, Subject: who.Subject, Started: now.Unix(), Seen: now.Unix(), Mark: mark}
}

// readSession returns the session that a cookie holds, or nil.
func readSession(r *http.Request, c cookie) *session {
	return readCookie(r, c, func(s *session) bool { return s.ID != "" })
}

func (s *session) idleEnds() time.Time  { return time.Unix(s.Seen, 0).Add(idleLife) }
func (s *session) wholeEnds() time.Time { return time.Unix(s.Started, 0).Add(wholeLife) }

func (s *session) ends() time.Time {
	if idle, whole := s.idleEnds(), s.wholeEnds(); idle.Before(whole) {
		return idle
	}
	return s.wholeEnds()
}

func (s *session) lasts(now time.Time) bool { return now.Before(s.ends()) }

// renewed is the session with this moment as the last at which it was seen, or nil if there is no need yet.
func (s *session) renewed(now time.Time) *session {
	if now.Sub(time.Unix(s.Seen, 0)) < renewAfter {
		return nil
	}
	again := *s
	again.Seen = now.Unix()
	return &again
}
