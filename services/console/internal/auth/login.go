package auth

// Logging in at the console itself: by a name and a password, or by a link that opens it once.

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"bobosync/shared/login"
)

// way is what all ways to log in have in common.
type way struct {
	pages    *pages
	sessions *sessions
	clock    func() time.Time
	log      *slog.Logger
}

// passwordLogin logs in the users of the file.
type passwordLogin struct {
	way
	users    *users
	throttle *throttle
	hashing  chan struct{} // bounds the memory that passwords take
	// unnotified takes up each login if passwords are for emergencies alone; otherwise it is nil.
	unnotified *unnotified
}

// logIn checks a name and a password. A wrong name and a wrong password get the same answer, after the same time.
func (l *passwordLogin) logIn(w http.ResponseWriter, r *http.Request) {
	name, password, next := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("password"), local(r.PostFormValue("next"))
	who := From(r.Context())
	fail := func(status int, why string) {
		l.log.Warn("a login failed", "name", shown(name), "address", who.Address, "reason", why)
		l.pages.write(w, r, status, "Log in", "login", view{Next: next, Name: shown(name), Error: why})
	}
	if !l.throttle.begin(who.Address, name) {
		w.Header().Set("Retry-After", "60")
		fail(http.StatusTooManyRequests, "Too many failures: try again in a minute.")
		return
	}

	user, ok := l.matches(r, name, password)
	if !ok {
		fail(http.StatusUnauthorized, "The name or the password is wrong.")
		return
	}

	l.throttle.forget(who.Address, name)

	in := Identity{Name: user.Name, Role: roleOf(user.Role), How: howPassword, Address: who.Address}
	if l.unnotified != nil {
		l.unnotified.add(Emergency{Who: in, At: l.clock()})
	}

	l.sessions.begin(w, r, in, markOf(user.Mark()), next)
}

// matches checks a password. Few are checked at once: each takes 19 MiB.
func (l *passwordLogin) matches(r *http.Request, name, password string) (login.User, bool) {
	if len(password) > login.MaxPassword {
		return login.User{}, false
	}

	select {
	case l.hashing <- struct{}{}:
		defer func() { <-l.hashing }()
	case <-r.Context().Done():
		return login.User{}, false
	}

	user := l.users.get(name)

	return user, user.Matches(password)
}

// linkLogin logs in an operator of this machine, by the link that bobosync console open prints.
type linkLogin struct {
	way
	links *login.Links
}

// show shows a button rather than using the link: browsers and programs fetch links that nobody has clicked.
func (l *linkLogin) show(w http.ResponseWriter, r *http.Request) {
	l.pages.write(w, r, http.StatusOK, "Open the console", "link", view{Token: r.URL.Query().Get("t")})
}

func (l *linkLogin) use(w http.ResponseWriter, r *http.Request) {
	name, ok := l.links.Use(r.PostFormValue("t"), l.clock())
	if !ok {
		l.log.Warn("a link that opens nothing was used", "address", From(r.Context()).Address)
		l.pages.write(w, r, http.StatusUnauthorized, "Log in", "login", view{Error: "The link was used before, or is older than a minute."})
		return
	}

	l.sessions.begin(w, r, Identity{Name: name, Role: Approver, How: howLink}, "", "/")
}
