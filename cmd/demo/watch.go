package main

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// calls counts the calls to AtHoc, as AtHoc saw them.
type calls struct {
	token, search, update int
	// failed counts the calls that were answered with 5xx.
	failed int
	// fetched counts the users that searches returned, sent those in updates, and applied those whose value was
	// written.
	fetched, sent, applied int
	// downSince is when the first failure after the last good call was answered; zero if the last call was good.
	downSince time.Time
	// first and last are the beginning and the end of the outage as the caller saw it: the first failure, and the
	// first good call after the latest failure. Each is zero until it happens.
	first, last time.Time
}

func (c calls) all() int { return c.token + c.search + c.update }

// tally counts calls. It is safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	calls calls
}

func (t *tally) get() calls {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

// note counts a call; it is the simulator's OnCall.
func (t *tally) note(c sim.Call) {
	t.mu.Lock()
	defer t.mu.Unlock()

	switch c.Endpoint {
	case sim.EndpointToken:
		t.calls.token++
	case sim.EndpointSearch:
		t.calls.search++
		t.calls.fetched += c.FetchedRecords
	case sim.EndpointUpdate:
		t.calls.update++
		t.calls.sent += len(c.Users)
		for i := range c.Users {
			if c.Users[i].Applied {
				t.calls.applied++
			}
		}
	}

	finished := time.Unix(0, c.Finished)
	switch {
	case c.Status >= http.StatusInternalServerError:
		t.calls.failed++
		if t.calls.downSince.IsZero() {
			t.calls.downSince = finished
		}

		if t.calls.first.IsZero() {
			t.calls.first = finished
		}
	case c.Status == http.StatusOK:
		if !t.calls.downSince.IsZero() {
			t.calls.last = finished
		}

		t.calls.downSince = time.Time{}
	}
}

// drop is a file that was dropped.
type drop struct {
	*file
	count
	at time.Time
}

// watch tracks the progress of the files, only by the directories.
type watch struct {
	dirs    directories
	total   int
	drops   []drop
	waiting map[string]drop // by name: files that are still in the input directory

	rowsDone int
	quarters int  // quarters of the files that have been reported
	allCame  bool // has been reported
	down     bool
}

func newWatch(p directories, total int) *watch {
	return &watch{dirs: p, total: total, waiting: map[string]drop{}}
}

func (w *watch) dropped(f *file, c count) {
	d := drop{file: f, count: c, at: time.Now()}
	w.drops = append(w.drops, d)
	w.waiting[f.name] = d
}

// look finds out which files have left the input directory.
func (w *watch) look() error {
	entries, err := os.ReadDir(w.dirs.input())
	if err != nil {
		return fmt.Errorf("list the input directory: %w", err)
	}

	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		there[e.Name()] = true
	}

	for name, d := range w.waiting {
		if !there[name] {
			w.rowsDone += d.rows
			delete(w.waiting, name)
		}
	}

	return nil
}

func (w *watch) done() int { return len(w.drops) - len(w.waiting) }

// news returns what has happened since the previous call that is worth a line.
func (w *watch) news(c calls) []string {
	var news []string
	if down := !c.downSince.IsZero(); down != w.down {
		w.down = down
		if down {
			news = append(news, "the publisher finds AtHoc down, and probes with one call at a time")
		} else {
			news = append(news, fmt.Sprintf("AtHoc is back after %s; the latest status of each user is sent", seconds(c.last.Sub(c.first))))
		}
	}

	if quarters := min(4*w.done()/w.total, 3); quarters > w.quarters {
		w.quarters = quarters
		news = append(news, fmt.Sprintf("%d of %d files are confirmed", w.done(), w.total))
	}

	if !w.allCame && len(w.drops) == w.total {
		w.allCame = true

		news = append(news, "the last file is dropped")
	}

	return news
}

// view is the progress at one moment.
type view struct {
	oldest               time.Duration // age of the oldest file that is not confirmed; 0 if all dropped files are
	files, done, waiting int
	rows, rowsDone       int
	calls                calls
	down                 time.Duration // how long AtHoc has been down; 0 if it answers
}

func (w *watch) view(c calls, now time.Time) view {
	v := view{files: w.total, done: w.done(), waiting: len(w.waiting), rowsDone: w.rowsDone, calls: c}
	for _, d := range w.drops {
		v.rows += d.rows
	}

	for _, d := range w.waiting {
		v.oldest = max(v.oldest, now.Sub(d.at))
	}

	if !c.downSince.IsZero() {
		v.down = max(now.Sub(c.downSince), time.Millisecond)
	}

	return v
}
