package watch

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bobosync/services/ingest/internal/files"
)

// Found is a file that has stopped growing.
type Found struct {
	Name string
	Stat files.Stat
	// Arrived is when the file arrived, as well as this is known, Ready when it was seen to have stopped changing.
	Arrived, Ready time.Time
}

// Compare orders files as they should be read: oldest first, then by name.
func (f Found) Compare(g Found) int {
	return cmp.Or(cmp.Compare(f.Stat.Modified, g.Stat.Modified), cmp.Compare(f.Name, g.Name))
}

// Problem is why a name in the directory cannot be read as a file, and since when.
type Problem struct {
	Reason string
	Since  time.Time
	// NoFile reports that it is not a file at all but, say, a directory, so that no rows are missing.
	NoFile bool
}

// state is how far a name has come.
type state int

const (
	settling state = iota
	settled        // waits to be taken
	taken          // nothing to do until it changes
	rejected       // checked again later
)

type entry struct {
	dir     *directory
	state   state
	stat    files.Stat
	since   time.Time // of the last change that was seen
	began   time.Time // of settling
	again   time.Time // when a rejected name is checked again
	pause   time.Duration
	problem Problem // the reason is empty if there is none
	read    bool    // what lies there now was read
	arrived time.Time
	ready   time.Time // when it had settled
}

// Pauses before a name that cannot be read as a file is checked again, if nothing changes meanwhile.
const (
	firstPause = 5 * time.Second
	maxPause   = 5 * time.Minute
)

// Tracker knows how far each name in the directories has come. It is safe for concurrent use.
type Tracker struct {
	settle time.Duration
	log    *slog.Logger
	ready  chan struct{}

	mu          sync.Mutex
	directories []*directory
	entries     map[string]*entry
}

// NewTracker returns a Tracker that does not know any names yet.
func NewTracker(settle time.Duration, log *slog.Logger) *Tracker {
	return &Tracker{settle: settle, log: log, ready: make(chan struct{}, 1), entries: map[string]*entry{}}
}

// add adds a directory whose names begin with a prefix.
func (t *Tracker) add(prefix string) *directory {
	d := &directory{tracker: t, prefix: prefix, timer: time.NewTimer(t.settle), settling: map[string]*entry{}}
	d.timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()

	t.directories = append(t.directories, d)

	return d
}

// Ready returns a channel that receives a value when there may be something to take.
func (t *Tracker) Ready() <-chan struct{} { return t.ready }

func (t *Tracker) signal() {
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// If at least burst files settle within moment, they are read as one lot: the first ones wait for the rest, but at most
// half the settle time. That costs far less, and only one update of each worker is sent.
const (
	burst  = 16
	moment = 100 * time.Millisecond
)

// Take returns the files that have settled, oldest first. It returns each file once, and again after it has changed or
// after a call of Again or Reject. A file is held back while an older one is still settling, but for no longer than the
// settle time: a file that never settles must not hold the others up.
func (t *Tracker) Take() []Found {
	t.mu.Lock()
	defer t.mu.Unlock()

	now := time.Now()
	oldest, settling, soon := t.coming(now)
	var found []Found
	first, held := now, false
	for name, e := range t.entries {
		if e.state != settled {
			continue
		}

		f := Found{Name: name, Stat: e.stat, Arrived: e.arrived, Ready: e.ready}
		if settling && oldest.Compare(f) < 0 && now.Sub(e.since) < 2*t.settle {
			held = true
			continue
		}

		found = append(found, f)

		if e.ready.Before(first) {
			first = e.ready
		}
	}

	if soon > 0 && soon+len(found) >= burst && now.Sub(first) < t.settle/2 {
		found, held = nil, true
	}

	if held {
		time.AfterFunc(moment/4, t.signal)
	}

	for _, f := range found {
		t.entries[f.Name].state = taken
	}

	slices.SortFunc(found, Found.Compare)

	return found
}

// coming returns the settling file that should be read first, whether there is any, and how many files settle within
// moment.
func (t *Tracker) coming(now time.Time) (oldest Found, any bool, soon int) {
	for _, d := range t.directories {
		for name, e := range d.settling {
			if e.state != settling {
				continue
			}

			if f := (Found{Name: name, Stat: e.stat}); !any || f.Compare(oldest) < 0 {
				oldest, any = f, true
			}

			// A file that is long overdue is in a directory that does not answer.
			if left := t.settle - now.Sub(e.since); left.Abs() <= moment {
				soon++
			}
		}
	}

	return oldest, any, soon
}

// Changing returns the files that have not settled, each with the time since when it has been changing.
func (t *Tracker) Changing() map[string]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()

	changing := map[string]time.Time{}
	for _, d := range t.directories {
		for name, e := range d.settling {
			if e.state == settling {
				changing[name] = e.began
			}
		}
	}

	return changing
}

// Problems returns what cannot be read as a file now, by name.
func (t *Tracker) Problems() map[string]Problem {
	t.mu.Lock()
	defer t.mu.Unlock()

	problems := map[string]Problem{}
	for name, e := range t.entries {
		if e.problem.Reason != "" {
			problems[name] = e.problem
		}
	}

	return problems
}

// Again offers again every file that was taken.
func (t *Tracker) Again() {
	t.mu.Lock()
	defer t.mu.Unlock()

	for _, e := range t.entries {
		if e.state == taken {
			e.state = settled
		}
	}

	t.signal()
}

// Reject notes that a taken file cannot be read, unless it has changed since, which offers it again anyway. A rejected
// file is offered again when it changes, or after a pause that gets longer each time.
func (t *Tracker) Reject(name, reason string) {
	t.mu.Lock()

	e, known := t.entries[name]
	known = known && e.state != settling
	first := known && e.reject(reason, time.Now())
	if known {
		e.problem.NoFile = false
	}
	t.mu.Unlock()

	if first {
		warn(t.log, name, reason)
	}
}

// Rejected reports whether the file under a name could not be read at the last check.
func (t *Tracker) Rejected(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	e, known := t.entries[name]

	return known && e.state == rejected
}

// Accept notes that a taken file was read, unless it has changed since.
func (t *Tracker) Accept(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if e, known := t.entries[name]; known && e.state == taken {
		e.problem, e.pause, e.read = Problem{}, 0, true
	}
}

// Backlog counts the files that were found but not read yet, except those that cannot be read. It also returns since
// when the first of them has been there.
func (t *Tracker) Backlog() (n int, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()

	for _, e := range t.entries {
		if e.read || e.problem.Reason != "" {
			continue
		}

		if n++; since.IsZero() || e.began.Before(since) {
			since = e.began
		}
	}

	return n, since
}

// Arrivals returns the files that were found but not read yet, in the order of arrival. Files that cannot be read are
// included: their rows have no outcome. All arrivals up to listed are known; it is zero if one of the directories was
// never listed.
func (t *Tracker) Arrivals() (unread []Found, listed time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()

	now := time.Now()
	for name, e := range t.entries {
		if e.arrived.After(now) { // by a clock that was set back since
			e.arrived = now
		}

		if !e.read && (e.problem.Reason == "" || !e.problem.NoFile) {
			unread = append(unread, Found{Name: name, Stat: e.stat, Arrived: e.arrived})
		}
	}

	slices.SortFunc(unread, func(a, b Found) int { return cmp.Or(a.Arrived.Compare(b.Arrived), a.Compare(b)) })

	for i, d := range t.directories {
		if i == 0 || d.listed.Before(listed) {
			listed = d.listed
		}
	}

	return unread, listed
}

// Waits reports whether the directory with this prefix has a readable file that arrived before a given time and is
// still unread.
func (t *Tracker) Waits(prefix string, before time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	for _, e := range t.entries {
		if e.dir.prefix == prefix && !e.read && e.problem.Reason == "" && e.arrived.Before(before) {
			return true
		}
	}

	return false
}

// Retry notes that a taken file was not read: it is offered again once it has settled again.
func (t *Tracker) Retry(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if e, known := t.entries[name]; known && e.state == taken {
		e.read = false
		e.stat = files.Stat{} // the next check, by an event or a listing, finds it changed
		e.state = settling
	}
}

// reject notes a problem and reports whether it is a new one.
func (e *entry) reject(reason string, now time.Time) bool {
	first := e.problem.Reason != reason
	if e.problem.Reason == "" {
		e.problem.Since = now
	}

	e.problem.Reason = reason
	e.pause = min(max(2*e.pause, firstPause), maxPause)
	e.state, e.again = rejected, now.Add(e.pause)

	return first
}

func warn(log *slog.Logger, name, reason string) {
	log.Warn("cannot be read as a file, left where it is", "file", name, "reason", reason)
}
