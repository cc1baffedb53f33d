package auth

// The wall's screen, which has a token in place of a user.

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"

	"bobosync/shared/config"
)

// wallQuery is the query parameter that holds the token.
const wallQuery = "token"

// wall lets the wall's screen in. It may be used by several goroutines.
type wall struct {
	token  config.Secret // empty if no screen is let in
	cookie cookie
}

// identify lets the screen in by the token in its address, or by the cookie that keep gave it.
func (l *wall) identify(r *http.Request) asker {
	if l.token == "" {
		return asker{}
	}

	s := readSession(r, l.cookie)
	if s != nil && s.Role == Wall && s.Mark == markOf(l.token.Reveal()) || l.isToken(r.URL.Query().Get(wallQuery)) {
		return asker{Identity: Identity{Role: Wall, How: howWall}}
	}

	return asker{}
}

func (l *wall) isToken(token string) bool {
	given, right := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(l.token.Reveal()))
	return l.token != "" && subtle.ConstantTimeCompare(given[:], right[:]) == 1
}

// keep gives a screen that has the token in its address a cookie for what the page fetches. The address stays as it is,
// so that the screen can load it again at any time.
func (l *wall) keep(w http.ResponseWriter, r *http.Request, now time.Time) {
	if l.isToken(r.URL.Query().Get(wallQuery)) {
		who := Identity{Role: Wall, How: howWall}
		l.cookie.set(w, newSession(who, markOf(l.token.Reveal()), now), 0)
	}
}
