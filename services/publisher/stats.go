package publisher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/control"
)

// stats is a publisher's statistics of its work, for operators. It is safe for concurrent use.
type stats struct {
	mu    sync.Mutex
	state control.PublisherState
}

// newStats returns the stats of an instance whose calls take a given number of users at most.
func newStats(me control.Instance, most int, rate float64, insecure []string) *stats {
	return &stats{state: control.PublisherState{Instance: me, Partitions: []int{}, BatchSize: most, RateLimit: rate, Insecure: insecure}}
}

// get returns a copy of the state.
func (r *stats) get() control.PublisherState {
	r.mu.Lock()
	defer r.mu.Unlock()

	s := r.state
	s.Partitions = slices.Clone(s.Partitions)

	return s
}

// leased notes a partition that was leased.
func (r *stats) leased(number int) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if at, there := slices.BinarySearch(r.state.Partitions, number); !there {
		r.state.Partitions = slices.Insert(r.state.Partitions, at, number)
	}
}

// released notes partitions that are not held any more.
func (r *stats) released(numbers ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.state.Partitions = slices.DeleteFunc(r.state.Partitions, func(number int) bool { return slices.Contains(numbers, number) })
}

// releasedAll notes that a session begins: the leases of the previous one expire by themselves.
func (r *stats) releasedAll() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.state.Partitions = []int{}
}

// callBegan notes that a call with the given number of users begins.
func (r *stats) callBegan(users int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.state.Calling = now.UTC()
	r.state.Calls++
	r.state.Users += int64(users)
}

// callEnded notes how the call ended. A call that was canceled because the program is being stopped does not count.
func (r *stats) callEnded(err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.state.Calling = time.Time{}
	call, isCall := errors.AsType[*athoc.CallError](err)
	switch {
	case err == nil:
		r.state.LastSuccess = now.UTC()
	case isCall && call.Kind == athoc.Canceled:
	case isCall:
		r.state.LastFailure, r.state.Failure = now.UTC(), call.Error()
	default:
		r.state.LastFailure, r.state.Failure = now.UTC(), "a call failed in an unknown way" // its text may name a person
	}
}

// setLimit notes the most users that AtHoc takes in a call.
func (r *stats) setLimit(most int) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.state.BatchSize = most
}

// state reports to operators how this publisher is doing.
func (p *publisher) state(ctx context.Context, _ control.Nothing) (control.PublisherState, error) {
	s := p.stats.get()
	s.Unstored, s.Restored, s.Refused = p.deps.Conn.Unstored(), p.deps.Conn.Restored(), p.refusals.list(p.now())
	var err error
	if s.Breaker, err = p.breaker.State(ctx); err != nil {
		return s, err
	}

	_, err = p.breaker.Pauses().Last(ctx) // so that a lost pause is noticed even if there is nothing to send
	s.PauseLost = p.pauses.Lost(p.breaker.Now())

	return s, err
}
