package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/lease"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

const (
	// idlePollInterval is how often the partitions are checked if no hint arrives.
	idlePollInterval = time.Second
	// busyPollInterval is how soon they are checked again if other publishers hold partitions in which updates wait, or
	// if AtHoc is not there.
	busyPollInterval = 50 * time.Millisecond
	// permitTimeout is how long a batch waits for permission to make its call before it is given back with its
	// partitions.
	permitTimeout = 5 * time.Second
	// lossTimeout is how long the check for buckets that may be gone takes at most.
	lossTimeout = 2 * time.Second
	// spare is how much longer than the longest possible call the leases must last when the call begins.
	spare = time.Second
	// grace is how long a partition rests after a call whose end is not known: AtHoc may still be working on it.
	grace = 3 * time.Second
)

// partitions is the source of batches: it takes the leases of partitions in which updates wait, and fetches from them
// until a batch is full. It serves one worker.
type partitions struct {
	js     jetstream.JetStream
	keeper *lease.Keeper
	// leasesBucket outlives the session, so that the loss of the bucket of leases between sessions is noticed.
	leasesBucket *lease.BucketHistory
	breaker      *breaker.Breaker
	log          *slog.Logger
	wake         chan struct{}
	lost         func(error)
	stats        *stats
	// batchSize is the most users in a call, wait how long to wait for more.
	batchSize int
	wait      time.Duration
	ackWait   time.Duration
	// callTimeout is the longest that a call can take.
	callTimeout time.Duration

	// consumers are the consumers of the partitions that were used so far.
	consumers [topology.Partitions]jetstream.Consumer
	// pollInterval is how soon to check again if no hint arrives.
	pollInterval time.Duration
	// logged: the reason why no lease is taken has been logged.
	logged bool
	// resting are leases that are kept for the grace time, until restUntil.
	resting   []leased
	restUntil time.Time
}

func wakeUp(wake chan struct{}) nats.MsgHandler {
	return func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// Fetch implements bus.Source: it returns once there are updates, their partitions are leased and a call is let
// through.
func (l *partitions) Fetch(ctx context.Context) (*bus.Batch, error) {
	for {
		if err := l.finishGrace(ctx); err != nil {
			return nil, err
		}

		batch, err := l.gather(ctx)
		switch {
		case errors.Is(err, lease.ErrUnsettled):
			l.unsettled(err)
		case err != nil:
			l.checkForLoss(ctx, err)
			return nil, err
		case batch != nil:
			l.logged, batch.batch.Owner = false, batch
			return batch.batch, nil
		}

		if err := l.sleep(ctx); err != nil {
			return nil, err
		}
	}
}

// unsettled logs, once, why updates wait.
func (l *partitions) unsettled(err error) {
	if !l.logged {
		l.log.Warn("updates wait until no earlier call can be under way any more", "error", err)
	}

	l.logged = true
}

// checkForLoss ends the session if err means that something is gone that the next session may recreate. It looks the
// buckets up instead of relying on err: if no server answers for a bucket, its servers may just be electing a leader.
func (l *partitions) checkForLoss(ctx context.Context, err error) {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		l.lost(err)
		return
	}

	ctx, cancel := context.WithTimeout(ctx, lossTimeout)
	defer cancel()

	for _, bucket := range []string{topology.BucketLeases, topology.BucketState, topology.BucketCalls} {
		if _, err := l.js.KeyValue(ctx, bucket); errors.Is(err, jetstream.ErrBucketNotFound) {
			l.lost(fmt.Errorf("look for bucket %s: %w", bucket, err))
			return
		}
	}
}

// sleep waits for a hint, or until it is time for the next check.
func (l *partitions) sleep(ctx context.Context) error {
	timer := time.NewTimer(l.pollInterval)
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.wake:
	case <-timer.C:
	}

	return nil
}

// gather makes a batch, or returns nil if there is nothing to send or no way to send it now.
func (l *partitions) gather(ctx context.Context) (*leasedBatch, error) {
	l.pollInterval = idlePollInterval

	backlog, err := l.backlog(ctx)
	if err != nil || len(backlog) == 0 {
		return nil, err
	}

	state, clear, err := l.breaker.Clear(ctx)
	if err != nil || !clear {
		if state.Class == breaker.Outage {
			l.pollInterval = busyPollInterval
		}
		return nil, err
	}

	if err := l.keeper.Settled(ctx, l.leasesBucket); err != nil {
		return nil, err
	}

	r := &leasedBatch{partitions: l, batch: bus.NewBatch(l.ackWait, l.log), size: state.Size.Limit(l.batchSize), state: state}
	l.stats.setLimit(min(l.batchSize, cmp.Or(state.Size.Most, l.batchSize)))

	taken, err := l.lease(ctx, r, backlog)
	if err == nil && len(r.batch.Items) > 0 {
		err = l.prepare(ctx, r, taken)
	}

	switch {
	case err == nil && len(r.batch.Items) > 0:
		return r, nil
	case ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || isCall(err)):
		err = nil // the circuit breaker has opened in between
	}

	l.drop(ctx, r)

	return nil, err
}

// isCall reports whether an error comes from a call to AtHoc.
func isCall(err error) bool {
	_, ok := errors.AsType[*athoc.CallError](err)
	return ok
}

// partition is a partition in which updates wait.
type partition struct {
	number int
	// pending is how many updates nobody has fetched yet; others may be redelivered.
	pending  int
	consumer jetstream.Consumer
}

// sameAs returns a function that reports whether another partition is the same one.
func sameAs(l partition) func(partition) bool {
	return func(other partition) bool { return other.number == l.number }
}

// want returns how many updates to ask for: asking for more than there are costs a wait.
func (l partition) want(room int) int {
	if l.pending == 0 {
		return room
	}
	return min(room, l.pending)
}

// backlog returns the partitions that have something to fetch, in random order, so that load spreads over the
// publishers.
func (l *partitions) backlog(ctx context.Context) ([]partition, error) {
	stream, err := l.js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}

	numbers := map[string]int{}
	for n := range topology.Partitions {
		numbers[topology.PartitionConsumer(n)] = n
	}

	var out []partition
	list := stream.ListConsumers(ctx)
	found := 0
	for info := range list.Info() {
		n, known := numbers[info.Name]
		if !known {
			continue
		}

		found++

		if info.NumPending > 0 || info.NumAckPending > 0 {
			out = append(out, partition{number: n, pending: int(info.NumPending)})
		}
	}

	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("look at the partitions: %w", err)
	}

	if found < topology.Partitions {
		return nil, fmt.Errorf("look at the partitions: %d of %d are there: %w", found, topology.Partitions, jetstream.ErrConsumerNotFound)
	}

	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })

	return out, nil
}

// lease leases free partitions and fetches the updates in them until the batch is full. It returns the partitions
// taken.
func (l *partitions) lease(ctx context.Context, r *leasedBatch, backlog []partition) ([]partition, error) {
	var taken []partition
	for _, p := range backlog {
		if len(r.batch.Items) >= r.size {
			break
		}

		lent, err := l.keeper.Take(ctx, topology.PartitionLease(p.number))
		if errors.Is(err, lease.ErrHeld) {
			if p.pending > 0 {
				l.pollInterval = busyPollInterval
			}
			continue
		}

		if err != nil {
			return taken, err
		}

		r.leases = append(r.leases, leased{lent, p.number})
		l.stats.leased(p.number)

		if p.consumer, err = l.consumer(ctx, p.number); err != nil {
			return taken, err
		}

		before := len(r.batch.Items)
		if _, err := r.batch.Fill(p.consumer, p.want(r.size-before), 0, 0); err != nil {
			return taken, err
		}

		if len(r.batch.Items) == before { // another publisher has its updates: leave it free
			l.release(ctx, r.leases[len(r.leases)-1:])
			r.leases = r.leases[:len(r.leases)-1]
			continue
		}

		taken = append(taken, p)
	}

	return taken, nil
}

func (l *partitions) consumer(ctx context.Context, number int) (jetstream.Consumer, error) {
	if l.consumers[number] == nil {
		c, err := l.js.Consumer(ctx, topology.StreamUpdates, topology.PartitionConsumer(number))
		if err != nil {
			return nil, fmt.Errorf("open partition %d: %w", number, err)
		}

		l.consumers[number] = c
	}

	return l.consumers[number], nil
}

// prepare waits for more updates and for the permit to call. Updates that arrive meanwhile join the batch, so that a
// newer update overtakes an older one of the same user.
func (l *partitions) prepare(ctx context.Context, r *leasedBatch, taken []partition) error {
	// Check once more: the bucket may have been lost between the first check and the leases. From here on, a loss does
	// not matter.
	if err := l.keeper.Settled(ctx, l.leasesBucket); err != nil {
		return err
	}

	if len(r.batch.Items) < r.size && l.wait > 0 {
		if err := pause.For(ctx, l.wait); err != nil {
			return err
		}

		if err := r.renew(ctx); err != nil {
			return err
		}
	}

	bounded, cancel := context.WithTimeout(ctx, min(permitTimeout, time.Until(r.until())-spare))
	defer cancel()

	var err error
	if r.permit, err = l.breaker.Wait(bounded); err != nil {
		return err
	}

	if time.Until(r.until()) < l.callTimeout+spare {
		if err := r.renew(ctx); err != nil {
			return err
		}
	}

	return l.topUp(ctx, r, taken)
}

// topUp adds the updates that have arrived since the batch was begun, from its own partitions and from others that are
// free. An update that was left out would wait for the next call.
func (l *partitions) topUp(ctx context.Context, r *leasedBatch, taken []partition) error {
	if len(r.batch.Items) >= r.size {
		return nil
	}

	now, err := l.backlog(ctx)
	if err != nil {
		return err
	}

	var others []partition
	for _, p := range now {
		room := r.size - len(r.batch.Items)
		switch {
		case p.pending == 0 || room <= 0:
			continue
		case !slices.ContainsFunc(taken, sameAs(p)):
			others = append(others, p)
			continue
		}

		if _, err := r.batch.Fill(l.consumers[p.number], p.want(room), 0, 0); err != nil {
			return err
		}
	}

	if more, err := l.lease(ctx, r, others); err != nil || len(more) == 0 {
		return err
	}

	return l.keeper.Settled(ctx, l.leasesBucket)
}
