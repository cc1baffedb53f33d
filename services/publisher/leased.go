package publisher

// This file has what goes with a batch: the leases of its partitions and the permit to call.

import (
	"context"
	"errors"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/lease"
	"bobosync/shared/pause"
)

// leasedBatch is a batch with the partitions that it was fetched from and the permit to call.
type leasedBatch struct {
	partitions *partitions
	batch      *bus.Batch
	leases     []leased
	permit     breaker.Permit
	// used: the permit was spent on a call.
	used bool
	// inDoubt: AtHoc may still be working on a call of this batch.
	inDoubt bool
	// size is the most users in a call, state what was known of AtHoc when the batch was made.
	size  int
	state breaker.State
}

// leased is a leased partition.
type leased struct {
	*lease.Lease
	partition int
}

// until returns the moment up to which all leases of the batch hold.
func (r *leasedBatch) until() time.Time {
	var until time.Time
	for _, l := range r.leases {
		if until.IsZero() || l.Until().Before(until) {
			until = l.Until()
		}
	}

	return until
}

// guard refuses the call once a lease has ended. It is called immediately before a request is sent.
func (r *leasedBatch) guard(context.Context) error {
	if !time.Now().Before(r.until()) {
		return lease.ErrLost
	}
	return nil
}

// renew extends all leases for another call.
func (r *leasedBatch) renew(ctx context.Context) error {
	for _, l := range r.leases {
		if err := l.Renew(ctx); err != nil {
			return err
		}
	}

	return nil
}

// drop releases a batch that no call was made for.
func (l *partitions) drop(ctx context.Context, r *leasedBatch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), permitTimeout)
	defer cancel()

	if len(r.batch.Items) > 0 {
		r.batch.Return(ctx)
	}

	l.release(ctx, r.leases)

	if err := l.breaker.Release(ctx, r.permit); err != nil {
		l.log.Warn("a permit could not be given back", "error", err)
	}
}

// Settled implements bus.Owner. It frees the partitions of a batch, at once or after the grace time.
func (r *leasedBatch) Settled(ctx context.Context, err error) {
	l := r.partitions
	if errors.Is(err, bus.ErrAbandoned) {
		l.forget(r.leases)
		return // the call may still be under way: the leases expire by themselves
	}

	if !r.used {
		if err := l.breaker.Release(ctx, r.permit); err != nil {
			l.log.Warn("a permit could not be given back", "error", err)
		}
	}

	if r.inDoubt {
		if err := r.renew(ctx); err != nil { // otherwise they rest only until the call's leases end
			l.log.Debug("partitions rest for less than they should", "error", err)
		}

		l.resting, l.restUntil = r.leases, time.Now().Add(grace)

		return
	}

	l.release(ctx, r.leases)
}

// release releases leases. A lease that cannot be released expires by itself.
func (l *partitions) release(ctx context.Context, leases []leased) {
	l.forget(leases)

	for _, lent := range leases {
		if err := lent.Release(ctx); err != nil {
			l.log.Debug("a partition's lease is not released and expires by itself", "partition", lent.Key(), "error", err)
		}
	}
}

// forget notes that partitions are not held any more.
func (l *partitions) forget(leases []leased) {
	for _, lent := range leases {
		l.stats.released(lent.partition)
	}
}

// finishGrace waits for the end of the grace time and releases the partitions that rested.
func (l *partitions) finishGrace(ctx context.Context) error {
	if len(l.resting) == 0 {
		return nil
	}

	if err := pause.For(ctx, time.Until(l.restUntil)); err != nil {
		l.forget(l.resting)
		return err // the leases expire by themselves
	}

	l.endGrace()

	return nil
}

func (l *partitions) endGrace() {
	if len(l.resting) == 0 || time.Now().Before(l.restUntil) {
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), permitTimeout)
	defer cancel()

	l.release(ctx, l.resting)
	l.resting = nil
}
