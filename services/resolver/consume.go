package resolver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/deadletter"
	"bobosync/shared/session"
	"bobosync/shared/topology"
)

// The most messages in a batch. A message of entries holds up to 500 of them, so a batch holds up to 50,000 in some
// 4 MB; reading on beyond that is the hold's matter.
const (
	entriesBatch = 100
	otherBatch   = 200
)

// consume runs the handlers until ctx ends.
func (r *resolver) consume(ctx context.Context, conn *bus.Conn, lost func(error)) error {
	router, err := bus.NewRouter(r.log, session.CloseTimeout+5*time.Second, deadletter.Middleware(topology.Resolver, r.out.pub, r.log))
	if err != nil {
		return err
	}
	mapped := make(chan struct{})
	snapshot, err := r.memory.Snapshot()
	if err != nil {
		return err
	}
	if snapshot != "" {
		close(mapped)
	}
	add := func(topic, stream, consumer string, most int, linger time.Duration, gate <-chan struct{}, handle message.NoPublishHandlerFunc) error {
		source := bus.PullSource(conn, bus.PullConfig{
			Stream: stream, Consumer: consumer, MaxItems: most, Linger: linger, OnLost: lost, Logger: r.log,
		})
		sub, err := bus.NewSubscriber(conn, bus.SubscriberConfig{
			Source: func(string) bus.Source { return gated{source, gate} }, CloseTimeout: session.CloseTimeout, Logger: r.log,
		})
		if err != nil {
			return err
		}
		router.AddConsumerHandler(topic, topic, sub, handle)
		return nil
	}
	open := make(chan struct{})
	close(open)
	if err := add("mapping", topology.StreamMapping, topology.ConsumerResolverMapping, otherBatch, 0, open, r.mappings(mapped)); err != nil {
		return err
	}
	if err := add("answers", topology.StreamAcks, topology.ConsumerResolverAcks, otherBatch, answerLinger, open, r.answers); err != nil {
		return err
	}
	// Without any mapping nobody could be told from an unknown worker, and rows would be settled as unmapped: entries wait.
	if err := add("entries", topology.StreamEntries, topology.ConsumerResolverEntries, entriesBatch, 0, mapped, r.entries); err != nil {
		return err
	}
	if snapshot == "" {
		r.log.Info("waiting for the first mapping of employee ids to AtHoc users; entries are read when it comes")
	}
	return r.runHandlers(ctx, router, conn, lost)
}

// runHandlers runs the router, and beside it the watches on the clock and on the broker's store.
func (r *resolver) runHandlers(ctx context.Context, router *message.Router, conn *bus.Conn, lost func(error)) error {
	watch, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { r.watchClock(watch, conn) })
	watching.Go(func() { r.watchStore(watch, conn.JS, lost) })
	err := session.Handle(ctx, router)
	stop()
	watching.Wait()
	return err
}

// storeLook is how often it is looked whether the broker's store is still the one that this session began with.
const storeLook = 2 * time.Second

// watchStore ends the session when the table of updates, or the bucket that the resolver answers for, is gone or another one. Who
// pulls from a stream does not notice if another service has made it anew, with its consumers; what was on its way is lost.
func (r *resolver) watchStore(ctx context.Context, js jetstream.JetStream, lost func(error)) {
	ticker := time.NewTicker(storeLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := r.checkStore(ctx, js); err != nil {
			lost(err)
			return
		}
	}
}

// checkStore returns an error if something of the store is gone. That the broker cannot be asked now is none.
func (r *resolver) checkStore(ctx context.Context, js jetstream.JetStream) error {
	now, err := topology.Identity(ctx, js, topology.StreamUpdates)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if err == nil {
		before, err := r.memory.Identity(topology.StreamUpdates)
		if err == nil && before != now {
			return fmt.Errorf("stream %s was made anew", topology.StreamUpdates)
		}
	}
	if _, err := js.KeyValue(ctx, topology.BucketState); errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("look up bucket %s: %w", topology.BucketState, err)
	}
	return nil
}

// gated is a source that waits for its gate.
type gated struct {
	bus.Source
	gate <-chan struct{}
}

// Fetch implements bus.Source.
func (g gated) Fetch(ctx context.Context) (*bus.Batch, error) {
	select {
	case <-g.gate:
		return g.Source.Fetch(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
