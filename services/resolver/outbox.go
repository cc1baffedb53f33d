package resolver

import (
	"context"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// outbox is all that the resolver publishes. When a method returns nil, everything it was given is stored.
type outbox struct {
	conn *bus.Conn
	pub  *bus.Publisher
}

func newOutbox(conn *bus.Conn) (*outbox, error) {
	pub, err := bus.NewPublisher(conn, bus.PublisherConfig{})
	if err != nil {
		return nil, err
	}
	return &outbox{conn: conn, pub: pub}, nil
}

func (o *outbox) close() { _ = o.pub.Close() } // it only waits for calls, and there are none left

// updates stores updates in atomic batches, the only fast way on a broker that syncs before it acknowledges. They carry no
// message ids: the same update twice is harmless, and an atomic batch with one known id is refused whole.
func (o *outbox) updates(ctx context.Context, updates []event.Update) error {
	if len(updates) == 0 {
		return nil
	}
	msgs := make([]*message.Message, 0, len(updates))
	for i := range updates {
		u := &updates[i]
		m := bus.NewMessage(topology.UpdatesSubject(u.User), event.Encode(u))
		if u.File != "" {
			m.Metadata.Set(topology.HeaderFile, u.File)
		}
		msgs = append(msgs, m)
	}
	for part := range slices.Chunk(msgs, bus.MaxBatch) {
		if _, err := o.pub.PublishBatch(ctx, part...); err != nil {
			return fmt.Errorf("publish %d updates: %w", len(updates), err)
		}
		// Only a hint: a publisher that misses it finds the updates at its next look.
		_ = o.conn.NC.Publish(topology.SubjectWake, nil)
	}
	return nil
}

func (o *outbox) acks(ctx context.Context, acks []event.Acks) error {
	msgs := make([]*message.Message, 0, len(acks))
	for i := range acks {
		msgs = append(msgs, message.NewMessageWithContext(ctx, watermill.NewShortUUID(), event.Encode(&acks[i])))
	}
	if err := o.pub.Publish(topology.SubjectAcks, msgs...); err != nil {
		return fmt.Errorf("publish the outcomes of rows: %w", err)
	}
	return nil
}
