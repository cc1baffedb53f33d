package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/lease"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

const (
	// idleLook is how often the lanes are looked at if no hint comes.
	idleLook = time.Second
	// busyLook is how soon they are looked at again if other publishers hold all lanes in which updates wait.
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

// lanes is the source of batches: it takes the leases of lanes in which updates wait, and fetches from them until a batch
// is full. It serves one worker.
type lanes struct {
	js     jetstream.JetStream
	keeper *lease.Keeper
	// memory outlives the session: it is how a bucket of leases that was lost meanwhile is told.
	memory  *lease.Memory
	breaker *breaker.Breaker
	log     *slog.Logger
	wake    chan struct{}
	lost    func(error)
	record  *record
	size    func() int
	wait    time.Duration
	ackWait time.Duration
	// callTimeout is the longest that a call can take.
	callTimeout time.Duration

	// consumers are the lanes' consumers, as far as they were used.
	consumers [topology.Lanes]jetstream.Consumer
	// busy says that the last look found updates in lanes that others hold.
	busy bool
	// told says that the log tells why no lease is taken.
	told bool
	// resting are leases that are kept for the grace time, until restUntil.
	resting   []held
	restUntil time.Time
}

// round is one batch with the lanes that it was fetched from and the leave to call.
type round struct {
	lanes  *lanes
	batch  *bus.Batch
	leases []held
	permit breaker.Permit
	// used says that the permit was spent on a call.
	used bool
	// unsure says that AtHoc may still be working on a call of this round.
	unsure bool
}

// held is a lane that is leased.
type held struct {
	*lease.Lease
	lane int
}

// until is the moment up to which all leases of the round hold.
func (r *round) until() time.Time {
	var until time.Time
	for _, l := range r.leases {
		if until.IsZero() || l.Until().Before(until) {
			until = l.Until()
		}
	}
	return until
}

// guard refuses when the leases have ended. It is asked last thing before a request is sent.
func (r *round) guard(context.Context) error {
	if !time.Now().Before(r.until()) {
		return lease.ErrLost
	}
	return nil
}

// renew lets all leases last for another call.
func (r *round) renew(ctx context.Context) error {
	for _, l := range r.leases {
		if err := l.Renew(ctx); err != nil {
			return err
		}
	}
	return nil
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
func (l *lanes) Fetch(ctx context.Context) (*bus.Batch, error) {
	for {
		if err := l.finishGrace(ctx); err != nil {
			return nil, err
		}
		round, err := l.gather(ctx)
		switch {
		case errors.Is(err, lease.ErrUnsettled):
			l.unsettled(err)
		case err != nil:
			l.lookForLoss(ctx, err)
			return nil, err
		case round != nil:
			l.told, round.batch.Owner = false, round
			return round.batch, nil
		}
		if err := l.sleep(ctx); err != nil {
			return nil, err
		}
	}
}

// unsettled tells the operator, once, why updates wait.
func (l *lanes) unsettled(err error) {
	if !l.told {
		l.log.Warn("updates wait until no call of before can be under way any more", "error", err)
	}
	l.told = true
}

// lookForLoss ends the session if a round failed because something is gone that the next session may make anew. A bucket is
// looked for: that nobody answers for it may also mean that its servers are choosing a leader.
func (l *lanes) lookForLoss(ctx context.Context, err error) {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		l.lost(err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lossLook)
	defer cancel()
	for _, bucket := range []string{topology.BucketLeases, topology.BucketState} {
		if _, err := l.js.KeyValue(ctx, bucket); errors.Is(err, jetstream.ErrBucketNotFound) {
			l.lost(fmt.Errorf("look for bucket %s: %w", bucket, err))
			return
		}
	}
}

// sleep waits for a hint or the next look.
func (l *lanes) sleep(ctx context.Context) error {
	look := idleLook
	if l.busy {
		look = busyLook
	}
	timer := time.NewTimer(look)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.wake:
	case <-timer.C:
	}
	return nil
}

// gather makes a round, or returns nil if there is nothing to send or no way to send it now.
func (l *lanes) gather(ctx context.Context) (*round, error) {
	l.busy = false
	waiting, err := l.waiting(ctx)
	if err != nil || len(waiting) == 0 {
		return nil, err
	}
	clear, err := l.breaker.Clear(ctx)
	if err != nil || !clear {
		return nil, err
	}
	if err := l.keeper.Settled(ctx, l.memory); err != nil {
		return nil, err
	}
	r := &round{lanes: l, batch: bus.NewBatch(l.ackWait, l.log)}
	consumers, err := l.lease(ctx, r, waiting)
	if err != nil {
		l.drop(ctx, r)
		return nil, err
	}
	if len(r.batch.Items) == 0 {
		l.release(ctx, r.leases)
		return nil, nil
	}
	if err := l.prepare(ctx, r, consumers); err != nil {
		l.drop(ctx, r)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil, nil // the circuit breaker has opened in between
		}
		return nil, err
	}
	return r, nil
}

// lane is a lane in which updates wait.
type lane struct {
	number int
	// pending is how many updates nobody has fetched yet; there may be others that come again.
	pending  int
	consumer jetstream.Consumer
}

// sameAs tells the lane in a list.
func sameAs(l lane) func(lane) bool { return func(other lane) bool { return other.number == l.number } }

// want is how many updates to ask for: asking for more than there are costs a wait.
func (l lane) want(room int) int {
	if l.pending == 0 {
		return room
	}
	return min(room, l.pending)
}

// waiting returns the lanes that have something to fetch, in random order, so that load spreads over the publishers.
func (l *lanes) waiting(ctx context.Context) ([]lane, error) {
	stream, err := l.js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}
	numbers := map[string]int{}
	for n := range topology.Lanes {
		numbers[topology.LaneConsumer(n)] = n
	}
	var out []lane
	list := stream.ListConsumers(ctx)
	seen := 0
	for info := range list.Info() {
		n, isLane := numbers[info.Name]
		if !isLane {
			continue
		}
		seen++
		if info.NumPending > 0 || info.NumAckPending > 0 {
			out = append(out, lane{number: n, pending: int(info.NumPending)})
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
func (l *lanes) lease(ctx context.Context, r *round, waiting []lane) ([]lane, error) {
	var taken []lane
	for _, lane := range waiting {
		if len(r.batch.Items) >= l.size() {
			break
		}
		lent, err := l.keeper.Take(ctx, topology.LaneLease(lane.number))
		if errors.Is(err, lease.ErrHeld) {
			l.busy = l.busy || lane.pending > 0
			continue
		}
		if err != nil {
			return taken, err
		}
		r.leases = append(r.leases, held{lent, lane.number})
		l.record.holds(lane.number)
		if lane.consumer, err = l.consumer(ctx, lane.number); err != nil {
			return taken, err
		}
		before := len(r.batch.Items)
		if _, err := r.batch.Fill(lane.consumer, lane.want(l.size()-before), 0, 0); err != nil {
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

func (l *lanes) consumer(ctx context.Context, lane int) (jetstream.Consumer, error) {
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
func (l *lanes) prepare(ctx context.Context, r *round, taken []lane) error {
	// Once more: between the first look and the leases the bucket may have been lost. From here on it does not matter if it is.
	if err := l.keeper.Settled(ctx, l.memory); err != nil {
		return err
	}
	if len(r.batch.Items) < l.size() && l.wait > 0 {
		if err := pause.For(ctx, l.wait); err != nil {
			return err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, permitWait)
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

// topUp adds what has come into the round's lanes since they were fetched from.
func (l *lanes) topUp(ctx context.Context, r *round, taken []lane) error {
	if len(r.batch.Items) >= l.size() {
		return nil
	}
	now, err := l.waiting(ctx)
	if err != nil {
		return err
	}
	for _, lane := range now {
		room := l.size() - len(r.batch.Items)
		mine := slices.ContainsFunc(taken, sameAs(lane))
		if !mine || lane.pending == 0 || room <= 0 {
			continue
		}
		if _, err := r.batch.Fill(l.consumers[lane.number], lane.want(room), 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// drop gives a round back that no call was made for.
func (l *lanes) drop(ctx context.Context, r *round) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), permitWait)
	defer cancel()
	if len(r.batch.Items) > 0 {
		r.batch.Return(ctx)
	}
	l.release(ctx, r.leases)
	if err := l.breaker.Release(ctx, r.permit); err != nil {
		l.log.Warn("a permit could not be given back", "error", err)
	}
}

// Settled implements bus.Owner. It ends the round of a batch: its lanes are free again, at once or after the grace time.
func (r *round) Settled(ctx context.Context, err error) {
	l := r.lanes
	if errors.Is(err, bus.ErrAbandoned) {
		l.forget(r.leases)
		return // the call may still be at work: the lanes end by themselves
	}
	if !r.used {
		if err := l.breaker.Release(ctx, r.permit); err != nil {
			l.log.Warn("a permit could not be given back", "error", err)
		}
	}
	if r.unsure {
		if err := r.renew(ctx); err != nil { // or it would rest for no longer than the call has left
			l.log.Debug("lanes rest for less than they should", "error", err)
		}
		l.resting, l.restUntil = r.leases, time.Now().Add(grace)
		return
	}
	l.release(ctx, r.leases)
}

// release frees lanes. One that cannot be freed ends by itself.
func (l *lanes) release(ctx context.Context, leases []held) {
	l.forget(leases)
	for _, lent := range leases {
		if err := lent.Release(ctx); err != nil {
			l.log.Debug("a lane is not released and ends by itself", "lane", lent.Key(), "error", err)
		}
	}
}

// forget notes that lanes are not held any more.
func (l *lanes) forget(leases []held) {
	for _, lent := range leases {
		l.record.frees(lent.lane)
	}
}

// finishGrace waits for the end of the grace time and frees the lanes that rested.
func (l *lanes) finishGrace(ctx context.Context) error {
	if len(l.resting) == 0 {
		return nil
	}
	if err := pause.For(ctx, time.Until(l.restUntil)); err != nil {
		l.forget(l.resting)
		return err // the leases end by themselves
	}
	l.endGrace()
	return nil
}

func (l *lanes) endGrace() {
	if len(l.resting) == 0 || time.Now().Before(l.restUntil) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), permitWait)
	defer cancel()
	l.release(ctx, l.resting)
	l.resting = nil
}
