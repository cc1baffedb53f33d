package breaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/pause"
)

// Key is where the state lies in its bucket.
const Key = "athoc.brake"

// look is how often a waiter looks whether things have changed.
const look = time.Second

// Breaker is the circuit breaker that all callers share, through a key-value bucket. It is safe for concurrent use.
//
// Its moments are of the broker's clock, so that replicas whose clocks differ keep one rate.
type Breaker struct {
	kv     jetstream.KeyValue
	limits Limits
	clock  *clock
	log    *slog.Logger
}

// New returns the circuit breaker whose state lies in kv.
func New(ctx context.Context, kv jetstream.KeyValue, limits Limits, log *slog.Logger) (*Breaker, error) {
	c, err := newClock(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("read the broker's clock: %w", err)
	}
	b := &Breaker{kv: kv, limits: limits, clock: c, log: log}
	err = b.change(ctx, func(s State) (State, bool) {
		next := s.SettingsChanged(c.now(), limits)
		return next, next != s
	})
	if err != nil {
		return nil, fmt.Errorf("look at the circuit breaker: %w", err)
	}
	return b, nil
}

// State returns the circuit breaker's state as it is now.
func (b *Breaker) State(ctx context.Context) (State, error) {
	s, _, err := b.load(ctx)
	return s, err
}

// Clear says whether calls are let through, apart from the rate limit, or a probe is due. It changes nothing, so a caller
// can find out before it prepares a call.
func (b *Breaker) Clear(ctx context.Context) (bool, error) {
	s, err := b.State(ctx)
	if err != nil {
		return false, err
	}
	if !s.Open() {
		return true, nil
	}
	_, _, wait := s.Ask(b.clock.now(), b.limits)
	return wait <= 0, nil
}

// Wait returns when a call may be made. It fails if ctx ends or the broker cannot be asked.
func (b *Breaker) Wait(ctx context.Context) (Permit, error) {
	var permit Permit
	err := b.await(ctx, func(s State) (next State, wait time.Duration) {
		next, permit, wait = s.Ask(b.clock.now(), b.limits)
		return next, wait
	})
	return permit, err
}

// Pace returns when a call that Wait has let through may be repeated, by the rate alone.
func (b *Breaker) Pace(ctx context.Context) error {
	return b.await(ctx, func(s State) (State, time.Duration) { return s.Pace(b.clock.now(), b.limits) })
}

// await asks again and again until there is nothing to wait for.
func (b *Breaker) await(ctx context.Context, ask func(State) (State, time.Duration)) error {
	for {
		var wait time.Duration
		err := b.change(ctx, func(s State) (next State, store bool) {
			next, wait = ask(s)
			return next, wait <= 0
		})
		if err != nil {
			return fmt.Errorf("ask the circuit breaker for a call to AtHoc: %w", err)
		}
		if wait <= 0 {
			return nil
		}
		if err := pause.For(ctx, min(wait, look)); err != nil {
			return err
		}
	}
}

// Report tells how a call went that Wait had let through, and logs when trouble begins, once a minute while it lasts, and when
// it ends: all callers that share the circuit breaker together, each line once. Cause is for the operator
// and holds no personal data.
func (b *Breaker) Report(ctx context.Context, p Permit, class FailureClass, cause string, retryAfter time.Duration) error {
	var before, after State
	var lines []line
	err := b.change(ctx, func(s State) (State, bool) {
		now := b.clock.now()
		before, after = s, s.Report(now, p, class, cause, retryAfter, rand.Float64())
		after, lines = after.tell(before, now, class)
		if after.Class == Refused {
			after.Settings = b.limits.Settings
		}
		return after, after != before
	})
	if err != nil {
		return fmt.Errorf("report a call to the circuit breaker: %w", err)
	}
	for _, l := range lines {
		b.log.Log(ctx, l.level, l.text, l.args...)
	}
	return nil
}

// Release returns a permit that was not used, so that a probe need not be waited for.
func (b *Breaker) Release(ctx context.Context, p Permit) error {
	if !p.Probe {
		return nil
	}
	err := b.change(ctx, func(s State) (State, bool) {
		if s.Generation != p.Generation {
			return s, false
		}
		s.ProbeUntil = time.Time{}
		return s, true
	})
	if err != nil {
		return fmt.Errorf("give a permit back to the circuit breaker: %w", err)
	}
	return nil
}

// change applies f to the state until no other caller has come between. F says whether there is something to store.
func (b *Breaker) change(ctx context.Context, f func(State) (State, bool)) error {
	for {
		s, revision, err := b.load(ctx)
		if err != nil {
			return err
		}
		next, store := f(s)
		if !store {
			return nil
		}
		data, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("write the state: %w", err)
		}
		if revision == 0 {
			_, err = b.kv.Create(ctx, Key, data)
		} else {
			_, err = b.kv.Update(ctx, Key, data, revision)
		}
		switch {
		case err == nil:
			return nil
		case conflict(err):
			continue
		default:
			return fmt.Errorf("store the state: %w", err)
		}
	}
}

func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // of replicated streams
}

func (b *Breaker) load(ctx context.Context) (State, uint64, error) {
	entry, err := b.kv.Get(ctx, Key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return State{}, 0, nil
	}
	if err != nil {
		return State{}, 0, fmt.Errorf("read the state: %w", err)
	}
	var s State
	if err := json.Unmarshal(entry.Value(), &s); err != nil {
		b.log.Warn("the breaker's state cannot be read and is begun afresh", "error", err)
		return State{}, entry.Revision(), nil
	}
	return s.withoutFar(b.clock.now(), b.limits), entry.Revision(), nil
}
