package watch

// What a watcher sees in its directory, and how that settles.

import (
	"maps"
	"time"

	"bobosync/services/ingest/internal/files"
)

// directory is one of the directories of a Tracker, which guards it. It has its own watcher, so that one that hangs holds up no other.
type directory struct {
	tracker *Tracker
	prefix  string
	// timer runs out when something may have settled; armed: it will.
	timer *time.Timer
	armed bool
	// listed is when the directory was last listed, from the listing's begin.
	listed time.Time
	// settling are those of the tracker's entries that are watched closely, by name.
	settling map[string]*entry
}

// sight is what was seen at a name.
type sight struct {
	stat files.Stat
	// reason says why it cannot be read, noFile that it is no file at all.
	reason string
	noFile bool
	// arrived is when it came if nothing was known of the name.
	arrived time.Time
}

// see notes what is at a name now. An event means that it was written to, even where its stat does not show it.
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
	if changed && e.read { // what was there before was read: this is another file, or more of it
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

// keep drops all names but those that were there when a listing began.
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

// granularity is the shortest time between two checks of what is settling.
const granularity = 5 * time.Millisecond

// offer makes those of the due files ready that still have not changed, and sets the timer to when the next one may be.
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
