package history

// What AtHoc was sent from the rows of one file.

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// filePage is the most calls in one answer, which keeps it well below the broker's limit of 1 MB.
const filePage = 1500

// FileCalls returns what AtHoc was sent from the rows of a file while the file was in work.
func (k *Keeper) FileCalls(ctx context.Context, req control.FileCallsRequest) (control.FileCallsAnswer, error) {
	answer := control.FileCallsAnswer{Deliveries: []control.DeliveryAnswer{}}

	info, _, err := k.reader.loadInfo(ctx)
	if err != nil {
		return answer, err
	}

	to := req.To
	if to.IsZero() {
		to = k.now()
	}

	late := to.Add(k.lateness + k.longest)

	var found []event.Delivery
	var failed error
	from := bus.ReadFrom{Since: req.From.Add(-time.Second)}

	err = bus.Scan(ctx, k.js, topology.StreamHistory, from, func(m *jetstream.RawStreamMsg) bool {
		var t event.Delivery

		if !topology.IsHistory(m.Subject) {
			return true
		}

		if failed = event.Decode(m.Data, &t); failed != nil {
			return false
		}

		if t.File == req.File && t.Row > req.After {
			found = append(found, t)
		}

		return !endsReading(t, late)
	})
	if err := errors.Join(err, failed); err != nil {
		return answer, err
	}

	slices.SortStableFunc(found, func(a, b event.Delivery) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Call.Sent, b.Call.Sent))
	})

	found = slices.Compact(found)
	end := wholeLines(found, filePage)

	for _, t := range found[:end] {
		shown := control.ShowDelivery(t)
		shown.User = ""
		answer.Deliveries = append(answer.Deliveries, shown)
	}

	answer.More, answer.CompleteFrom = end < len(found), info.From

	return answer, nil
}

// wholeLines returns how many of the sorted deliveries fit into a page without separating those of one line.
func wholeLines(found []event.Delivery, most int) int {
	if len(found) <= most {
		return len(found)
	}

	end := most
	for end > 1 && found[end-1].Row == found[end].Row {
		end--
	}

	return end
}
