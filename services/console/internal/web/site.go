package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/services/console/internal/snapshot"
	"bobosync/shared/bus"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// Site makes the pages. It may be used by several goroutines.
type Site struct {
	auth    *auth.Auth
	who     func(context.Context) auth.Identity
	refuse  http.HandlerFunc
	facts   *snapshot.Collector
	sources sources
	version string
	log     *slog.Logger

	pages   *template.Template
	assets  assets
	streams streams
}

// Options is what a Site is made with.
type Options struct {
	Auth  *auth.Auth
	Facts *snapshot.Collector
	// Reads connects with the key for reading pages, Orders with the key for giving orders and looking up persons.
	Reads, Orders func(context.Context) (*bus.Conn, error)
	Version       string
	Log           *slog.Logger
}

//go:embed templates
var templates embed.FS

// New makes a Site.
func New(o Options) (*Site, error) {
	s := &Site{auth: o.Auth, who: auth.From, refuse: o.Auth.Refuse, facts: o.Facts, version: o.Version, log: o.Log}
	s.sources.reads, s.sources.orders = o.Reads, o.Orders
	var err error
	if s.assets, err = loadAssets(); err != nil {
		return nil, err
	}

	if s.sources.manual, err = loadManual(); err != nil {
		return nil, err
	}

	s.pages, err = template.New("").Funcs(template.FuncMap{
		"asset": s.assets.path, "mark": mark, "class": class, "clean": text.Clean,
	}).ParseFS(templates, "templates/*.html")

	return s, err
}

// sources is what a page asks in addition to the facts.
type sources struct {
	// reads and orders connect, as those of [Options] do.
	reads, orders func(context.Context) (*bus.Conn, error)
	manual        manual
}

// Request is a request for a page, with what the page is made of.
type Request struct {
	sources

	ctx  context.Context
	url  *url.URL
	id   string // the part of the path below the view's address
	who  auth.Identity
	snap snapshot.Snapshot
}

// facts returns the last facts that could be had.
func (q *Request) facts() verdict.Facts { return q.snap.Known }

func (q *Request) now() time.Time { return q.snap.Facts.At }

// errAway says that there is nobody to ask; the verdict says why.
var errAway = errors.New("the broker cannot be reached, so nobody can be asked")

// connection returns a connection, or errAway at once if the broker is known to be away.
func (q *Request) connection(connect func(context.Context) (*bus.Conn, error)) (*bus.Conn, error) {
	if !q.snap.Facts.Reached() {
		return nil, errAway
	}
	return connect(q.ctx)
}

// request returns the request that a browser makes. If the page reloads itself (see again), that does not show in its
// links.
func (s *Site) request(r *http.Request, u *url.URL, id string) *Request {
	asked, query := *u, u.Query()
	query.Del("refresh")
	asked.RawQuery = query.Encode()
	u = &asked

	return &Request{sources: s.sources, ctx: r.Context(), url: u, id: id, who: s.who(r.Context()), snap: s.facts.Fresh(r.Context())}
}

// show answers with a page, or with its table as CSV or JSON.
func (s *Site) show(v view) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, form := r.PathValue("id"), ""
		if v.list {
			id, form = formOf(r.URL.Path, id)
		}

		q := s.request(r, r.URL, id)
		page, err := v.render(q)
		var gone *notFound
		switch {
		case errors.As(err, &gone):
			s.write(w, r, q, http.StatusNotFound, &Page{Title: "Not found", Intro: gone.text})
		case err != nil:
			s.write(w, r, q, http.StatusServiceUnavailable, &Page{Title: "This cannot be shown now", Level: verdict.Problem, Intro: sentence(err)})
		case form != "":
			s.writeTable(w, r, page.table(), form)
		default:
			s.write(w, r, q, http.StatusOK, page)
		}
	}
}

// sentence returns a sentence that says what went wrong.
func sentence(err error) string {
	if errors.Is(err, bus.ErrNotAllowed) {
		return "The broker does not let this console do that: CONSOLE_OPERATOR_CREDS must name an operator's key."
	}
	return upper(text.Clean(err.Error())) + "."
}

// formOf splits .csv or .json from the end of a path.
func formOf(path, id string) (rest, form string) {
	for _, form := range []string{".csv", ".json"} {
		if strings.HasSuffix(path, form) {
			return strings.TrimSuffix(id, form), form
		}
	}

	return id, ""
}

// notFound says that what was asked for does not exist.
type notFound struct{ text string }

func (e *notFound) Error() string { return e.text }

// writeTable answers with a table for machines.
func (s *Site) writeTable(w http.ResponseWriter, r *http.Request, t *Table, form string) {
	if t == nil {
		http.NotFound(w, r)
		return
	}

	t.arrange(r.URL.Query())
	var b bytes.Buffer

	write, kind := t.writeCSV, "text/csv; charset=utf-8"
	if form == ".json" {
		write, kind = t.writeJSON, "application/json"
	}

	if err := write(text.To(&b)); err != nil {
		s.fail(w, err)
		return
	}

	w.Header().Set("Content-Type", kind)

	if form == ".csv" {
		w.Header().Set("Content-Disposition", "attachment; filename=bobosync"+strings.ReplaceAll(strings.TrimSuffix(r.URL.Path, form), "/", "-")+form)
	}

	_, _ = w.Write(b.Bytes()) // a browser that is gone misses nothing
}

// write answers with a page in its frame.
func (s *Site) write(w http.ResponseWriter, r *http.Request, q *Request, status int, page *Page) {
	f := s.frame(r, q, page)
	s.execute(w, status, "frame", f)
}

// Page answers with a body in the frame of all pages, for pages that are not views.
func (s *Site) Page(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML) {
	q := s.request(r, r.URL, "")
	s.write(w, r, q, status, &Page{Title: title, Blocks: []Block{{HTML: body}}})
}

func (s *Site) execute(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, name, data); err != nil {
		s.fail(w, err)
		return
	}

	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(visible(b.String()))) // a browser that is gone misses nothing
}

// visible replaces invisible characters in a page with escapes, wherever they come from; only line ends stay.
func visible(page string) string {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		lines[i] = text.Clean(line)
	}

	return strings.Join(lines, "\n")
}

func (s *Site) fail(w http.ResponseWriter, err error) {
	s.log.Error("a page cannot be made", "error", err)
	http.Error(w, "This page cannot be made; the console's log says why.", http.StatusInternalServerError)
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
