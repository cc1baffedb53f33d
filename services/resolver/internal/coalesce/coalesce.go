// Package coalesce decides when a worker's latest status is published. The table of updates keeps one update for each
// user, and AtHoc takes only so many users a second. An update that is published before AtHoc can take it, or while the
// worker's next row is already there but not read yet, costs a call that carries an outdated status. The package does
// no I/O.
package coalesce

import (
	"cmp"
	"slices"
)

// Entries says how far the entries have been read.
type Entries struct {
	// Read is the sequence of the last entry read; Behind reports whether there are more to read.
	Read   uint64
	Behind bool
	// Partial holds the files of which more is to come.
	Partial map[string]bool
	// Ahead holds the files of the lot being read whose successors in that lot are not in the stream yet; Lot is the
	// number of that lot.
	Ahead map[string]bool
	Lot   uint64
}

// Holds reports whether a worker waits for more entries. file is the file of the worker's latest event. until and lot
// date from the moment when the worker became unresolved: until is the sequence of the last entry in the stream at that
// time, lot the lot that was being read. So a growing backlog makes no worker wait longer.
func (e Entries) Holds(file string, until, lot uint64) bool {
	return e.Partial[file] || e.Behind && e.Read < until || e.Lot == lot && e.Ahead[file]
}

// Candidate is a worker for whom an update could be published. Rank is the time of the worker's latest event.
type Candidate struct {
	Employee string
	Rank     int64
}

// Queue holds the workers whose updates wait for room. It is sorted once, however often some of them are taken. It is
// not safe for concurrent use.
type Queue struct {
	candidates []Candidate
	sorted     bool
}

// NewQueue returns a queue of the candidates. It keeps the slice.
func NewQueue(candidates []Candidate) *Queue { return &Queue{candidates: candidates} }

// Len returns how many workers wait.
func (q *Queue) Len() int { return len(q.candidates) }

// Take removes and returns the workers whose updates are published next, at most room of them: mostly those with the
// newest events, which people watch, but a quarter are those with the oldest, so that no worker waits forever.
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
