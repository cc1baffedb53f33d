package resolver

import (
	"context"
	"sync"
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/control"
)

// census is what there is to count of the workers, in memory and under a lock of its own: it is asked for every second or two,
// also while a large batch is being resolved.
type census struct {
	mu      sync.Mutex
	workers map[string]brief
	// recovered says that the memory is complete.
	recovered bool
}

// brief is what counts of one worker.
type brief struct {
	// at is the latest event's time in Unix seconds, and on says that it is a booking on.
	at int64
	on bool
	// unresolved says that it is held back, unconfirmed that the last update has no answer yet.
	unresolved, unconfirmed bool
}

// note takes a worker in as it was saved.
func (c *census) note(employee string, w latest.Worker) {
	if !w.Known() {
		return
	}
	b := brief{at: w.Latest.At, on: w.Latest.On, unresolved: w.Dirty, unconfirmed: w.Unconfirmed()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[employee] = b
}

// begin forgets everything.
func (c *census) begin(recovered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers, c.recovered = map[string]brief{}, recovered
}

func (c *census) recover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recovered = true
}

// count adds everything up. A worker without a user waits for no confirmation: what was sent to a former user is nobody's now.
func (c *census) count(d *directory, now time.Time, rules latest.Rules) control.ResolverState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := control.ResolverState{Recovered: c.recovered, Workers: len(c.workers), Snapshot: d.snapshot, Mapped: len(d.users)}
	oldest := int64(0)
	for employee, b := range c.workers {
		mapped := d.users[employee] != ""
		if b.on && !rules.Stale(true, b.at, now) {
			s.OnDuty++
		}
		if !mapped {
			s.Unmapped++
		}
		switch {
		case b.unresolved:
			s.Unresolved++
		case b.unconfirmed && mapped:
			s.Unconfirmed++
		default:
			continue
		}
		if oldest == 0 || b.at < oldest {
			oldest = b.at
		}
	}
	if oldest != 0 {
		s.Oldest = time.Unix(oldest, 0).UTC()
	}
	return s
}

// state answers how the resolver is doing. It waits for nothing that is being resolved.
func (r *resolver) state(context.Context, control.Nothing) (control.ResolverState, error) {
	s := r.census.count(r.directory.Load(), r.now(), r.rules)
	s.Instance = control.Me(r.version, r.started)
	all, err := r.memory.Replays()
	for _, replay := range all {
		if replay.Ended.IsZero() {
			s.Replays++
		}
	}
	return s, err
}
