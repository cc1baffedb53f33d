package watch

// This file keeps what a watcher sees in its directory, and when a file there has settled.

import (
	"maps"
	"time"

	"bobosync/services/ingest/internal/files"
)

// directory is one of the directories of a Tracker, whose lock guards it. Each has a watcher of its own, so that a
// directory that hangs holds up no other.
type directory struct {
	tracker *Tracker
	prefix  string
	// timer fires when a file may have settled; armed reports that it is running.
	timer *time.Timer
	armed bool
	// listed is when the last listing of the directory began.
	listed time.Time
	// settling are the tracker's entries in this directory that are still settling, by name.
	settling map[string]*entry
}

// sight is what was seen under a name.
type sight struct {
	stat files.Stat
	// reason says why it cannot be read, noFile that it is not a file at all.
	reason string
	noFile bool
	// arrived is when it arrived, provided that the name was not known before.
	arrived time.Time
}

// see notes what is under a name now. An event means that the file was written to, even if its stat does not show that.
func (d *directory) see(name string, what sight, event bool, now time.Time) {
	t := d.tracker
	t.mu.Lock()
	first := d.note(name, what, event, now)
	t.mu.Unlock()

	if first {
		warn(t.log, name, what.reason)
	}
}

// note updates the entry and reports whether there is a new problem.
func (d *directory) note(name string, what sight, event bool, now time.Time) bool {
	t := d.tracker
	e, known := t.entries[name]
	if !known {
		e = &entry{dir: d, arrived: what.arrived}
		t.entries[name] = e
	}

	changed := !known || e.stat != what.stat
	e.stat = what.stat
	if changed && e.read { // the previous state was read: this is another file, or more of the same
		e.arrived = now
	}

	if what.reason != "" {
		delete(d.settling, name)

		e.problem.NoFile, e.read = what.noFile, false
		return (changed || e.state != rejected || now.After(e.again)) && e.reject(what.reason, now)
	}

	switch {
	case changed, e.state == rejected && (event || now.After(e.again)), event && e.state == settling:
		if !known || e.state != settling {
			e.began = now
		}

		e.state, e.since, e.read = settling, now, false

		if !d.armed {
			d.armed = true
			d.timer.Reset(t.settle)
		}

		d.settling[name] = e
	}

	return false
}

// keep drops all names that a listing did not find; began is when the listing began.
func (d *directory) keep(there map[string]bool, began time.Time) {
	d.tracker.mu.Lock()
	defer d.tracker.mu.Unlock()

	d.listed = began
	gone := func(name string, e *entry) bool { return e.dir == d && !there[name] }
	maps.DeleteFunc(d.tracker.entries, gone)
	maps.DeleteFunc(d.settling, gone)
}

func (d *directory) forget(name string) {
	d.tracker.mu.Lock()
	defer d.tracker.mu.Unlock()

	delete(d.tracker.entries, name)
	delete(d.settling, name)
}

// due returns the files that have not changed for long enough.
func (d *directory) due(now time.Time) map[string]files.Stat {
	t := d.tracker
	t.mu.Lock()
	defer t.mu.Unlock()

	due := map[string]files.Stat{}
	for name, e := range d.settling {
		if now.Sub(e.since) >= t.settle {
			due[name] = e.stat
		}
	}

	return due
}

// granularity is the shortest time between two checks of settling files.
const granularity = 5 * time.Millisecond

// offer makes those due files ready that still have not changed, and sets the timer to when the next file may be ready.
func (d *directory) offer(due map[string]files.Stat, now time.Time) {
	t := d.tracker
	t.mu.Lock()
	defer t.mu.Unlock()

	ready := false
	for name, stat := range due {
		if e := d.settling[name]; e != nil && e.stat == stat && e.state == settling && now.Sub(e.since) >= t.settle {
			e.state, e.ready, ready = settled, now, true

			delete(d.settling, name)
		}
	}

	if ready {
		t.signal()
	}

	wait := t.settle
	d.armed = false
	for _, e := range d.settling {
		d.armed, wait = true, min(wait, e.since.Add(t.settle).Sub(now))
	}

	if d.armed {
		d.timer.Reset(max(wait, granularity))
	}
}
