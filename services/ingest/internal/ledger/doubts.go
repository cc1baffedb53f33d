package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// doubtTime is how long a file stays doubtful.
	doubtTime = 24 * time.Hour
	// A file is doubtful if at least doubtRows of its rows are rejected, and if their share of its rows is greater
	// than doubtShare and greater than doubtTimes the usual share.
	doubtRows, doubtShare, doubtTimes = 5, 0.1, 5
	// maxDoubts bounds how many files doubts remembers.
	maxDoubts = 1000
)

// Doubtful is a file of whose rows none, or unusually few, were good.
type Doubtful struct {
	ID, Name       string
	Reason         string
	Finished       time.Time
	Rows, Rejected int
}

// doubts remembers which files brought rejected rows. It is guarded by the mutex of the stats that hold it.
type doubts struct {
	recent         map[string]view
	rows, rejected int // of all files that brought a good row, to know the usual share
}

// bad returns how many rows were rejected because of their content.
func (v view) bad() int { return v.rejected - v.codes[Vanished] }

func (d *doubts) note(id string, before, after view) {
	d.count(before, -1)
	d.count(after, 1)
	delete(d.recent, id)

	if !after.through() || after.imported || after.problem == "" && after.bad() == 0 {
		return
	}

	if len(d.recent) >= maxDoubts {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(d.recent)), func(a, b string) int {
			return d.recent[a].finished.Compare(d.recent[b].finished)
		})
		delete(d.recent, oldest)
	}

	d.recent[id] = after
}

func (d *doubts) count(v view, sign int) {
	if v.through() && v.bad() < v.rows {
		d.rows += sign * v.rows
		d.rejected += sign * v.bad()
	}
}

// list returns the doubtful files, the latest first. It drops files that were finished more than doubtTime ago.
func (d *doubts) list(now time.Time) []Doubtful {
	maps.DeleteFunc(d.recent, func(_ string, v view) bool { return now.Sub(v.finished) > doubtTime })

	var all []Doubtful
	for id, v := range d.recent {
		rows, rejected := d.rows, d.rejected
		if v.bad() < v.rows { // only the other files show what is usual
			rows, rejected = rows-v.rows, rejected-v.bad()
		}

		if reason := doubt(v, rows, rejected); reason != "" {
			all = append(all, Doubtful{ID: id, Name: v.name, Reason: reason, Finished: v.finished, Rows: v.rows, Rejected: v.bad()})
		}
	}

	slices.SortFunc(all, func(a, b Doubtful) int { return cmp.Or(b.Finished.Compare(a.Finished), cmp.Compare(a.ID, b.ID)) })

	return all
}

// doubt returns why a file is doubtful, or "" if it is not. rows and rejected count the rows of the other files,
// which show what is usual.
func doubt(v view, rows, rejected int) string {
	usual := float64(rejected) / max(float64(rows), 1)
	share := float64(v.bad()) / max(float64(v.rows), 1)
	switch {
	case v.problem != "":
		return v.problem
	case v.bad() > 0 && v.bad() == v.rows:
		return fmt.Sprintf("none of its %d rows is good; mostly: %s", v.rows, v.mostly())
	case v.bad() >= doubtRows && share > max(doubtShare, doubtTimes*usual):
		return fmt.Sprintf("%.0f %% of its rows are rejected, %.0f %% are usual; mostly: %s", 100*share, 100*usual, v.mostly())
	}

	return ""
}

// mostly explains the most frequent reason of the rejected rows.
func (v view) mostly() string {
	var most Code
	for _, code := range slices.Sorted(maps.Keys(v.codes)) {
		if code.Rejected() && code != Vanished && (most == 0 || v.codes[code] > v.codes[most]) {
			most = code
		}
	}

	return most.Text()
}
