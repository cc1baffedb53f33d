// Package outbox holds everything that the resolver publishes.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/shared/bus"
	"bobosync/shared/deadletter"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Name is the service's name in what it publishes.
const Name = string(topology.Resolver)

// Outbox publishes over one connection. When a method returns nil, everything that it was given is stored.
type Outbox struct {
	conn *bus.Conn
	pub  *bus.Publisher
}

// New returns an outbox on conn.
func New(conn *bus.Conn) (*Outbox, error) {
	pub, err := bus.NewPublisher(conn, bus.PublisherConfig{})
	if err != nil {
		return nil, err
	}

	return &Outbox{conn: conn, pub: pub}, nil
}

// Close closes the outbox.
func (o *Outbox) Close() { _ = o.pub.Close() } // it only waits for calls, and there are none left

// DeadLetters returns the middleware that stores, as dead letters, the messages that a handler has settled as
// unreadable.
func (o *Outbox) DeadLetters(log *slog.Logger) message.HandlerMiddleware {
	return deadletter.Middleware(topology.Resolver, o.pub, log)
}

// Updates stores updates in atomic batches, the only fast way on a broker that syncs before it acknowledges. They carry
// no message ids: the same update twice is harmless, and the broker refuses a whole atomic batch if it knows one of its
// ids.
func (o *Outbox) Updates(ctx context.Context, updates []event.Update) error {
	for part := range slices.Chunk(updates, bus.MaxBatch) {
		msgs := make([]*message.Message, 0, len(part))
		for i := range part {
			u := &part[i]
			m := bus.NewMessage(topology.UpdatesSubject(u.User), event.Encode(u))
			if u.File != "" {
				m.Metadata.Set(topology.HeaderFile, u.File)
			}

			msgs = append(msgs, m)
		}

		if _, err := o.pub.PublishBatch(ctx, msgs...); err != nil {
			return fmt.Errorf("publish %d updates: %w", len(updates), err)
		}

		// Only a hint: a publisher that misses it finds the updates at its next check.
		_ = o.conn.NC.Publish(topology.SubjectWake, nil)
	}

	return nil
}

// Acks stores the outcomes of rows.
func (o *Outbox) Acks(ctx context.Context, acks []event.Acks) error {
	msgs := make([]*message.Message, 0, len(acks))
	for i := range acks {
		msgs = append(msgs, message.NewMessageWithContext(ctx, watermill.NewUUID(), event.Encode(&acks[i])))
	}

	if err := o.pub.Publish(topology.SubjectAcks, msgs...); err != nil {
		return fmt.Errorf("publish the outcomes of rows: %w", err)
	}

	return nil
}
