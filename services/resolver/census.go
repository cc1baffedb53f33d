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
	// mapping is the one in force.
	mapping *directory
	// recovered says that the memory is complete.
	recovered bool
}

// brief is what counts of one worker.
type brief struct {
	// at is the latest event's time in Unix seconds, and on says that it is a booking on.
	at int64
	on bool
	// mapped says that the mapping in force has a user for the worker.
	mapped bool
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
	b.mapped = c.mapping.users[employee] != ""
	c.workers[employee] = b
}

// begin forgets everything.
func (c *census) begin(d *directory, recovered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers, c.mapping, c.recovered = map[string]brief{}, d, recovered
}

// remap takes another mapping in.
func (c *census) remap(d *directory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mapping = d
	for employee, b := range c.workers {
		b.mapped = d.users[employee] != ""
		c.workers[employee] = b
	}
}

func (c *census) recover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recovered = true
}

// count adds everything up. A worker without a user waits for no confirmation: what was sent to a former user is nobody's now.
func (c *census) count(now time.Time, rules latest.Rules) control.ResolverState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := control.ResolverState{
		Recovered: c.recovered, Workers: len(c.workers), Snapshot: c.mapping.snapshot, Mapped: len(c.mapping.users),
	}
	oldest := int64(0)
	for _, b := range c.workers {
		if b.on && !rules.Stale(true, b.at, now) {
			s.OnDuty++
		}
		if !b.mapped {
			s.Unmapped++
		}
		switch {
		case b.unresolved:
			s.Unresolved++
		case b.unconfirmed && b.mapped:
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
	s := r.census.count(r.now(), r.rules)
	s.Instance = control.Me(r.version, r.started)
	all, err := r.memory.Replays()
	for _, replay := range all {
		if replay.Ended.IsZero() {
			s.Replays++
		}
	}
	return s, err
}
