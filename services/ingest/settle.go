package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/ingest/internal/entries"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/shared/bus"
	"bobosync/shared/deadletter"
	"bobosync/shared/event"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

const (
	// acksPerBatch and ackBytesPerBatch bound how much is noted in one commit.
	acksPerBatch     = 512
	ackBytesPerBatch = 8 << 20
	// ackLinger is how long to wait for more outcomes: one commit for each of a thousand small files would cost more.
	ackLinger = 10 * time.Millisecond
	// While at least manyRows rows wait for their outcomes, settle pauses for gatherAcks after each batch, to gather
	// more outcomes for the next commit. A call to AtHoc yields the outcomes of a thousand rows in nearly as many
	// files, and each of these files is written once per commit.
	manyRows   = 10_000
	gatherAcks = 200 * time.Millisecond
	// settleClose is how long a running batch may take to finish.
	settleClose = 10 * time.Second
)

// settle consumes the outcomes until ctx ends or their consumer is lost.
func (w *work) settle(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	lost := func(err error) { cancel(errors.Join(entries.ErrLost, err)) }
	source := bus.PullSource(w.deps.Conn, bus.PullConfig{
		Stream: topology.StreamAcks, Consumer: topology.ConsumerIngestAcks,
		MaxItems: acksPerBatch, MaxBytes: ackBytesPerBatch, Linger: ackLinger, OnLost: lost, Logger: w.log,
	})

	sub, err := bus.NewSubscriber(w.deps.Conn, bus.SubscriberConfig{
		Source: func(string) bus.Source { return source }, CloseTimeout: settleClose, Logger: w.log,
	})
	if err != nil {
		return err
	}

	router, err := bus.NewRouter(w.log, settleClose+5*time.Second, deadletter.Middleware(topology.Ingest, w.stream.Publisher(), w.log))
	if err != nil {
		return err
	}

	router.AddConsumerHandler("settle", topology.SubjectAcks, sub, func(m *message.Message) error {
		if err := w.settleBatch(bus.BatchFrom(m.Context())); err != nil {
			return err
		}

		if w.ledger.Stats(w.now(), nil).Rows >= manyRows {
			_ = pause.For(m.Context(), gatherAcks) // noted outcomes must be acknowledged in any case
		}

		return nil
	})

	if err := router.Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("consume outcomes: %w", err)
	}

	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}

	return nil
}

// settleBatch notes all outcomes of a batch in one commit. A message that cannot be read goes to the dead letters:
// the same bytes would fail forever.
func (w *work) settleBatch(batch *bus.Batch) error {
	acks := make([]*event.Acks, 0, len(batch.Items))
	for _, item := range batch.Items {
		var a event.Acks
		if err := event.Decode(item.Data, &a); err != nil {
			item.Term(err.Error()) // its rows stay unsettled until their entries are published again
			continue
		}

		acks = append(acks, &a)
	}

	finished, err := w.ledger.Settle(acks, w.now())
	if err != nil {
		w.log.Error("outcomes cannot be noted, trying again: make sure that the ledger's disk has room (DATA_DIRECTORY)", "error", err)
		return err
	}

	w.settled.Add(uint64(len(acks)))

	if err := w.hit(failpoint.Settled); err != nil {
		return err
	}

	w.mover.Add(finished...)

	return nil
}
