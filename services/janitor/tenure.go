package janitor

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
	// leaseKey is the key, in the leases' bucket, that the janitor at work holds.
	leaseKey = "janitor"
	// standbyLook is how often an instance that stands by looks whether it is needed.
	standbyLook = 2 * time.Second
	// releaseTime is how long renewing the lease, or giving it back, may take when the process ends.
	releaseTime = 5 * time.Second
	// renewLeast is the least time between two attempts to renew the lease.
	renewLeast = 100 * time.Millisecond
)

// tenure is this process's time as the one janitor.
type tenure struct {
	log *slog.Logger

	mu    sync.Mutex
	until time.Time
}

// alone returns an error if another process may be the janitor by now.
func (t *tenure) alone() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !time.Now().Before(t.until) {
		return lease.ErrLost
	}
	return nil
}

func (t *tenure) extend(l *lease.Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = l.Until()
}

// serve waits until no other process is the janitor, and then does work for as long as it stays the only one. Work must
// return soon after its ctx ends. It returns nil when ctx has ended, and otherwise why it cannot go on.
func (t *tenure) serve(ctx context.Context, keeper *lease.Keeper, work func(context.Context) error) error {
	l, err := t.take(ctx, keeper)
	if err != nil || l == nil {
		return err
	}
	t.extend(l)
	t.log.Info("this instance is the janitor at work")
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		defer stop()
		done <- work(working)
	}()
	lost := t.keep(working, l)
	stop()
	err = <-done
	t.giveBack(ctx, l)
	return unlessEnded(ctx, errors.Join(lost, err))
}

// take takes the lease, or returns nil when ctx has ended.
func (t *tenure) take(ctx context.Context, keeper *lease.Keeper) (*lease.Lease, error) {
	for told := false; ctx.Err() == nil; told = true {
		l, err := keeper.Take(ctx, leaseKey)
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, lease.ErrHeld):
			return nil, unlessEnded(ctx, err)
		case !told:
			t.log.Info("another instance is the janitor at work; this one stands by")
		}
		sleep(ctx, standbyLook)
	}
	return nil, nil
}

// keep renews the lease until ctx ends, or until the lease is lost.
func (t *tenure) keep(ctx context.Context, l *lease.Lease) error {
	timer := time.NewTimer(renewIn(l))
	defer timer.Stop()
	for ; ; timer.Reset(renewIn(l)) {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := renew(ctx, l)
		switch {
		case err == nil:
			t.extend(l)
		case errors.Is(err, lease.ErrLost), !time.Now().Before(l.Until()):
			return unlessEnded(ctx, fmt.Errorf("stay the janitor at work: %w", err))
		default: // the broker may be back before the lease ends
			t.log.Debug("the janitor's lease could not be renewed, trying again", "error", err)
		}
	}
}

// renewIn is when a lease is to be renewed; one that was long in coming may have ended before it came.
func renewIn(l *lease.Lease) time.Duration { return max(time.Until(l.Until())/3, renewLeast) }

// renew renews a lease, also if ctx ends meanwhile: to be told to stop between the broker's doing it and its answer would leave
// a lease behind that cannot be given back.
func renew(ctx context.Context, l *lease.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(releaseTime, time.Until(l.Until())))
	defer cancel()
	return l.Renew(ctx)
}

func (t *tenure) giveBack(ctx context.Context, l *lease.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := l.Release(ctx); err != nil {
		t.log.Debug("the janitor's lease ends by itself", "error", err)
	}
}

// unlessEnded returns err, or nil if ctx has ended: then whatever failed did so for that reason.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// sleep returns after d or when ctx ends.
func sleep(ctx context.Context, d time.Duration) { _ = pause.For(ctx, d) } // whoever waits looks at ctx
