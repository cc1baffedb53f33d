package web

// Pages that keep themselves up to date. Server-sent events carry whole parts of a page when those have changed, and a
// heartbeat.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/services/console/internal/snapshot"
)

const (
	// maxStreams is how many pages may be live at once.
	maxStreams = 200
	// heartbeat is how often a page hears that it is live. Even with a poll of four seconds, the longest, the facts are
	// not too old for the page when it hears the next heartbeat. writeTimeout is how long a page may take to receive an
	// event.
	heartbeat    = 3 * time.Second
	writeTimeout = 10 * time.Second
)

// streams counts the live pages. It keeps what pages show, by their address and role, for as long as one of these pages
// is open.
type streams struct {
	open atomic.Int32

	mu        sync.Mutex
	fragments map[string]*fragment
}

// join returns what the pages of an address and a role show. The caller must call leave when its page is closed.
func (s *streams) join(role auth.Role, u *url.URL) (f *fragment, leave func()) {
	key := fmt.Sprintf("%d %s", role, u.RequestURI())

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.fragments == nil {
		s.fragments = map[string]*fragment{}
	}

	f = s.fragments[key]
	if f == nil {
		f = &fragment{}
		s.fragments[key] = f
	}

	f.pages++

	return f, func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		if f.pages--; f.pages == 0 {
			delete(s.fragments, key)
		}
	}
}

// beat is what a page receives at each heartbeat.
type beat struct {
	// At is the server's time as it is shown, and Age is how many seconds old the facts are.
	At  string `json:"at"`
	Age int    `json:"age"`
	// Version is the console's version: a screen on the wall reloads its page when the version changes.
	Version string `json:"version"`
}

// live keeps one page up to date until it is closed.
func (s *Site) live(w http.ResponseWriter, r *http.Request) {
	u, err := url.Parse(r.URL.Query().Get("page"))
	if err != nil || u.IsAbs() || u.Host != "" {
		http.NotFound(w, r)
		return
	}

	v, id, found := findView(u.Path)
	switch {
	case !found, !v.live:
		http.NotFound(w, r)
		return
	case s.who(r.Context()).Role < v.least:
		s.refuse(w, r)
		return
	case s.streams.open.Add(1) > maxStreams:
		s.streams.open.Add(-1)
		w.Header().Set("Retry-After", "30")
		http.Error(w, "Too many pages are live; this one is not.", http.StatusServiceUnavailable)
		return
	}

	defer s.streams.open.Add(-1)
	defer s.facts.Watch()()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")

	to := stream{w: w, to: http.NewResponseController(w)}
	if to.to.SetReadDeadline(time.Time{}) == nil { // the stream stays open, and each event has a deadline of its own
		s.stream(to, r, u, v, id)
	}
}

// stream writes events to one page.
type stream struct {
	w    http.ResponseWriter
	to   *http.ResponseController
	last string
}

// stream sends what changes, and heartbeats, until the page is closed or accepts nothing any more.
func (s *Site) stream(to stream, r *http.Request, u *url.URL, v view, id string) {
	beats := time.NewTicker(heartbeat)
	defer beats.Stop()

	shown, leave := s.streams.join(s.who(r.Context()).Role, u)
	defer leave()

	for due := true; ; {
		snap, changed := s.facts.Latest()
		if snap.Number > 0 {
			q := &Request{sources: s.sources, ctx: r.Context(), url: u, id: id, who: s.who(r.Context()), snap: snap}

			body, err := shown.after(q, func() (string, error) { return s.fragments(r, q, v) })
			if err == nil {
				err = to.send(body)
			}

			if err == nil && due {
				err, due = to.beat(snap, s.version), false
			}

			if err != nil {
				return
			}
		}

		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beats.C:
			due = true
		}
	}
}

// beat sends a heartbeat, which says that the page is live.
func (t *stream) beat(snap snapshot.Snapshot, version string) error {
	now := time.Now()

	data, err := json.Marshal(beat{now.Local().Format(time.TimeOnly), int(now.Sub(snap.Taken).Seconds()), version})
	if err != nil {
		return err
	}

	return t.event("beat", string(data))
}

// send writes what the page should show, unless it shows that already.
func (t *stream) send(body string) error {
	if body == t.last {
		return nil
	}

	t.last = body

	return t.event("", body)
}

func (t *stream) event(name, data string) error {
	var b bytes.Buffer
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}

	for line := range strings.SplitSeq(data, "\n") {
		b.WriteString("data: " + line + "\n")
	}

	b.WriteByte('\n')

	if err := t.to.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}

	if _, err := t.w.Write(b.Bytes()); err != nil {
		return err
	}

	return t.to.Flush()
}

// fragment is what the pages of one address and role show after a poll; it is made once for all of them.
type fragment struct {
	pages int // how many are open; guarded by streams.mu

	mu     sync.Mutex
	number int
	body   string
	err    error
}

// after returns what a page shows after a poll. The first page that asks has it made. If that page is closed meanwhile,
// it is made again for the next page, since the services that were asked had no time to answer.
func (f *fragment) after(q *Request, render func() (string, error)) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.number == q.snap.Number {
		return f.body, f.err
	}

	body, err := render()

	if closed := q.ctx.Err(); closed != nil {
		return "", closed
	}

	f.number, f.body, f.err = q.snap.Number, body, err

	return body, err
}

// fragments returns the parts of a page that change, in the form that htmx takes.
func (s *Site) fragments(r *http.Request, q *Request, v view) (string, error) {
	page, err := v.render(q)
	if err != nil {
		page = &Page{Title: "This cannot be shown now", Intro: upper(err.Error())}
	}

	shown := r.Clone(r.Context())
	shown.URL = q.url
	var b bytes.Buffer
	err = s.pages.ExecuteTemplate(&b, "fragments", s.frame(shown, q, page))

	return visible(b.String()), err
}
