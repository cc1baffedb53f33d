package resolver

import (
	"context"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/event"
)

// deadItems are messages that cannot be read.
type deadItems struct {
	items   []*bus.Item
	letters []event.DeadLetter
}

func (d *deadItems) add(item *bus.Item, reason error) {
	d.items = append(d.items, item)
	d.letters = append(d.letters, event.DeadLetter{
		Service: name, Reason: reason.Error(), Subject: item.Subject, Payload: item.Data,
		Attempts: item.NumDelivered, First: item.Time, Died: time.Now().UTC(),
	})
}

// bury stores the dead letters and only then lets go of the messages.
func (d *deadItems) bury(ctx context.Context, out *outbox) error {
	for i := range d.letters {
		if err := out.dead(ctx, d.letters[i]); err != nil {
			return err
		}
	}
	for _, item := range d.items {
		item.Term("not readable")
	}
	return nil
}
