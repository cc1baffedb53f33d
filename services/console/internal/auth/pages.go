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

var templates = template.Must(template.ParseFS(pageFiles, "pages.html"))

// Addresses of the pages.
const (
	pathLogin   = "/login"
	pathLogout  = "/logout"
	pathSession = "/session"
)

// view is what the templates show.
type view struct {
	Mode, Next, Name, Error, Text, Token string
	Emergency                            bool
}

// Routes adds the pages of logging in and out.
func (a *Auth) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathLogin, a.showLogin)
	mux.HandleFunc("POST "+pathLogout, a.logOut)
	mux.HandleFunc("GET "+pathSession, a.writeSession)
	mux.HandleFunc("POST "+pathSession, a.extendSession)

	if a.byPassword != nil {
		mux.HandleFunc("POST "+pathLogin, a.byPassword.logIn)
	}

	if a.byLink != nil {
		mux.HandleFunc("GET "+login.LinkPath, a.byLink.show)
		mux.HandleFunc("POST "+login.LinkPath, a.byLink.use)
	}

	if a.byProvider != nil {
		mux.HandleFunc("GET "+pathBegin, a.byProvider.begin)
		mux.HandleFunc("GET "+pathReturn, a.byProvider.comeBack)
	}
}

func (a *Auth) showLogin(w http.ResponseWriter, r *http.Request) {
	next := local(r.URL.Query().Get("next"))
	if From(r.Context()).Role > Wall {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}

	a.pages.write(w, r, http.StatusOK, "Log in", "login", view{Next: next})
}

// logOut ends the session at all consoles, and sends the browser on to the identity provider, which would otherwise let
// it in again without asking.
func (a *Auth) logOut(w http.ResponseWriter, r *http.Request) {
	a.sessions.end(w, r)

	var v view
	if a.byProvider != nil && From(r.Context()).How == howOIDC {
		if v.Next = a.byProvider.provider.leave(r.Context()); v.Next != "" {
			w.Header().Set("Refresh", "0; url="+v.Next) // no redirect: the content policy lets a form's answer lead nowhere else
		}
	}

	a.pages.write(w, r, http.StatusOK, "Logged out", "out", v)
}

// writeSession writes until when the session lasts. Asking for that does not extend it.
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

// extendSession answers a request to extend the session. The request alone extends it, in Protect.
func (a *Auth) extendSession(w http.ResponseWriter, r *http.Request) {
	switch {
	case From(r.Context()).Role == Nobody:
		a.pages.sendToLogin(w, r)
	case isFragment(r):
		a.writeSession(w, r)
	default:
		http.Redirect(w, r, local(r.PostFormValue("next")), http.StatusSeeOther)
	}
}

// pages writes the pages of this package. They may be used by several goroutines.
type pages struct {
	// frame writes a page around a body, as Options.Page does.
	frame     func(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML)
	mode      string
	emergency bool // people log in at the identity provider, and by a password if it is down
}

// write writes the page whose template has this name.
func (p *pages) write(w http.ResponseWriter, r *http.Request, status int, title, name string, v view) {
	v.Mode, v.Emergency = p.mode, p.emergency
	var body bytes.Buffer
	if err := templates.ExecuteTemplate(&body, name, v); err != nil {
		panic(err) // the templates are part of the program
	}

	p.frame(w, r, status, title, template.HTML(body.String())) //nolint:gosec // html/template has made it
}

// barePage writes a page without the console's design.
func barePage(w http.ResponseWriter, _ *http.Request, status int, title string, body template.HTML) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = templates.ExecuteTemplate(w, "bare", struct { // a browser that has gone needs no page
		Title string
		Body  template.HTML
	}{title, body})
}

// say writes a page that says why a request is not followed.
func (p *pages) say(w http.ResponseWriter, r *http.Request, status int, title, why string) {
	p.write(w, r, status, title, "say", view{Text: why})
}

// sendToLogin answers a request without a session. A form that was sent is not lost: the user logs in in another tab
// and sends it again.
func (p *pages) sendToLogin(w http.ResponseWriter, r *http.Request) {
	switch {
	case isFragment(r):
		http.Error(w, "Your session has ended: log in again.", http.StatusUnauthorized)
	case r.Method == http.MethodPost:
		p.write(w, r, http.StatusUnauthorized, "Log in again", "again", view{})
	default:
		http.Redirect(w, r, pathLogin+"?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
	}
}

// local returns next if it is an address of this console other than those for logging in and out, and / otherwise.
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

// shown returns a text that a stranger chose, cut to 64 characters and made harmless.
func shown(name string) string {
	runes := []rune(name)
	return text.Clean(string(runes[:min(len(runes), 64)]))
}
