package resolver

// This file is the work of one session: what is consumed, and what falls due by the clock.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/resolver/internal/answers"
	"bobosync/services/resolver/internal/decisions"
	"bobosync/services/resolver/internal/demand"
	"bobosync/services/resolver/internal/history"
	"bobosync/services/resolver/internal/intake"
	"bobosync/services/resolver/internal/outbox"
	"bobosync/services/resolver/internal/rebuild"
	"bobosync/services/resolver/internal/release"
	"bobosync/services/resolver/internal/replay"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/takeover"
	"bobosync/shared/bus"
	"bobosync/shared/pause"
	"bobosync/shared/session"
	"bobosync/shared/topology"
)

// The most messages and bytes in a batch. A message has up to 500 entries, so a batch has up to 100,000 entries of a
// large file, or all entries of a thousand small files.
const (
	entriesBatch = 1000
	entriesBytes = 8 << 20
	otherBatch   = 200
)

// How often to check what is due (soonInterval applies while room for updates may appear soon), to drop strangers, to
// check whether the broker's store is still the one that the session began with, and to maintain the history.
const (
	dueInterval    = 100 * time.Millisecond
	soonInterval   = 20 * time.Millisecond
	forgetInterval = 10 * time.Minute
	storeInterval  = 2 * time.Second
	tendInterval   = 10 * time.Second
)

// closeTimeout is how long a running batch may take to end when the resolver is stopped, or when a session ends:
// without a broker, nothing that the batch publishes would ever be confirmed. What is given up is redelivered.
const closeTimeout = 8 * time.Second

// gather is the longest wait for more entries for a batch. The wait is as long as the previous batch took: each batch
// rewrites nearly all workers when a large file has bookings of all of them.
const gather = 500 * time.Millisecond

// work is the work of one session.
type work struct {
	conn      *bus.Conn
	roster    *roster.Roster
	rebuilder *rebuild.Rebuilder
	releaser  *release.Releaser
	intake    *intake.Intake
	takeover  *takeover.Takeover
	answers   *answers.Answers
	replayer  *replay.Replayer
	decider   *decisions.Decider
	history   *history.Keeper
}

// begin reconciles the state store and the broker's streams before anything is consumed.
func (s *service) begin(ctx context.Context, conn *bus.Conn, lost func(error)) (*work, error) {
	r := s.roster

	past, err := history.New(conn, s.cfg.Calls.Timeout, r.Log, r.Now)
	if err == nil {
		err = past.Begin(ctx)
	}

	if err != nil {
		return nil, err
	}

	out, err := outbox.New(conn)
	if err != nil {
		return nil, err
	}

	r.Lock()
	defer r.Unlock()

	meter := demand.New(conn.JS)
	w := &work{
		conn: conn, roster: r, rebuilder: rebuild.New(conn, r, s.settings().LeaseTTL()), releaser: release.New(r, meter),
		answers: &answers.Answers{Roster: r, Observer: s.observer, History: past}, history: past, replayer: replay.New(conn.JS, r, meter),
	}
	r.Out, r.Guard = out, w.rebuilder.SameStore
	if w.decider, err = decisions.New(ctx, conn.JS, r, w.releaser); err != nil {
		out.Close()
		return nil, err
	}

	if err := errors.Join(w.peekAhead(ctx), w.rebuilder.Begin(ctx, s.observer.Forget)); err != nil {
		out.Close()
		return nil, err
	}

	w.takeover = takeover.New(ctx, conn.JS, r, w.releaser, func(ctx context.Context) error {
		err := w.rebuilder.Reread(ctx)
		if err != nil {
			lost(err) // the next session announces the new epoch to ingest
		}

		return err
	})
	w.intake = &intake.Intake{
		Roster: r, Releaser: w.releaser, EndsRecovery: w.rebuilder.EndsRecovery, Metrics: r.Metrics, Telemetry: s.telemetry,
	}

	return w, nil
}

// peekAhead finds out which entries wait to be read.
func (w *work) peekAhead(ctx context.Context) error {
	consumer, err := w.conn.JS.Consumer(ctx, topology.StreamEntries, topology.ConsumerResolverEntries)
	if err != nil {
		return fmt.Errorf("look up consumer %s: %w", topology.ConsumerResolverEntries, err)
	}

	info := consumer.CachedInfo()
	w.releaser.Reached(info.AckFloor.Stream, info.NumPending+uint64(info.NumAckPending))

	return nil
}

// consume runs the handlers until ctx ends.
func (w *work) consume(ctx context.Context, lost func(error)) error {
	router, err := bus.NewRouter(w.roster.Log, closeTimeout+time.Second, w.roster.Out.DeadLetters(w.roster.Log))
	if err != nil {
		return err
	}

	open := make(chan struct{})
	close(open)

	for _, in := range []input{
		{"mapping", topology.StreamMapping, topology.ConsumerResolverMapping, otherBatch, 0, 0, 0, open, w.takeover.Handle},
		{"answers", topology.StreamAcks, topology.ConsumerResolverAcks, otherBatch, 0, answers.Linger, 0, open, w.answers.Handle},
		// Without any mapping every worker would look unknown, and rows would be settled as unmapped: entries wait.
		{"entries", topology.StreamEntries, topology.ConsumerResolverEntries, entriesBatch, entriesBytes, 0, gather, w.takeover.Mapped(), w.intake.Handle},
	} {
		if err := w.add(router, in, lost); err != nil {
			return err
		}
	}

	if w.roster.Mapping().Snapshot() == "" {
		w.roster.Log.Info("waiting for the first mapping of employee ids to AtHoc users; entries are read when it comes")
	}

	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { w.watchClock(watch) })
	watching.Go(func() { w.watchStore(watch, lost) })
	watching.Go(func() { w.tendHistory(watch) })

	err = session.Handle(ctx, router)

	stop()
	watching.Wait()

	return err
}

// input is a stream that is consumed once ready is closed. batch, bytes, linger and gather are the MaxItems, MaxBytes,
// Linger and Gather of bus.PullConfig.
type input struct {
	topic, stream, consumer string
	batch, bytes            int
	linger, gather          time.Duration
	ready                   <-chan struct{}
	handle                  message.NoPublishHandlerFunc
}

func (w *work) add(router *message.Router, in input, lost func(error)) error {
	log := w.roster.Log
	source := bus.PullSource(w.conn, bus.PullConfig{
		Stream: in.stream, Consumer: in.consumer, MaxItems: in.batch, MaxBytes: in.bytes, Linger: in.linger, Gather: in.gather, OnLost: lost, Logger: log,
	})

	sub, err := bus.NewSubscriber(w.conn, bus.SubscriberConfig{
		Source: func(string) bus.Source { return latch{source, in.ready} }, CloseTimeout: closeTimeout, Logger: log,
	})
	if err != nil {
		return err
	}

	router.AddConsumerHandler(in.topic, in.topic, sub, in.handle)

	return nil
}

// latch is a source that waits until it is ready.
type latch struct {
	bus.Source
	ready <-chan struct{}
}

// Fetch implements bus.Source.
func (l latch) Fetch(ctx context.Context) (*bus.Batch, error) {
	select {
	case <-l.ready:
		return l.Source.Fetch(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// watchClock does what falls due without a message.
func (w *work) watchClock(ctx context.Context) {
	due := time.NewTimer(dueInterval)

	defer due.Stop()

	forgetting := time.NewTicker(forgetInterval)
	defer forgetting.Stop()

	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-forgetting.C:
			err = w.forget(ctx)
		case <-due.C:
		}

		err = errors.Join(err, w.decider.Resume(ctx))
		soon, releaseErr := w.release(ctx)
		if err := errors.Join(err, releaseErr, w.answers.Repeat(ctx), w.replayer.Next(ctx)); err != nil && ctx.Err() == nil {
			w.roster.Log.Warn("what has fallen due could not be published, trying again", "error", err)
		}

		if soon {
			due.Reset(soonInterval)
		} else {
			due.Reset(dueInterval)
		}
	}
}

// forget drops strangers, who may be invented.
func (w *work) forget(ctx context.Context) error {
	w.roster.Lock()
	defer w.roster.Unlock()
	return w.roster.Forget(ctx)
}

// release publishes for workers who waited for entries or for room, and reports whether there may be room for more of
// them soon.
func (w *work) release(ctx context.Context) (soon bool, err error) {
	w.roster.Lock()
	defer w.roster.Unlock()

	c, err := w.releaser.Due(ctx)
	if err == nil && len(c.Updates)+len(c.Settled) > 0 {
		w.roster.Log.Info("held entries resolved", "updates", len(c.Updates), "rows_settled", c.Settled.Count(),
			"held_workers", len(w.roster.Unresolved))
	}

	return err == nil && w.releaser.Soon(), err
}

// tendHistory maintains the history by the clock.
func (w *work) tendHistory(ctx context.Context) {
	_ = pause.Every(ctx, tendInterval, func() error {
		if err := w.history.Tend(ctx); err != nil && ctx.Err() == nil {
			w.roster.Log.Warn("the history of what AtHoc was sent could not be looked after, trying again", "error", err)
		}
		return nil
	})
}

// watchStore ends the session when something of the broker's store is gone. A consumer does not notice that another
// service has recreated its stream with the consumers, and what was on its way is lost then.
func (w *work) watchStore(ctx context.Context, lost func(error)) {
	if err := pause.Every(ctx, storeInterval, func() error { return w.rebuilder.CheckStore(ctx) }); err != nil {
		lost(err)
	}
}
