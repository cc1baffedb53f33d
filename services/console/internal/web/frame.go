package web

// What all pages share: the verdict, banners, links to the other pages, and the look.

import (
	"html"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// frame is what the template of a whole page takes.
type frame struct {
	Page
	Bar  bar
	Nav  []Link
	Who  auth.Identity
	Live string
	// Again makes a browser without scripts reload the page, by an address that does not extend the session.
	Again template.HTMLAttr
	Keep  bool // the page stays live in a tab that is not visible
	Wall  bool

	Theme, Back    string
	Themes         []Link
	Keys           bool
	Version, Clock string
	Zone           string
	Anonymous      bool
}

// bar is the verdict at the top of each page.
type bar struct {
	Level   verdict.Level
	Text    string
	At      string
	Zone    string
	Banners []Line
	// Away says that the page shows what was last known, and Hidden that the sender may not see the verdict.
	Away, Hidden bool
}

// navigation has the links to the other pages, each with the paths that belong to it.
var navigation = []struct {
	text  string
	least auth.Role
	paths []string
}{
	{"Now", auth.Viewer, []string{"/"}},
	{"Decisions", auth.Viewer, []string{"/decisions"}},
	{"Files", auth.Viewer, []string{"/files", "/receipt"}},
	{"Worker", auth.Operator, []string{"/worker", "/onduty"}},
	{"Repair", auth.Viewer, []string{"/dead", "/replay", "/reconcile"}},
	{"Feeds", auth.Viewer, []string{"/feeds", "/mapping"}},
	{"Journal", auth.Viewer, []string{"/journal", "/report", "/audit"}},
	{"System", auth.Viewer, []string{"/system"}},
	{"Help", auth.Nobody, []string{"/help"}},
}

func (s *Site) frame(r *http.Request, q *Request, page *Page) *frame {
	for _, b := range page.Blocks {
		if b.Table != nil {
			b.Table.arrange(q.url.Query())
			b.Table.link(q.url)
		}
	}

	theme := cookie(r, cookieTheme, "system", themes)
	f := &frame{
		Page: *page, Bar: barOf(q), Who: q.who, Theme: theme, Back: q.url.RequestURI(), Keys: cookie(r, cookieKeys, "on", []string{"on", "off"}) == "on",
		Version: s.version, Clock: q.now().Local().Format(time.TimeOnly), Zone: zone(q.now()), Anonymous: q.who.Role == auth.Nobody,
		Wall: r.URL.Path == "/wall",
	}
	for _, name := range themes {
		f.Themes = append(f.Themes, Link{Text: upper(name), Href: name, Here: name == theme})
	}

	if page.Live {
		f.Again = again(r.URL)
		f.Live, f.Keep = "/live?page="+url.QueryEscape(r.URL.RequestURI()), r.URL.Path == "/" || f.Wall
	}

	if !f.Wall {
		f.Nav = navOf(q, r.URL.Path)
	}

	return f
}

// again returns the attribute that makes a page reload itself.
func again(page *url.URL) template.HTMLAttr {
	query := page.Query()
	query.Set("refresh", "")
	u := url.URL{Path: page.Path, RawQuery: query.Encode()}
	return template.HTMLAttr(`content="15;url=` + html.EscapeString(u.String()) + `"`) //nolint:gosec // escaped
}

func navOf(q *Request, path string) (links []Link) {
	for _, n := range navigation {
		if q.who.Role < n.least {
			continue
		}

		here := slices.ContainsFunc(n.paths, func(p string) bool { return path == p || p != "/" && strings.HasPrefix(path, p+"/") })
		links = append(links, Link{Text: n.text, Href: n.paths[0], Here: here})
	}

	return links
}

// barOf returns the verdict, for senders who may see it.
func barOf(q *Request) bar {
	if q.who.Role == auth.Nobody {
		return bar{Hidden: true}
	}

	v := q.snap.Verdict
	b := bar{Level: v.Level, Text: upper(text.Clean(v.Text)), At: q.now().Local().Format(time.TimeOnly), Zone: zone(q.now())}
	f := q.facts()
	if !q.snap.Facts.Reached() && !f.At.IsZero() {
		b.Away = true
		b.Banners = append(b.Banners, Line{Level: verdict.Problem, Text: "NOT LIVE: the broker cannot be reached. What follows is what was known at " + text.When(f.At) + "."})
	}

	if f.Pause.InForce(q.now()) {
		paused := "PAUSED until " + text.When(f.Pause.Until)
		if q.who.Role > auth.Wall { // the screen on the wall, which everybody can see, names nobody
			paused += " by " + text.Clean(f.Pause.By) + ": " + text.Clean(f.Pause.Reason)
		}

		b.Banners = append(b.Banners, Line{Level: verdict.Warning, Text: paused})
	}

	held := 0
	for _, r := range f.Resolver {
		held += r.Guard.Users()
	}

	if held > 0 {
		b.Banners = append(b.Banners, Line{Level: verdict.Warning, Text: "HELD: a mass change of " + text.Count(held, "user") + " waits for a decision."})
	}

	return b
}

// zone returns the name of the time zone in which times are shown.
func zone(t time.Time) string {
	name := time.Local.String()
	short, _ := t.Local().Zone()
	if name == "Local" || name == short {
		return short
	}

	return name
}

// mark returns the shape of a level, so that colour is never the only sign.
func mark(l verdict.Level) string { return [...]string{"●", "◆", "▲"}[l] }

// class returns a level's name in the style sheet.
func class(l verdict.Level) string { return [...]string{"ok", "warning", "problem"}[l] }

const (
	cookieTheme = "theme"
	cookieKeys  = "keys"
	// cookieAge is how long a browser remembers how the console should look.
	cookieAge = 400 * 24 * time.Hour
)

var themes = []string{"system", "light", "dark", "night"}

func cookie(r *http.Request, name, otherwise string, allowed []string) string {
	if c, err := r.Cookie(name); err == nil && slices.Contains(allowed, c.Value) {
		return c.Value
	}
	return otherwise
}

// setPreferences stores in the browser how the console should look, and whether single keys do anything.
func setPreferences(w http.ResponseWriter, r *http.Request) {
	for name, allowed := range map[string][]string{cookieTheme: themes, cookieKeys: {"on", "off"}} {
		if value := r.PostFormValue(name); slices.Contains(allowed, value) {
			http.SetCookie(w, &http.Cookie{
				Name: name, Value: value, Path: "/", MaxAge: int(cookieAge.Seconds()), HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
			})
		}
	}

	back := r.PostFormValue("back")
	if !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.HasPrefix(back, `/\`) {
		back = "/"
	}

	http.Redirect(w, r, back, http.StatusSeeOther)
}
