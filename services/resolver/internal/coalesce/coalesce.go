// Package coalesce decides when a worker's latest status is published. The table of updates keeps one update for each user, and AtHoc
// takes so many users a second: what is published sooner than AtHoc can take it, or before the next row of the same worker is read that
// is there already, costs a call that says what is outdated. All of it is pure.
package coalesce

import (
	"cmp"
	"slices"
)

// Entries is how far the entries have been read.
type Entries struct {
	// Read is the sequence of the last one read, and Behind: there are more to read.
	Read   uint64
	Behind bool
	// Partial are the files of which more is to come.
	Partial map[string]bool
	// Ahead are the files of the lot that is being read whose successors in it are not in the stream yet, and Lot is its number.
	Ahead map[string]bool
	Lot   uint64
}

// Holds reports whether a worker waits for more entries: the latest event is from that file, and when the worker became unresolved until
// was the sequence of the last entry that was there, and lot the one being read. So a growing backlog makes no worker wait longer.
func (e Entries) Holds(file string, until, lot uint64) bool {
	return e.Partial[file] || e.Behind && e.Read < until || e.Lot == lot && e.Ahead[file]
}

// Candidate is a worker for whom an update could be published; Rank is the latest event's time.
type Candidate struct {
	Employee string
	Rank     int64
}

// Queue are the workers whose updates wait for room. It is sorted once, however often some of them are taken. It is not safe for
// concurrent use.
type Queue struct {
	candidates []Candidate
	sorted     bool
}

// NewQueue makes a line, which keeps the slice.
func NewQueue(candidates []Candidate) *Queue { return &Queue{candidates: candidates} }

// Len is how many wait.
func (q *Queue) Len() int { return len(q.candidates) }

// Take takes the workers whose updates are published next from the line, at most room of them: mostly the newest, which people watch, but
// a quarter are the oldest, so that none waits for ever.
func (q *Queue) Take(room int) []Candidate {
	all := q.candidates
	if room >= len(all) {
		q.candidates = nil
		return all
	}

	if room <= 0 {
		return nil
	}

	if !q.sorted {
		slices.SortFunc(all, func(a, b Candidate) int {
			return cmp.Or(cmp.Compare(b.Rank, a.Rank), cmp.Compare(a.Employee, b.Employee))
		})

		q.sorted = true
	}

	newest, oldest := room-room/4, len(all)-room/4
	q.candidates = all[newest:oldest]

	return append(all[:newest:newest], all[oldest:]...)
}
