// Package demand measures how much AtHoc's side can take.
package demand

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/topology"
)

// nextCall is how many users the next call to AtHoc carries at most, as BATCH_SIZE is by default.
const nextCall = 1000

const (
	// quick is how soon what there was room for has to be on its way, for there to be room for more at once.
	quick = 250 * time.Millisecond
	// maxCalls is the most calls that there is room for at once.
	maxCalls = 8
)

// Meter tells how many updates have room in the table. While more of them wait than the next call carries there is no room, so
// nothing that is published waits behind more than AtHoc's side takes in a moment. It is not safe for concurrent use.
type Meter struct {
	js jetstream.JetStream
	// calls is for how many calls there was room at once; used: some of that was taken.
	calls int
	used  bool
	// room is what is left of the room that there was when it was last measured. Since then it can only have become more.
	room int
	// taken is when some of it was taken last.
	taken time.Time
}

// settling is how long it may take until the broker counts a message for its consumers, after it has confirmed it to who published it.
const settling = 80 * time.Millisecond

// New returns a meter of the broker's table of updates.
func New(js jetstream.JetStream) *Meter { return &Meter{js: js} }

// Room returns for how many more updates there is room, and measures anew if that may be less than wanted.
func (m *Meter) Room(ctx context.Context, wanted int) (int, error) {
	if m.room >= wanted || time.Since(m.taken) < settling {
		return m.room, nil
	}
	waiting, err := waiting(ctx, m.js)
	if err != nil {
		return 0, err
	}
	m.calls, m.room = room(m.calls, waiting, m.used && time.Since(m.taken) < quick)
	m.used = false
	return m.room, nil
}

// room returns for how many calls, and so many updates, there is room while so many wait: for twice as many as before if those were
// fetched at once, since several publishers fill their calls then, or AtHoc is quick; else for one.
func room(calls int, waiting uint64, atOnce bool) (nowCalls, updates int) {
	switch {
	case waiting >= nextCall:
		return 1, 0
	case atOnce:
		nowCalls = min(2*max(calls, 1), maxCalls)
	default:
		nowCalls = 1
	}
	return nowCalls, nowCalls * nextCall
}

// Spare returns for how many updates there is room that can wait. It is measured anew each time, so that they make nothing wait that
// was published before.
func (m *Meter) Spare(ctx context.Context) (int, error) {
	if time.Since(m.taken) < settling {
		return 0, nil
	}
	m.room, m.used = 0, false
	return m.Room(ctx, 1)
}

// Take notes that updates were published.
func (m *Meter) Take(updates int) {
	if updates > 0 {
		m.room, m.taken, m.used = max(m.room-updates, 0), time.Now(), true
	}
}

// waiting counts the updates that no publisher has fetched yet. Others than publishers read the table as well.
func waiting(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	stream, err := js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}
	lanes := map[string]bool{}
	for lane := range topology.Lanes {
		lanes[topology.LaneConsumer(lane)] = true
	}
	var waiting uint64
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if lanes[info.Name] {
			waiting += info.NumPending
		}
	}
	return waiting, list.Err()
}
