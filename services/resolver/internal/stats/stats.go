// Package stats counts workers.
package stats

import (
	"strings"
	"sync"
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/control"
	"bobosync/shared/mapping"
)

// Stats counts the workers, in memory and under a lock of its own, since it is queried every second or two, even while
// a large batch is being resolved. It is safe for concurrent use.
type Stats struct {
	mu      sync.Mutex
	workers map[string]brief
	// strangers counts the workers who are strangers (see latest.Worker), and sentOn those whom AtHoc was last sent as
	// on duty.
	strangers, sentOn int
	// mapping is the mapping in force.
	mapping *mapping.Index
	// recovered says that the state store is complete; recovering is since when it is not.
	recovered  bool
	recovering time.Time
}

// brief is what is counted of one worker.
type brief struct {
	// at is the latest event's time in Unix seconds; on says that the event is a booking on.
	at int64
	on bool
	// mapped says that the mapping in force has a user for the worker.
	mapped bool
	// unresolved says that the latest event is held back, but not for a person's decision; unconfirmed, that the last
	// update has no answer yet.
	unresolved, unconfirmed bool
	// stranger is latest.Worker.Stranger, and sentOn is latest.Worker.SentOn.
	stranger, sentOn bool
}

// Begin forgets all workers, and sets the mapping in force and whether the state store is complete.
func (s *Stats) Begin(m *mapping.Index, recovered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.workers, s.strangers, s.sentOn, s.mapping = map[string]brief{}, 0, 0, m
	s.setRecovered(recovered)
}

// Note counts a worker in the state in which it was saved.
func (s *Stats) Note(employee string, w latest.Worker) {
	if !w.Known() {
		s.Forget([]string{employee}) // its only event was rejected
		return
	}

	b := brief{
		at: w.Latest.At, on: w.Latest.On, unresolved: w.Unresolved && w.Hold == nil, unconfirmed: w.Unconfirmed(), stranger: w.Stranger(),
		sentOn: w.SentOn(),
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	b.mapped = s.mapping.User(employee) != ""
	before, there := s.workers[employee]
	if !there {
		employee = strings.Clone(employee) // it may be a substring of a whole message, which it would keep in memory
	}

	s.workers[employee] = b
	s.strangers += number(b.stranger) - number(before.stranger)
	s.sentOn += number(b.sentOn) - number(before.sentOn)
}

func number(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Strangers returns the number of workers who may be invented.
func (s *Stats) Strangers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strangers
}

// SentOn returns the number of workers whom AtHoc was last sent as on duty.
func (s *Stats) SentOn() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sentOn
}

// Forget drops workers.
func (s *Stats) Forget(employees []string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, employee := range employees {
		s.strangers -= number(s.workers[employee].stranger)
		s.sentOn -= number(s.workers[employee].sentOn)
		delete(s.workers, employee)
	}
}

// Remap switches to another mapping.
func (s *Stats) Remap(m *mapping.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.mapping = m
	for employee, b := range s.workers {
		b.mapped = m.User(employee) != ""
		s.workers[employee] = b
	}
}

// SetRecovered records whether the state store is complete.
func (s *Stats) SetRecovered(recovered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.setRecovered(recovered)
}

func (s *Stats) setRecovered(recovered bool) {
	if s.recovered = recovered; recovered {
		s.recovering = time.Time{}
	} else if s.recovering.IsZero() {
		s.recovering = time.Now().UTC()
	}
}

// Count adds everything up. A worker without a user does not wait for a confirmation: what was sent to a former user no
// longer counts.
func (s *Stats) Count(now time.Time, rules latest.Rules) control.ResolverState {
	s.mu.Lock()
	defer s.mu.Unlock()

	state := control.ResolverState{
		Recovered: s.recovered, Recovering: s.recovering, Workers: len(s.workers), Snapshot: s.mapping.Snapshot(), Mapped: s.mapping.Len(),
	}
	oldest := int64(0)
	for _, b := range s.workers {
		if b.on && !rules.Stale(true, b.at, now) {
			state.OnDuty++
		}

		if !b.mapped {
			state.Unmapped++
		}

		switch {
		case b.unresolved:
			state.Unresolved++
		case b.unconfirmed && b.mapped:
			state.Unconfirmed++
		default:
			continue
		}

		if oldest == 0 || b.at < oldest {
			oldest = b.at
		}
	}

	if oldest != 0 {
		state.Oldest = time.Unix(oldest, 0).UTC()
	}

	return state
}
