package auth

// Sessions, which lie in a sealed cookie of the browser.

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"bobosync/shared/config"
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

// sealer encrypts cookies, so that nobody can read or make one.
type sealer struct{ aead cipher.AEAD }

func newSealer(key config.Secret) (*sealer, error) {
	derived, err := hkdf.Key(sha256.New, []byte(cmp.Or(key.Reveal(), rand.Text()+rand.Text())), nil, "bobosync console sessions 1", 32)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}
	return &sealer{aead}, nil
}

// seal makes the value of the cookie with this name.
func (s *sealer) seal(cookie string, content any) string {
	data, err := json.Marshal(content)
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, data, []byte(cookie)))
}

// open reads what seal made for a cookie with the same name.
func (s *sealer) open(cookie, value string, content any) bool {
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return false
	}
	data, err := s.aead.Open(nil, nil, sealed, []byte(cookie))
	return err == nil && json.Unmarshal(data, content) == nil
}

// sessionCookie is the name of the session's cookie. By TLS its prefix has browsers take it from this host alone. Without TLS, which is
// this machine talking to itself, some browsers would not keep such a one.
func (a *Auth) sessionCookie() string { return a.cookieName("bobosync-session") }
func (a *Auth) wallCookie() string    { return a.cookieName("bobosync-wall") }

func (a *Auth) cookieName(name string) string {
	if a.cfg.secure() {
		return "__Host-" + name
	}
	return name
}

func (a *Auth) setCookie(w http.ResponseWriter, name string, s *session) {
	a.writeCookie(w, name, a.sealer.seal(name, s), 0)
}

func (a *Auth) writeCookie(w http.ResponseWriter, name, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: a.cfg.secure(), SameSite: http.SameSiteLaxMode,
	})
}

// open returns the session of a cookie, or nil. Of several cookies with the name the first that can be read counts: another service on
// this machine's address may have put one there.
func (a *Auth) open(r *http.Request, name string) *session {
	for _, c := range r.CookiesNamed(name) {
		var s session
		if a.sealer.open(name, c.Value, &s) && s.ID != "" {
			return &s
		}
	}
	return nil
}
