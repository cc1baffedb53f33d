package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

const (
	// acksPerBatch and ackBytesPerBatch bound what is noted in one commit.
	acksPerBatch     = 512
	ackBytesPerBatch = 8 << 20
	// ackLinger is how long to wait for more outcomes: a commit for each of a thousand small files would cost more.
	ackLinger = 10 * time.Millisecond
	// settleClose is how long a batch that is at work may take to end.
	settleClose = 10 * time.Second
)

// settle consumes the outcomes until ctx ends or their consumer is lost.
func (x *session) settle(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lost := func(err error) { cancel(errors.Join(errLost, err)) }
	sub, err := bus.NewBatchSubscriber(x.deps.Conn, bus.BatchConfig{
		NewSource: bus.PullSource(x.deps.Conn, bus.PullConfig{
			Resolve: func(context.Context, string) (bus.ConsumerRef, error) {
				return bus.ConsumerRef{Stream: topology.StreamAcks, Name: topology.ConsumerIngestAcks}, nil
			},
			MaxItems: acksPerBatch, MaxBytes: ackBytesPerBatch, Linger: ackLinger, Logger: x.log,
			OnLost: lost,
		}),
		CloseTimeout: settleClose, OnLost: lost, Logger: x.log,
	})
	if err != nil {
		return err
	}
	router, err := bus.NewRouter(x.log, settleClose+5*time.Second)
	if err != nil {
		return err
	}
	router.AddConsumerHandler("settle", topology.SubjectAcks, sub, func(m *message.Message) error {
		err := x.settleBatch(m.Context(), bus.BatchFrom(m.Context()))
		if errors.Is(err, errKilled) {
			cancel(err)
		}
		return err
	})
	if err := router.Run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("consume outcomes: %w", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// settleBatch notes all outcomes of a batch in one commit. What cannot be read goes to the dead letters: the same bytes
// would fail for ever.
func (x *session) settleBatch(ctx context.Context, batch *bus.Batch) error {
	acks := make([]*event.Acks, 0, len(batch.Items))
	for _, item := range batch.Items {
		var a event.Acks
		if err := event.Decode(item.Data, &a); err != nil {
			if err := x.deadLetter(ctx, item, err); err != nil {
				return err
			}
			item.Term("unreadable, kept in " + topology.StreamDead)
			continue
		}
		acks = append(acks, &a)
	}
	finished, err := x.ledger.Settle(acks, x.now())
	if err != nil {
		x.log.Error("outcomes cannot be noted, trying again: make sure that the ledger's disk has room (DATA_DIRECTORY)", "error", err)
		return err
	}
	x.settled.add(len(acks))
	if err := x.reach(pointSettled); err != nil {
		return err
	}
	x.finished(finished...)
	return nil
}

func (x *session) deadLetter(ctx context.Context, item *bus.Item, reason error) error {
	now := x.now().UTC()
	m := nats.NewMsg(topology.DeadSubject(string(topology.Ingest)))
	m.Header.Set(bus.MsgIDKey, fmt.Sprintf("%s-%s-%d", topology.Ingest, item.Stream, item.Sequence))
	m.Data = event.Encode(&event.DeadLetter{
		Service: string(topology.Ingest), Reason: reason.Error(), Subject: item.Subject, Payload: item.Data,
		Attempts: item.NumDelivered, First: item.Time.UTC(), Died: now,
	})
	if _, err := x.pub.PublishEach(ctx, []*nats.Msg{m}); err != nil {
		return fmt.Errorf("keep an unreadable message: %w", err)
	}
	x.log.Error("an outcome cannot be read, it is among the dead letters; its rows are asked for again",
		"stream", item.Stream, "sequence", item.Sequence, "error", reason)
	return nil
}
