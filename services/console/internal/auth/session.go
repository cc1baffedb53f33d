package auth

// Sessions, which are kept in a sealed cookie of the browser.

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"bobosync/shared/login"
	"bobosync/shared/pause"
)

const (
	// idleLife is how long a session lasts without any request, and wholeLife how long any session lasts: a shift.
	idleLife  = 30 * time.Minute
	wholeLife = 12 * time.Hour
	// renewAfter is how much of idleLife may have passed before the cookie is written again.
	renewAfter = time.Minute
)

// The ways to log in, as in Identity.How.
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

// newSession returns a new session, which takes nothing over from an earlier one.
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

// renewed returns the session with now as the time when it was last seen, or nil if there is no need to renew it yet.
func (s *session) renewed(now time.Time) *session {
	if now.Sub(time.Unix(s.Seen, 0)) < renewAfter {
		return nil
	}

	again := *s
	again.Seen = now.Unix()

	return &again
}

// sessions manages the sessions of all users. It may be used by several goroutines.
type sessions struct {
	cookie cookie
	ended  *ended
	clock  func() time.Time
	log    *slog.Logger
	// users, links and provider are what people log in by; those that the settings leave out are nil.
	users    *users
	links    *login.Links
	provider *provider
}

// identify returns the user whose session the request carries, if the session still lasts.
func (s *sessions) identify(r *http.Request) asker {
	one := readSession(r, s.cookie)
	if one == nil || !one.lasts(s.clock()) || s.ended.has(one) || !s.stillKnown(one) {
		return asker{}
	}

	return asker{Identity{Name: one.Name, Role: one.Role, How: one.How, Subject: one.Subject}, one}
}

// stillKnown reports whether the user could log in again as before: by an unchanged line in the file, by the same
// provider and groups, or by a link.
func (s *sessions) stillKnown(one *session) bool {
	switch one.How {
	case howPassword:
		return s.users != nil && s.users.mark(one.Name) == one.Mark
	case howOIDC:
		return s.provider != nil && s.provider.mark() == one.Mark
	default:
		return s.links != nil
	}
}

// whileLasts returns a context for a stream that ends when the session does: by itself, or because somebody ended it.
func (s *sessions) whileLasts(ctx context.Context, one *session) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, one.ends().Sub(s.clock()))
	var following sync.WaitGroup
	following.Go(func() {
		_ = pause.Every(ctx, endedEvery, func() error {
			if s.ended.has(one) || !s.stillKnown(one) {
				cancel()
			}
			return nil
		})
	})

	return ctx, func() {
		cancel()
		following.Wait()
	}
}

// begin starts a session with an id of its own, ends the session that the browser had, and sends the browser to next.
func (s *sessions) begin(w http.ResponseWriter, r *http.Request, who Identity, mark, next string) {
	if before := askerOf(r.Context()).session; before != nil {
		s.ended.add(r.Context(), before)
	}

	s.cookie.set(w, newSession(who, mark, s.clock()), 0)
	s.log.Info("somebody has logged in", "name", who.Name, "subject", who.Subject, "role", who.Role.String(), "how", who.How, "address", From(r.Context()).Address)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// end ends the request's session at all consoles.
func (s *sessions) end(w http.ResponseWriter, r *http.Request) {
	if one := askerOf(r.Context()).session; one != nil {
		s.ended.add(r.Context(), one)
		s.log.Info("somebody has logged out", "name", one.Name, "address", From(r.Context()).Address)
	}

	s.cookie.remove(w)
}
