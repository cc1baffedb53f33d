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

// record is what a publisher remembers of its work, for operators. It is safe for concurrent use.
type record struct {
	mu    sync.Mutex
	state control.PublisherState
}

// newRecord begins a record of an instance whose calls take so many users at most.
func newRecord(me control.Instance, most int, rate float64, insecure []string) *record {
	return &record{state: control.PublisherState{Instance: me, Lanes: []int{}, BatchSize: most, RateLimit: rate, Insecure: insecure}}
}

// get returns a copy.
func (r *record) get() control.PublisherState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Lanes = slices.Clone(s.Lanes)
	return s
}

// holds notes a lane that was leased.
func (r *record) holds(lane int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, there := slices.BinarySearch(r.state.Lanes, lane); !there {
		r.state.Lanes = slices.Insert(r.state.Lanes, at, lane)
	}
}

// frees notes lanes that are not held any more.
func (r *record) frees(lanes ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Lanes = slices.DeleteFunc(r.state.Lanes, func(lane int) bool { return slices.Contains(lanes, lane) })
}

// holdsNone notes that a session begins: what the one before held ends by itself.
func (r *record) holdsNone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Lanes = []int{}
}

// calls notes that a call with so many users begins.
func (r *record) calls(users int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Calling = now.UTC()
	r.state.Calls++
	r.state.Users += int64(users)
}

// called notes how the call ended. That the program was told to stop says nothing.
func (r *record) called(err error, now time.Time) {
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

// takes notes the most users that AtHoc takes in a call.
func (r *record) takes(most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.BatchSize = most
}

// state tells operators how this publisher is doing.
func (p *publisher) state(ctx context.Context, _ control.Nothing) (control.PublisherState, error) {
	s := p.record.get()
	s.Unstored, s.Restored, s.Refused = p.deps.Conn.Unstored(), p.deps.Conn.Restored(), p.refusals.list(p.now())
	var err error
	if s.Breaker, err = p.breaker.State(ctx); err != nil {
		return s, err
	}
	_, err = p.breaker.Paused(ctx) // so that one that was lost is noted also if nothing is to be sent
	s.PauseLost = p.pauses.Lost(p.breaker.Now())
	return s, err
}
