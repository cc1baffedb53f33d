package breaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/athoc"
	"bobosync/shared/pause"
)

// pollInterval is how often a waiting caller checks whether things have changed.
const pollInterval = time.Second

// Probe makes a small search to find out whether AtHoc is there. See [athoc.Client.Ping].
type Probe func(ctx context.Context) error

// Breaker is the circuit breaker that all callers share, through a key-value bucket. It is safe for concurrent use.
//
// Its times are by the broker's clock, so that replicas whose clocks differ keep one common rate.
type Breaker struct {
	store  *store
	pauses *Pauses
	limits Limits
	probe  Probe
	clock  *clock
	log    *slog.Logger
}

// New returns the circuit breaker whose state lies in kv. Its callers' own calls are the probes, unless
// [Breaker.ProbeWith] makes it probe with searches.
func New(ctx context.Context, kv jetstream.KeyValue, limits Limits, log *slog.Logger) (*Breaker, error) {
	c, err := newClock(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("read the broker's clock: %w", err)
	}

	b := &Breaker{
		store: &store{kv, limits, c, log}, pauses: &Pauses{kv, c, log, &PauseHistory{}}, limits: limits, clock: c, log: log,
	}

	err = b.store.change(ctx, "look at the circuit breaker", func(s State) State { return s.SettingsChanged(c.now(), limits) })
	if err != nil {
		return nil, err
	}

	return b, nil
}

// ProbeWith makes the circuit breaker make the probes itself, as searches. It must be called before the first call is
// asked for.
func (b *Breaker) ProbeWith(p Probe) { b.probe, b.limits.search = p, true }

// Pauses returns the orders of operators not to call AtHoc for a while.
func (b *Breaker) Pauses() *Pauses { return b.pauses }

// State returns the circuit breaker's state as it is now.
func (b *Breaker) State(ctx context.Context) (State, error) { return b.store.load(ctx) }

// Clear returns the state, and reports whether calls are let through, apart from the rate limit; during a pause they
// are not. If a search is due as a probe, Clear makes it. If the probe must be an update, it is left to the caller,
// which is then let through. Clear lets a caller find out before it prepares a call.
func (b *Breaker) Clear(ctx context.Context) (State, bool, error) {
	s, err := b.State(ctx)
	if err != nil {
		return s, false, err
	}

	if stopped, err := b.pauses.stopped(ctx, b.limits.Updates); err != nil || stopped {
		return s, false, err
	}

	if !s.Open() {
		return s, true, nil
	}

	_, permit, wait := s.Ask(b.clock.now(), b.limits)
	if wait > 0 || !permit.Search {
		return s, wait <= 0, nil
	}

	if permit, wait, err = b.ask(ctx); err != nil || wait > 0 {
		return s, false, err
	}

	if permit.Search {
		if err := b.search(ctx, permit); err != nil && !errors.Is(err, errProbe) {
			return s, false, err
		}
	} else if err := b.Release(ctx, permit); err != nil { // somebody else has come in between
		return s, false, err
	}

	s, err = b.State(ctx)

	return s, err == nil && !s.Open(), err
}

// asking is how errors name the request for a call.
const asking = "ask the circuit breaker for a call to AtHoc"

// ask requests a permit. It returns how long to wait if there is none.
func (b *Breaker) ask(ctx context.Context) (permit Permit, wait time.Duration, err error) {
	if stopped, err := b.pauses.stopped(ctx, b.limits.Updates); err != nil || stopped {
		return Permit{}, pollInterval, err
	}

	err = b.store.change(ctx, asking, func(s State) (next State) {
		if next, permit, wait = s.Ask(b.clock.now(), b.limits); wait > 0 {
			return s
		}
		return next
	})

	return permit, wait, err
}

// errProbe means that AtHoc did not answer a probe as it should.
var errProbe = errors.New("AtHoc is still not there")

// search makes the search for which the permit was given, and reports how it went. If AtHoc is not there, its error
// wraps errProbe and the cause.
func (b *Breaker) search(ctx context.Context, p Permit) error {
	limited, cancel := context.WithTimeout(ctx, p.Deadline)
	defer cancel()

	err := b.probe(limited)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), b.Settle(ctx, p, &athoc.CallError{Kind: athoc.Canceled, Op: athoc.OpSearch}))
	}

	call, isCall := errors.AsType[*athoc.CallError](err)
	if !isCall || call.Op == athoc.OpToken || call.Kind == athoc.Outage || call.Kind == athoc.Throttled || call.Kind == athoc.Canceled {
		if settleErr := b.Settle(ctx, p, err); settleErr != nil || err == nil {
			return settleErr
		}
		return fmt.Errorf("%w: %w", errProbe, err)
	}

	return b.store.update(ctx, func(s State) State { return s.unsearchable(b.clock.now(), p) })
}

// Wait returns once a call may be made, which is never before the end of a pause. It fails if ctx ends or the broker
// cannot be asked. If AtHoc did not answer the probe that was due, its error wraps a [*athoc.CallError].
func (b *Breaker) Wait(ctx context.Context) (Permit, error) {
	for {
		permit, wait, err := b.ask(ctx)
		switch {
		case err != nil:
			return Permit{}, err
		case wait <= 0 && !permit.Search:
			return permit, nil
		case wait <= 0:
			err = b.search(ctx, permit)
		default:
			err = pause.For(ctx, min(wait, pollInterval))
		}

		if err != nil {
			return Permit{}, err
		}
	}
}

// Pace waits until a call that Wait has let through may be repeated. Only the rate holds it back.
func (b *Breaker) Pace(ctx context.Context) error {
	for {
		var wait time.Duration
		err := b.store.change(ctx, asking, func(s State) (next State) {
			if next, wait = s.Pace(b.clock.now(), b.limits); wait > 0 {
				return s
			}
			return next
		})
		if err != nil || wait <= 0 {
			return err
		}

		if err := pause.For(ctx, min(wait, pollInterval)); err != nil {
			return err
		}
	}
}

// Answered records an update that AtHoc has answered for each of its users.
func (b *Breaker) Answered(ctx context.Context, u Update) error {
	var before, after State

	err := b.store.change(ctx, "note what AtHoc takes", func(s State) State {
		before, after = s, s.Answered(u, b.limits.CallTimeout, b.clock.now())
		return after
	})
	if err != nil {
		return err
	}

	if over := before.Searched; over != nil && after.Searched == nil {
		b.log.Info("AtHoc answers again", "after_seconds", int(b.clock.now().Sub(over.Since).Seconds()), "failed_calls", over.Failures)
	}

	return nil
}

// TooLarge records an update that failed because of what it carried, and returns how many users the next ones may
// carry.
func (b *Breaker) TooLarge(ctx context.Context, users, batch, divisor int) (most int, err error) {
	err = b.store.change(ctx, "note that a call was too large", func(s State) State {
		s.Size = s.Size.TooLarge(users, batch, divisor, b.clock.now())
		most = s.Size.Limit(batch)
		return s
	})

	return most, err
}

// PutOff records that an update of this user alone has failed although AtHoc is there.
func (b *Breaker) PutOff(ctx context.Context, user, cause string) error {
	return b.store.change(ctx, "note a user who makes calls fail", func(s State) State {
		s.PutOff = s.PutOff.With(user, cause, b.clock.now())
		return s
	})
}

// PutOffNoMore records that the updates of these users have their outcomes, whatever these are.
func (b *Breaker) PutOffNoMore(ctx context.Context, users ...string) error {
	return b.store.change(ctx, "note that users are put off no more", func(s State) State {
		s.PutOff = s.PutOff.Without(users...)
		return s
	})
}

// Now returns the broker's time.
func (b *Breaker) Now() time.Time { return b.clock.now() }

// Report records the result of a call that Wait let through, and logs the start, course (once a minute) and end of
// trouble, once for all replicas. Cause is for the operator and holds no personal data.
func (b *Breaker) Report(ctx context.Context, p Permit, class FailureClass, cause string, retryAfter time.Duration) error {
	var before, after State
	var lines []line

	err := b.store.change(ctx, "report a call to the circuit breaker", func(s State) State {
		now := b.clock.now()
		before, after = s, s.Report(now, p, class, cause, retryAfter, rand.Float64())
		after, lines = after.logLines(before, now, class)
		if after.Class == Refused {
			after.Settings = b.limits.Settings
		}

		return after
	})
	if err != nil {
		return err
	}

	for _, l := range lines {
		b.log.Log(ctx, l.level, l.text, l.args...)
	}

	return nil
}

// Release returns a permit that was not used, so that nobody waits for its probe.
func (b *Breaker) Release(ctx context.Context, p Permit) error {
	if !p.Probe {
		return nil
	}

	return b.store.change(ctx, "give a permit back to the circuit breaker", func(s State) State {
		if s.Generation == p.Generation {
			s.ProbeUntil, s.ProbeAt = time.Time{}, time.Time{}
		}
		return s
	})
}
