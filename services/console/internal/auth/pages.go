package auth

// The pages of logging in and out.

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"bobosync/shared/login"
	"bobosync/shared/text"
)

//go:embed pages.html
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "pages.html"))

// Addresses of the pages.
const (
	pathLogin   = "/login"
	pathLogout  = "/logout"
	pathSession = "/session"
)

// view is what the templates show.
type view struct {
	Mode, Next, Name, Error, Text, Token string
	// Emergency says that people log in at the identity provider, and by a password if that is down.
	Emergency bool
}

// Routes adds the pages of logging in and out.
func (a *Auth) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathLogin, a.showLogin)
	mux.HandleFunc("POST "+pathLogout, a.logOut)
	mux.HandleFunc("GET "+pathSession, a.writeSession)
	mux.HandleFunc("POST "+pathSession, a.extendSession)
	if a.users != nil {
		mux.HandleFunc("POST "+pathLogin, a.logIn)
	}
	if a.links != nil {
		mux.HandleFunc("GET "+login.LinkPath, a.showLink)
		mux.HandleFunc("POST "+login.LinkPath, a.useLink)
	}
	if a.provider != nil {
		mux.HandleFunc("GET "+pathBegin, a.goToProvider)
		mux.HandleFunc("GET "+pathReturn, a.comeBack)
	}
}

// page writes a page of this package.
func (a *Auth) page(w http.ResponseWriter, r *http.Request, status int, title, name string, v view) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil {
		panic(err) // the templates are part of the program
	}
	a.opt.Page(w, r, status, title, template.HTML(body.String())) //nolint:gosec // html/template has made it
}

// barePage is a page without the console's looks.
func barePage(w http.ResponseWriter, _ *http.Request, status int, title string, body template.HTML) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pages.ExecuteTemplate(w, "bare", struct { // a browser that has gone needs no page
		Title string
		Body  template.HTML
	}{title, body})
}

// say writes a page that says why a request is not followed.
func (a *Auth) say(w http.ResponseWriter, r *http.Request, status int, title, why string) {
	a.page(w, r, status, title, "say", view{Text: why})
}

// sendToLogin answers a request without a session. A form that was sent is not lost: the user logs in beside it and sends it again.
func (a *Auth) sendToLogin(w http.ResponseWriter, r *http.Request) {
	switch {
	case isFragment(r):
		http.Error(w, "Your session has ended: log in again.", http.StatusUnauthorized)
	case r.Method == http.MethodPost:
		a.page(w, r, http.StatusUnauthorized, "Log in again", "again", view{})
	default:
		http.Redirect(w, r, pathLogin+"?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
	}
}

// local returns an address of this console, or / for any other.
func local(next string) string {
	u, err := url.Parse(next)
	odd := strings.ContainsFunc(next, func(r rune) bool { return r == '\\' || unicode.IsControl(r) || unicode.IsSpace(r) })
	switch {
	case err != nil, odd, u.Scheme != "", u.Host != "", u.Opaque != "", u.User != nil, !strings.HasPrefix(u.Path, "/"), strings.HasPrefix(u.Path, "//"),
		strings.HasPrefix(u.Path, "/log"):
		return "/"
	}
	return (&url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}).String()
}

func (a *Auth) showLogin(w http.ResponseWriter, r *http.Request) {
	next := local(r.URL.Query().Get("next"))
	if From(r.Context()).Role > Wall {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	a.page(w, r, http.StatusOK, "Log in", "login", a.loginView(view{Next: next}))
}

// loginView is what the page of logging in shows.
func (a *Auth) loginView(v view) view {
	v.Mode, v.Emergency = a.cfg.Mode, a.provider != nil && a.users != nil
	return v
}

// logIn checks a name and password. Both failures have the same answer, after the same time.
func (a *Auth) logIn(w http.ResponseWriter, r *http.Request) {
	name, password, next := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("password"), local(r.PostFormValue("next"))
	who := From(r.Context())
	fail := func(status int, why string) {
		a.opt.Log.Warn("a login failed", "name", shown(name), "address", who.Address, "reason", why)
		a.page(w, r, status, "Log in", "login", a.loginView(view{Next: next, Name: shown(name), Error: why}))
	}
	if !a.throttle.begin(who.Address, name) {
		w.Header().Set("Retry-After", "60")
		fail(http.StatusTooManyRequests, "Too many failures: try again in a minute.")
		return
	}
	user, ok := a.matches(r, name, password)
	if !ok {
		fail(http.StatusUnauthorized, "The name or the password is wrong.")
		return
	}
	a.throttle.forget(who.Address, name)
	in := Identity{Name: user.Name, Role: roleOf(user.Role), How: howPassword, Address: who.Address}
	if a.provider != nil {
		a.unnotified.add(Emergency{Who: in, At: a.opt.Clock()})
	}
	a.begin(w, r, in, markOf(user.Mark()), next)
}

// matches compares a password. Few are compared at once: each takes 19 MiB.
func (a *Auth) matches(r *http.Request, name, password string) (login.User, bool) {
	if len(password) > login.MaxPassword {
		return login.User{}, false
	}
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-r.Context().Done():
		return login.User{}, false
	}
	user := a.users.get(name)
	return user, user.Matches(password)
}

// shown is a name that a stranger typed.
func shown(name string) string {
	runes := []rune(name)
	return text.Clean(string(runes[:min(len(runes), 64)]))
}

// begin starts a session with an id of its own and ends the one that the browser had.
func (a *Auth) begin(w http.ResponseWriter, r *http.Request, who Identity, mark, next string) {
	if before := askerOf(r.Context()).session; before != nil {
		a.ended.add(r.Context(), before)
	}
	s := newSession(who, mark, a.opt.Clock())
	a.session.set(w, s, 0)
	a.opt.Log.Info("somebody has logged in", "name", who.Name, "subject", who.Subject, "role", who.Role.String(), "how", who.How, "address", From(r.Context()).Address)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// showLink shows a button rather than to use the link: browsers and programs fetch links that nobody has clicked.
func (a *Auth) showLink(w http.ResponseWriter, r *http.Request) {
	a.page(w, r, http.StatusOK, "Open the console", "link", view{Token: r.URL.Query().Get("t")})
}

func (a *Auth) useLink(w http.ResponseWriter, r *http.Request) {
	name, ok := a.links.Use(r.PostFormValue("t"), a.opt.Clock())
	if !ok {
		a.opt.Log.Warn("a link that opens nothing was used", "address", From(r.Context()).Address)
		a.page(w, r, http.StatusUnauthorized, "Log in", "login", a.loginView(view{Error: "The link was used before, or is older than a minute."}))
		return
	}
	a.begin(w, r, Identity{Name: name, Role: Approver, How: howLink}, "", "/")
}

// logOut ends the session for all consoles, and sends the browser on to the identity provider, which would let it in again without a word.
func (a *Auth) logOut(w http.ResponseWriter, r *http.Request) {
	if s := askerOf(r.Context()).session; s != nil {
		a.ended.add(r.Context(), s)
		a.opt.Log.Info("somebody has logged out", "name", s.Name, "address", From(r.Context()).Address)
	}
	a.session.remove(w)
	v := view{Mode: a.cfg.Mode}
	if a.provider != nil && From(r.Context()).How == howOIDC {
		if v.Next = a.provider.leave(r.Context()); v.Next != "" {
			w.Header().Set("Refresh", "0; url="+v.Next) // no redirect: the content policy lets a form's answer lead nowhere else
		}
	}
	a.page(w, r, http.StatusOK, "Logged out", "out", v)
}

// writeSession returns until when the session lasts. Asking for that does not extend it.
func (a *Auth) writeSession(w http.ResponseWriter, r *http.Request) {
	idle, whole := SessionEnds(r.Context())
	if From(r.Context()).Role == Nobody {
		http.Error(w, "Your session has ended: log in again.", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct { // a browser that has gone needs no answer
		Now   time.Time `json:"now"`
		Idle  time.Time `json:"idle_ends,omitzero"`
		Whole time.Time `json:"ends,omitzero"`
	}{a.opt.Clock(), idle, whole})
}

// extendSession extends the session: the request alone does.
func (a *Auth) extendSession(w http.ResponseWriter, r *http.Request) {
	switch {
	case From(r.Context()).Role == Nobody:
		a.sendToLogin(w, r)
	case isFragment(r):
		a.writeSession(w, r)
	default:
		http.Redirect(w, r, local(r.PostFormValue("next")), http.StatusSeeOther)
	}
}
