// Package deadletter keeps messages that cannot be processed, with the reason, in the stream of dead letters for an
// operator to examine.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Letter is a dead letter about a message.
type Letter struct {
	event.DeadLetter
	// id is the same each time the same message dies, so that the stream drops a letter that is already stored.
	id string
}

// maxPayload is the most bytes of a message that are kept. Its JSON form is longer by a third, and the broker's limit
// for a message is 1 MB.
const maxPayload = 700 << 10

// New returns a service's letter about an item. The reason must be free of personal data.
func New(service topology.Service, item *bus.Item, reason string) Letter {
	payload := item.Data
	if len(payload) > maxPayload {
		payload = payload[:maxPayload]
		reason = fmt.Sprintf("%s (of its %d bytes the first %d are kept)", reason, len(item.Data), maxPayload)
	}

	return Letter{
		DeadLetter: event.DeadLetter{
			Service: string(service), Reason: reason, Subject: item.Subject, Payload: payload,
			Attempts: item.NumDelivered, First: item.Time.UTC(), Died: time.Now().UTC(),
		},
		id: fmt.Sprintf("%s-%s-%d-%d", service, item.Stream, item.Sequence, item.Time.UnixNano()),
	}
}

// Publish stores letters of a service. When it returns nil, all of them are stored.
func Publish(ctx context.Context, service topology.Service, pub *bus.Publisher, letters ...Letter) error {
	msgs := make([]*message.Message, len(letters))
	for i := range letters {
		l := &letters[i]
		msgs[i] = message.NewMessageWithContext(ctx, watermill.NewUUID(), event.Encode(&l.DeadLetter))
		msgs[i].Metadata.Set(bus.MsgIDKey, l.id)

		if l.File != "" {
			msgs[i].Metadata.Set(topology.HeaderFile, l.File)
		}
	}

	if err := pub.Publish(topology.DeadSubject(string(service)), msgs...); err != nil {
		return fmt.Errorf("publish dead letters: %w", err)
	}

	return nil
}

// Middleware stores a letter for each item that the handler has settled with Term, whether or not the handler failed.
// It does so before the batch is settled. Items whose letters cannot be stored are redelivered.
func Middleware(service topology.Service, pub *bus.Publisher, log *slog.Logger) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			out, err := handle(msg)
			return out, errors.Join(err, bury(msg.Context(), service, pub, log))
		}
	}
}

// bury stores letters for the terminated items of the batch in ctx.
func bury(ctx context.Context, service topology.Service, pub *bus.Publisher, log *slog.Logger) error {
	var items []*bus.Item
	var letters []Letter
	for _, item := range bus.BatchFrom(ctx).Items {
		if reason, termed := item.Termed(); termed {
			items, letters = append(items, item), append(letters, New(service, item, reason))
		}
	}

	if err := Publish(ctx, service, pub, letters...); err != nil {
		for _, item := range items {
			item.Nak(bus.DefaultBackoff(item.NumDelivered))
		}
		return err
	}

	for i, item := range items {
		log.Error("a message cannot be processed, it is among the dead letters", "stream", item.Stream, "sequence", item.Sequence,
			"error", letters[i].Reason)
	}

	return nil
}
