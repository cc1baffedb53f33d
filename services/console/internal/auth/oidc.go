package auth

// The pages of logging in at an identity provider: the way there, and the way back.

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	pathBegin  = "/login/begin"
	pathReturn = "/login/oidc"
	// tryLife is how long a user may take at the provider.
	tryLife = 10 * time.Minute
	// maxNext bounds the address that the user wants to see, in bytes: it is kept in a cookie meanwhile.
	maxNext = 1024
)

// try is a login that is under way. It is kept in a sealed cookie of the browser that began it.
type try struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Next     string `json:"to"`
	Began    int64  `json:"b"`
}

// providerLogin logs people in at the identity provider, by the authorization code flow.
type providerLogin struct {
	way
	provider *provider
	throttle *throttle
	cookie   cookie // holds the try
}

// begin begins a login and sends the browser to the provider. It answers a link rather than a form, since the content
// policy lets forms lead nowhere but to the console.
func (l *providerLogin) begin(w http.ResponseWriter, r *http.Request) {
	next := local(r.URL.Query().Get("next"))

	e, err := l.provider.find(r.Context())
	if err != nil {
		l.fail(w, r, http.StatusServiceUnavailable, next, errAway.Error(), err)
		return
	}

	if len(next) > maxNext {
		next = "/"
	}

	t := try{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: next, Began: l.clock().Unix()}
	l.cookie.set(w, t, tryLife)
	http.Redirect(w, r, e.login.AuthCodeURL(t.State, oidc.Nonce(t.Nonce), oauth2.S256ChallengeOption(t.Verifier)), http.StatusSeeOther)
}

// comeBack ends a login: the provider has sent the browser back. The cookie is removed, so that each login can come
// back only once.
func (l *providerLogin) comeBack(w http.ResponseWriter, r *http.Request) {
	t := readCookie(r, l.cookie, func(t *try) bool { return l.clock().Sub(time.Unix(t.Began, 0)) < tryLife })
	query := r.URL.Query()

	l.cookie.remove(w)

	address := From(r.Context()).Address
	switch {
	case t == nil || query.Get("state") != t.State:
		l.fail(w, r, http.StatusBadRequest, "/", "this login was not begun in this browser at "+l.provider.cfg.origin()+", or more than ten minutes ago, or another one was begun since", nil)
		return
	case query.Has("iss") && query.Get("iss") != l.provider.cfg.Issuer:
		l.fail(w, r, http.StatusForbidden, t.Next, errNotOurs.Error(), nil)
		return
	case query.Has("error"):
		l.fail(w, r, http.StatusForbidden, t.Next, "the login service refuses: "+shown(cmp.Or(query.Get("error_description"), query.Get("error"))), nil)
		return
	case !l.throttle.begin(address, ""):
		w.Header().Set("Retry-After", "60")
		l.fail(w, r, http.StatusTooManyRequests, t.Next, "too many failures: try again in a minute", nil)
		return
	}

	who, said, err := l.provider.person(r.Context(), query.Get("code"), t)
	if said != nil {
		l.fail(w, r, http.StatusForbidden, t.Next, said.Error(), err)
		return
	}

	l.throttle.forget(address, "")
	l.sessions.begin(w, r, who, l.provider.mark(), t.Next)
}

// fail says why a user is not let in, and lets them try again.
func (l *providerLogin) fail(w http.ResponseWriter, r *http.Request, status int, next, why string, err error) {
	l.log.Warn("a login failed", "address", From(r.Context()).Address, "reason", why, "error", err)
	l.pages.write(w, r, status, "Log in", "login", view{Next: next, Error: "You are not logged in: " + why + "."})
}
