// Package pause waits, and heeds a context while it does.
package pause

import (
	"context"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// For returns nil after d, or the context's error if that ends first.
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

// Every calls do again and again, d after d, and returns its error, or nil when ctx ends.
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

// Delay is the wait after so many failures, of which there is at least one: it doubles from first to longest with each, less up to a quarter
// by jitter, which is between 0 and 1. It is for who keeps the count elsewhere than in memory.
func Delay(first, longest time.Duration, failures int, jitter float64) time.Duration {
	wait := min(float64(first)*math.Pow(2, float64(min(failures, 30)-1)), float64(longest))
	return time.Duration(wait * (0.75 + 0.25*jitter))
}

// Backoff is a series of waits between tries, each twice as long as the previous one, up to a longest one. It is not safe for
// concurrent use.
type Backoff struct{ waits backoff.ExponentialBackOff }

// Doubling returns a Backoff that begins with first.
func Doubling(first, longest time.Duration) *Backoff {
	return &Backoff{backoff.ExponentialBackOff{InitialInterval: first, Multiplier: 2, MaxInterval: longest}}
}

// Next returns the next wait, and counts it as waited.
func (b *Backoff) Next() time.Duration { return b.waits.NextBackOff() }

// Wait waits, or returns the context's error if that ends first.
func (b *Backoff) Wait(ctx context.Context) error { return For(ctx, b.Next()) }

// Reset starts the series over, after a try that succeeded.
func (b *Backoff) Reset() { b.waits.Reset() }
