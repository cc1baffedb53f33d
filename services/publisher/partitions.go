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
	// idleLook is how often the partitions are looked at if no hint comes.
	idleLook = time.Second
	// busyLook is how soon they are looked at again if other publishers hold all in which updates wait, or AtHoc is not there.
	busyLook = 50 * time.Millisecond
	// permitWait is how long a batch waits for its call to be let through before it is given back, with its lanes.
	permitWait = 5 * time.Second
	// lossLook is how long it is looked for what may be gone.
	lossLook = 2 * time.Second
	// spare is how much longer than the longest call the leases have to last when it begins.
	spare = time.Second
	// grace is how long a lane rests after a call whose end is not known: AtHoc may still be working on it.
	grace = 3 * time.Second
)

// partitions is the source of batches: it takes the leases of partitions in which updates wait, and fetches from them until a
// batch is full. It serves one worker. Partitions are called lanes in what is stored and shown.
type partitions struct {
	js     jetstream.JetStream
	keeper *lease.Keeper
	// memory outlives the session: it is how a bucket of leases that was lost meanwhile is told.
	memory  *lease.Memory
	breaker *breaker.Breaker
	log     *slog.Logger
	wake    chan struct{}
	lost    func(error)
	record  *record
	// batchSize is the most users in a call, wait how long to wait for more.
	batchSize int
	wait      time.Duration
	ackWait   time.Duration
	// callTimeout is the longest that a call can take.
	callTimeout time.Duration

	// consumers are the partitions' consumers, as far as they were used.
	consumers [topology.Lanes]jetstream.Consumer
	// look is how soon to look again if nothing is heard.
	look time.Duration
	// told: why no lease is taken has been logged.
	told bool
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

// Fetch implements bus.Source: it returns when there are updates, their lanes are leased and a call is let through.
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
			l.lookForLoss(ctx, err)
			return nil, err
		case batch != nil:
			l.told, batch.batch.Owner = false, batch
			return batch.batch, nil
		}
		if err := l.sleep(ctx); err != nil {
			return nil, err
		}
	}
}

// unsettled tells the operator, once, why updates wait.
func (l *partitions) unsettled(err error) {
	if !l.told {
		l.log.Warn("updates wait until no call of before can be under way any more", "error", err)
	}
	l.told = true
}

// lookForLoss ends the session if a look failed because something is gone that the next session may make anew. A bucket is
// looked for: that nobody answers for it may also mean that its servers are choosing a leader.
func (l *partitions) lookForLoss(ctx context.Context, err error) {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		l.lost(err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lossLook)
	defer cancel()
	for _, bucket := range []string{topology.BucketLeases, topology.BucketState, topology.BucketCalls} {
		if _, err := l.js.KeyValue(ctx, bucket); errors.Is(err, jetstream.ErrBucketNotFound) {
			l.lost(fmt.Errorf("look for bucket %s: %w", bucket, err))
			return
		}
	}
}

// sleep waits for a hint or the next look.
func (l *partitions) sleep(ctx context.Context) error {
	timer := time.NewTimer(l.look)
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
	l.look = idleLook
	waiting, err := l.waiting(ctx)
	if err != nil || len(waiting) == 0 {
		return nil, err
	}
	state, clear, err := l.breaker.Clear(ctx)
	if err != nil || !clear {
		if state.Class == breaker.Outage {
			l.look = busyLook
		}
		return nil, err
	}
	if err := l.keeper.Settled(ctx, l.memory); err != nil {
		return nil, err
	}

	r := &leasedBatch{partitions: l, batch: bus.NewBatch(l.ackWait, l.log), size: state.Size.Limit(l.batchSize), state: state}
	l.record.takes(min(l.batchSize, cmp.Or(state.Size.Most, l.batchSize)))
	taken, err := l.lease(ctx, r, waiting)
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

// isCall reports whether an error is that of a call to AtHoc.
func isCall(err error) bool {
	_, ok := errors.AsType[*athoc.CallError](err)
	return ok
}

// partition is one in which updates wait.
type partition struct {
	number int
	// pending is how many updates nobody has fetched yet; there may be others that come again.
	pending  int
	consumer jetstream.Consumer
}

// sameAs tells the partition in a list.
func sameAs(l partition) func(partition) bool {
	return func(other partition) bool { return other.number == l.number }
}

// want is how many updates to ask for: asking for more than there are costs a wait.
func (l partition) want(room int) int {
	if l.pending == 0 {
		return room
	}
	return min(room, l.pending)
}

// waiting returns the lanes that have something to fetch, in random order, so that load spreads over the publishers.
func (l *partitions) waiting(ctx context.Context) ([]partition, error) {
	stream, err := l.js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}
	numbers := map[string]int{}
	for n := range topology.Lanes {
		numbers[topology.LaneConsumer(n)] = n
	}
	var out []partition
	list := stream.ListConsumers(ctx)
	seen := 0
	for info := range list.Info() {
		n, isLane := numbers[info.Name]
		if !isLane {
			continue
		}
		seen++
		if info.NumPending > 0 || info.NumAckPending > 0 {
			out = append(out, partition{number: n, pending: int(info.NumPending)})
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("look at the lanes: %w", err)
	}
	if seen < topology.Lanes {
		return nil, fmt.Errorf("look at the lanes: %d of %d are there: %w", seen, topology.Lanes, jetstream.ErrConsumerNotFound)
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out, nil
}

// lease takes free lanes and what is there in them, until the batch is full. It returns the lanes taken.
func (l *partitions) lease(ctx context.Context, r *leasedBatch, waiting []partition) ([]partition, error) {
	var taken []partition
	for _, lane := range waiting {
		if len(r.batch.Items) >= r.size {
			break
		}
		lent, err := l.keeper.Take(ctx, topology.LaneLease(lane.number))
		if errors.Is(err, lease.ErrHeld) {
			if lane.pending > 0 {
				l.look = busyLook
			}
			continue
		}
		if err != nil {
			return taken, err
		}
		r.leases = append(r.leases, leased{lent, lane.number})
		l.record.holds(lane.number)
		if lane.consumer, err = l.consumer(ctx, lane.number); err != nil {
			return taken, err
		}
		before := len(r.batch.Items)
		if _, err := r.batch.Fill(lane.consumer, lane.want(r.size-before), 0, 0); err != nil {
			return taken, err
		}
		if len(r.batch.Items) == before { // others hold what is in it: leave it free
			l.release(ctx, r.leases[len(r.leases)-1:])
			r.leases = r.leases[:len(r.leases)-1]
			continue
		}
		taken = append(taken, lane)
	}
	return taken, nil
}

func (l *partitions) consumer(ctx context.Context, lane int) (jetstream.Consumer, error) {
	if l.consumers[lane] == nil {
		c, err := l.js.Consumer(ctx, topology.StreamUpdates, topology.LaneConsumer(lane))
		if err != nil {
			return nil, fmt.Errorf("open lane %d: %w", lane, err)
		}
		l.consumers[lane] = c
	}
	return l.consumers[lane], nil
}

// prepare waits for more updates and for the leave to call. What comes in meanwhile joins the batch, so that a newer update
// overtakes an older one of the same user.
func (l *partitions) prepare(ctx context.Context, r *leasedBatch, taken []partition) error {
	// Once more: between the first look and the leases the bucket may have been lost. From here on it does not matter if it is.
	if err := l.keeper.Settled(ctx, l.memory); err != nil {
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
	bounded, cancel := context.WithTimeout(ctx, min(permitWait, time.Until(r.until())-spare))
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

// topUp adds what has come in since the batch was begun: into its partitions, and into others that are free. Who was left out would
// wait for the call after this one.
func (l *partitions) topUp(ctx context.Context, r *leasedBatch, taken []partition) error {
	if len(r.batch.Items) >= r.size {
		return nil
	}
	now, err := l.waiting(ctx)
	if err != nil {
		return err
	}
	var others []partition
	for _, lane := range now {
		room := r.size - len(r.batch.Items)
		switch {
		case lane.pending == 0 || room <= 0:
			continue
		case !slices.ContainsFunc(taken, sameAs(lane)):
			others = append(others, lane)
			continue
		}
		if _, err := r.batch.Fill(l.consumers[lane.number], lane.want(room), 0, 0); err != nil {
			return err
		}
	}
	if more, err := l.lease(ctx, r, others); err != nil || len(more) == 0 {
		return err
	}
	return l.keeper.Settled(ctx, l.memory)
}
