package ledger

import (
	"errors"
	"maps"
	"sync"
	"time"
)

// view is the part of a record that is counted. A file that does not exist has the zero view.
type view struct {
	status    Status
	firstSeen time.Time
	arrival   time.Time
	newest    time.Time // when a copy of it was last found
	finished  time.Time
	pending   int
	failed    bool
	imported  bool
	rows      int
	rejected  int
	codes     CodeCounts
	name      string
	problem   string
	readings  int
}

func viewOf(f *File) view {
	v := view{
		status: f.Status, firstSeen: f.FirstSeen, arrival: f.Arrival(), newest: f.FirstSeen, finished: f.Finished, pending: max(f.Pending(), 0),
		failed: f.Failed(), imported: f.Imported, rows: f.Rows, rejected: f.Rejected, codes: maps.Clone(f.Codes),
		name: f.Name, problem: f.Problem, readings: f.Readings,
	}
	for _, p := range f.Copies {
		if p.Found.After(v.newest) {
			v.newest = p.Found
		}
	}

	return v
}

// open reports whether the file still waits, through whether it is done or moved.
func (v view) open() bool    { return v.status == Reading || v.status == Waiting }
func (v view) through() bool { return v.status == Done || v.status == Moved }

// Change is what a commit changed for a file, for metrics and other counters. Noting the same outcome again is no
// change.
type Change struct {
	// Finished reports that the last row of the file got its outcome, Failed that the file belongs to the failed
	// ones.
	Finished bool
	Failed   bool
	// Rows counts the rows by the code that they were given, except those that were settled before the ledger was
	// created.
	Rows map[Code]int
	// Read is set if a new file that is text was read to its end for the first time.
	Read *Read
}

// Read is a file that was read.
type Read struct {
	// Name is the name under which it was first found, Arrived is when that was, and Rows counts its good rows.
	Name    string
	Arrived time.Time
	Rows    int
}

func changed(before, after view) (c Change, some bool) {
	if after.imported || after.status == "" {
		return c, false
	}

	c.Finished, c.Failed = after.through() && !before.through(), after.failed
	for code, n := range after.codes {
		if more := n - before.codes[code]; more > 0 && code != SettledEarlier {
			if c.Rows == nil {
				c.Rows = map[Code]int{}
			}

			c.Rows[code] = more
		}
	}

	if (before.status == "" || before.status == Reading) && after.status != Reading && after.readings == 0 && after.problem == "" {
		c.Read = &Read{Name: after.name, Arrived: after.arrival, Rows: after.rows - after.rejected}
	}

	return c, c.Finished || c.Rows != nil || c.Read != nil
}

// stats keeps the counts that are asked for all the time, so that no request has to walk through all records. Every
// commit updates it. It is safe for concurrent use.
type stats struct {
	mu       sync.Mutex
	open     map[string]view
	newest   time.Time
	day      string // of the latest file that was finished, in the machine's zone
	today    Counts
	doubts   doubts
	onChange func(Change)
	// onConfirm is called after the commit for each row that AtHoc has confirmed.
	onConfirm func(Confirmed)
}

func newStats() *stats {
	return &stats{
		open: map[string]view{}, today: Counts{Codes: CodeCounts{}}, doubts: doubts{recent: map[string]view{}}, onChange: func(Change) {},
		onConfirm: func(Confirmed) {},
	}
}

// Counts counts files and rows.
type Counts struct {
	// Done and Failed count the files by where they go.
	Done, Failed   int
	Rows, Rejected int
	Codes          CodeCounts
}

func (c *Counts) add(v view, sign int) {
	if v.failed {
		c.Failed += sign
	} else {
		c.Done += sign
	}

	c.Rows += sign * v.rows
	c.Rejected += sign * v.rejected
	for code, n := range v.codes {
		c.Codes.add(code, sign*n)
	}
}

// change updates the counts after a record was changed. Removing a file does not undo what was counted today.
func (c *stats) change(id string, before, after view) {
	c.mu.Lock()
	c.note(id, before, after)
	report := c.onChange
	c.mu.Unlock()

	if what, some := changed(before, after); some {
		report(what)
	}
}

func (c *stats) note(id string, before, after view) {
	c.doubts.note(id, before, after)

	was, open := c.open[id]
	if delete(c.open, id); after.open() {
		after.codes = nil                              // not needed for open files
		if open && was.arrival.Before(after.arrival) { // Stats corrects an arrival in the future; keep that
			after.arrival = was.arrival
		}

		c.open[id] = after
	}

	if after.newest.After(c.newest) {
		c.newest = after.newest
	}

	if before.through() && after.status != "" && dayOf(before.finished) == c.day {
		c.today.add(before, -1) // it is counted again below, or was reopened
	}

	if !after.through() {
		return
	}

	day := dayOf(after.finished)
	if day > c.day {
		c.day, c.today = day, Counts{Codes: CodeCounts{}}
	}

	if day == c.day {
		c.today.add(after, 1)
	}
}

func dayOf(t time.Time) string { return t.Local().Format(time.DateOnly) }

// countAll counts what the ledger holds when it is opened. It fails if something in it cannot be read.
func (c *stats) countAll(tx *Tx) error {
	_, err := tx.lastSequence()
	if err = errors.Join(err, tx.Names().Each(func(string, NameEntry) error { return nil })); err != nil {
		return err
	}

	return tx.tx.Bucket(bucketFiles).ForEach(func(k, data []byte) error {
		f, err := decodeFile(k, data)
		if err == nil {
			c.note(f.ID, view{}, f.stored)
		}

		return err
	})
}

// OnChange has fn called for each change, after its commit, one call at a time. Call OnChange before the ledger is
// used; fn must not use the ledger.
func (l *Ledger) OnChange(fn func(Change)) {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()

	l.stats.onChange = fn
}

// Confirmed is a row whose event AtHoc has taken.
type Confirmed struct {
	// File and Name are those of its file, which arrived at Arrived and had stopped changing at Ready.
	File, Name     string
	Arrived, Ready time.Time
	Line           int
	Employee       string
	// AtHoc is how long the event had waited for AtHoc's answer.
	AtHoc time.Duration
}

// OnConfirm has fn called for each row that AtHoc confirms; see OnChange.
func (l *Ledger) OnConfirm(fn func(Confirmed)) {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()

	l.stats.onConfirm = fn
}

// Stats are the counts at one moment.
type Stats struct {
	// Waiting counts the files that are not done, Rows those of their rows that are known to have no outcome yet.
	// Oldest is when the oldest of these files was first read; zero if there is none.
	Waiting int
	Rows    int
	Oldest  time.Time
	// Held counts the waiting files that were read completely and of which every row without an outcome waits for a
	// person's decision. HeldRows counts the rows of all waiting files that do so.
	Held, HeldRows int
	// FirstArrival is when the first of the waiting files that are not held arrived, and FirstFile is its name.
	FirstArrival time.Time
	FirstFile    string
	// Newest is when a copy of any file was last found; zero if none ever was.
	Newest time.Time
	// Today counts what was finished on the day of the request, in the machine's zone.
	Today Counts
	// Doubtful are files that were finished within the last 24 hours and brought no good row, or far fewer than is
	// usual.
	Doubtful []Doubtful
}

// Stats returns the counts now. It costs little, even with many thousands of files. held counts the rows that wait
// for a person's decision, by file. A time that lies after now, because the clock was set back since, is taken as
// now.
func (l *Ledger) Stats(now time.Time, held map[string]int) Stats {
	c := l.stats
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.newest.After(now) {
		c.newest = now
	}

	out := Stats{Waiting: len(c.open), Newest: c.newest, Doubtful: c.doubts.list(now)}
	for id, v := range c.open {
		if v.arrival.After(now) {
			v.arrival = now
			c.open[id] = v
		}

		n := min(held[id], v.pending)
		out.Rows, out.HeldRows = out.Rows+v.pending, out.HeldRows+n
		if out.Oldest.IsZero() || v.firstSeen.Before(out.Oldest) {
			out.Oldest = v.firstSeen
		}

		if n > 0 && n == v.pending && v.status == Waiting {
			out.Held++
		} else if out.FirstArrival.IsZero() || v.arrival.Before(out.FirstArrival) {
			out.FirstArrival, out.FirstFile = v.arrival, v.name
		}
	}

	if dayOf(now) == c.day {
		out.Today = c.today
		out.Today.Codes = maps.Clone(c.today.Codes)
	}

	return out
}
