// Package leader elects one janitor at a time as the leader: the leader holds a lease, the others follow.
package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bobosync/shared/lease"
	"bobosync/shared/pause"
)

const (
	// Key is the key of the leader's lease in the bucket of leases.
	Key = "janitor"
	// followerPollInterval is how often a follower tries to take the lease.
	followerPollInterval = 2 * time.Second
	// releaseTimeout bounds the renewal and the release of the lease when the process ends.
	releaseTimeout = 5 * time.Second
	// minRenewWait is the shortest time between two attempts to renew the lease.
	minRenewWait = 100 * time.Millisecond
)

// Leadership is this process's leadership term.
type Leadership struct {
	log *slog.Logger

	mu    sync.Mutex
	until time.Time
}

// New returns the leadership of a process that does not lead yet.
func New(log *slog.Logger) *Leadership { return &Leadership{log: log} }

// Check returns an error if another process may be the leader by now.
func (l *Leadership) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !time.Now().Before(l.until) {
		return lease.ErrLost
	}

	return nil
}

func (l *Leadership) extend(held *lease.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.until = held.Until()
}

// Lead waits until it becomes the leader, and then runs work for as long as it leads. Work must return soon after its
// context ends. Lead returns nil when ctx has ended, and otherwise the reason why it cannot go on.
func (l *Leadership) Lead(ctx context.Context, keeper *lease.Keeper, work func(context.Context) error) error {
	held, err := l.acquire(ctx, keeper)
	if err != nil || held == nil {
		return err
	}

	l.extend(held)
	l.log.Info("this instance is the leader")

	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		defer stop()

		done <- work(working)
	}()

	lost := l.renewUntilLost(working, held)

	stop()

	err = <-done

	l.release(ctx, held)

	return unlessEnded(ctx, errors.Join(lost, err))
}

// acquire takes the lease. It returns nil when ctx has ended.
func (l *Leadership) acquire(ctx context.Context, keeper *lease.Keeper) (*lease.Lease, error) {
	for logged := false; ctx.Err() == nil; logged = true {
		held, err := keeper.Take(ctx, Key)
		switch {
		case err == nil:
			return held, nil
		case !errors.Is(err, lease.ErrHeld):
			return nil, unlessEnded(ctx, err)
		case !logged:
			l.log.Info("another instance is the leader; this one is a follower")
		}

		_ = pause.For(ctx, followerPollInterval) // the loop checks ctx
	}

	return nil, nil
}

// renewUntilLost renews the lease until ctx ends or the lease is lost.
func (l *Leadership) renewUntilLost(ctx context.Context, held *lease.Lease) error {
	timer := time.NewTimer(renewIn(held))
	defer timer.Stop()

	for ; ; timer.Reset(renewIn(held)) {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}

		err := renew(ctx, held)
		switch {
		case err == nil:
			l.extend(held)
		case errors.Is(err, lease.ErrLost), !time.Now().Before(held.Until()):
			return unlessEnded(ctx, fmt.Errorf("stay the leader: %w", err))
		default: // the broker may be back before the lease ends
			l.log.Debug("the janitor's lease could not be renewed, trying again", "error", err)
		}
	}
}

// renewIn returns how soon a lease should be renewed. A lease that took long to acquire may already have ended.
func renewIn(l *lease.Lease) time.Duration { return max(time.Until(l.Until())/3, minRenewWait) }

// renew renews a lease even if ctx ends meanwhile. If a stop cut the renewal off before the broker's answer, the lease
// left behind could not be released.
func renew(ctx context.Context, l *lease.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(releaseTimeout, time.Until(l.Until())))
	defer cancel()
	return l.Renew(ctx)
}

func (l *Leadership) release(ctx context.Context, held *lease.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()

	if err := held.Release(ctx); err != nil {
		l.log.Debug("the janitor's lease ends by itself", "error", err)
	}
}

// unlessEnded returns err, or nil if ctx has ended, because then the failure is a result of that.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}
