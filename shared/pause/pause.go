// Package pause waits, as long as a context allows.
package pause

import (
	"context"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// For returns nil after d, or the context's error if the context ends first.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Every calls do every d. It returns do's error, or nil when ctx ends.
func Every(ctx context.Context, d time.Duration, do func() error) error {
	ticker := time.NewTicker(d)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}

		if err := do(); err != nil {
			return err
		}
	}
}

// Delay returns the wait after a number of failures, which must be at least 1. It doubles from first to longest with
// each failure, less up to a quarter by jitter, which is between 0 and 1. It is for callers whose count is not kept in
// memory.
func Delay(first, longest time.Duration, failures int, jitter float64) time.Duration {
	wait := min(float64(first)*math.Pow(2, float64(min(failures, 30)-1)), float64(longest))
	return time.Duration(wait * (0.75 + 0.25*jitter))
}

// Backoff is a series of waits between tries, each twice as long as the previous one, up to a maximum. It is not safe
// for concurrent use.
type Backoff struct{ waits backoff.ExponentialBackOff }

// Doubling returns a Backoff that begins with first.
func Doubling(first, longest time.Duration) *Backoff {
	return &Backoff{backoff.ExponentialBackOff{InitialInterval: first, Multiplier: 2, MaxInterval: longest}}
}

// Next returns the next wait and advances the series.
func (b *Backoff) Next() time.Duration { return b.waits.NextBackOff() }

// Wait waits for the next wait's duration, or returns the context's error if the context ends first.
func (b *Backoff) Wait(ctx context.Context) error { return For(ctx, b.Next()) }

// Reset starts the series over, after a try that succeeded.
func (b *Backoff) Reset() { b.waits.Reset() }
