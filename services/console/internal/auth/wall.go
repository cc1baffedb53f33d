package auth

// The wall's screen, which has a token in place of a user.

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// wallQuery is the field of the address that holds the token.
const wallQuery = "token"

// fromWall lets the wall's screen in by the token in its address, or by the cookie that keepWall gave it.
func (a *Auth) fromWall(r *http.Request) asker {
	if a.cfg.WallToken == "" {
		return asker{}
	}
	s := a.open(r, a.wallCookie())
	if s != nil && s.Role == Wall && s.Mark == markOf(a.cfg.WallToken.Reveal()) || a.isWallToken(r.URL.Query().Get(wallQuery)) {
		return asker{Identity: Identity{Role: Wall, How: howWall}}
	}
	return asker{}
}

func (a *Auth) isWallToken(token string) bool {
	given, right := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(a.cfg.WallToken.Reveal()))
	return a.cfg.WallToken != "" && subtle.ConstantTimeCompare(given[:], right[:]) == 1
}

// keepWall gives a screen that has the token in its address a cookie for what the page fetches. The address stays as it is, so that the
// screen can load it again after anything.
func (a *Auth) keepWall(w http.ResponseWriter, r *http.Request) {
	if a.isWallToken(r.URL.Query().Get(wallQuery)) {
		who := Identity{Role: Wall, How: howWall}
		a.setCookie(w, a.wallCookie(), newSession(who, markOf(a.cfg.WallToken.Reveal()), a.opt.Clock()))
	}
}
