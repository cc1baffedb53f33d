package mover

// This file keeps which files have to be moved, and when.

import (
	"sync"
	"time"
)

// movesPerCommit is the most files that are moved per commit of the ledger. If a crash keeps moves from being recorded,
// the next run recognizes their results: see files.Move.Resumed.
const movesPerCommit = 256

// queue holds the files that wait to be moved. It is safe for concurrent use.
type queue struct {
	wake chan struct{} // receives a value when a file is put

	mu   sync.Mutex
	jobs map[string]*job // by the file's id
}

// job is a file that has to be moved.
type job struct {
	// resumed: an earlier attempt may have been cut off.
	resumed bool
	due     time.Time
	pause   time.Duration // after the last failure
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1), jobs: map[string]*job{}} }

func (q *queue) put(id string, j *job) {
	q.mu.Lock()
	if old := q.jobs[id]; old != nil {
		j.resumed = j.resumed || old.resumed
	}

	q.jobs[id] = j
	q.mu.Unlock()

	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take removes up to movesPerCommit due files from the queue and returns them, with how long it is until the next one
// is due.
func (q *queue) take() (some map[string]*job, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()

	now := time.Now()
	some, wait = map[string]*job{}, time.Hour
	for id, j := range q.jobs {
		if left := j.due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}

		if len(some) == movesPerCommit {
			break
		}

		some[id] = j
		delete(q.jobs, id)
	}

	return some, wait
}

// again returns a job that tries the file once more, after a pause that gets longer each time.
func (j *job) again(first, longest time.Duration) *job {
	pause := min(max(2*j.pause, first), longest)
	return &job{resumed: j.resumed, pause: pause, due: time.Now().Add(pause)}
}
