// Package demand measures how much AtHoc's side can take.
package demand

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/topology"
)

// nextCall is how many users the next call to AtHoc carries at most, as BATCH_SIZE is by default.
const nextCall = 1000

const (
	// moment is how long AtHoc's side may need for what there is room for.
	moment = 500 * time.Millisecond
	// maxCalls is the most calls that there is room for at once.
	maxCalls = 8
)

// Meter tells how many updates have room in the table. While more of them wait than the next call carries there is no room, so
// nothing that is published waits behind more than AtHoc's side takes in a moment. It is not safe for concurrent use.
type Meter struct {
	js jetstream.JetStream
	// calls is for how many calls there was room at once.
	calls int
	// room is what is left of the room that there was when it was last measured. Since then it can only have become more.
	room int
	// taken is how much of it was taken since, and when some of it was taken first and last.
	taken       int
	first, last time.Time
}

// settling is how long it may take until the broker counts a message for its consumers, after it has confirmed it to who published it.
const settling = 80 * time.Millisecond

// New returns a meter of the broker's table of updates.
func New(js jetstream.JetStream) *Meter { return &Meter{js: js} }

// Room returns for how many more updates there is room, and measures anew if that may be less than wanted.
func (m *Meter) Room(ctx context.Context, wanted int) (int, error) {
	if m.room >= wanted || time.Since(m.last) < settling {
		return m.room, nil
	}
	waiting, err := waiting(ctx, m.js)
	if err != nil {
		return 0, err
	}
	if m.room = 0; waiting < nextCall {
		m.calls = calls(m.calls, m.taken-int(waiting), time.Since(m.first))
		m.room, m.taken = m.calls*nextCall, 0
	}
	return m.room, nil
}

// calls returns for how many calls there is room when so many updates were fetched in that time: for as many as are fetched in a
// moment, since several publishers fill their calls then, or AtHoc is quick; but for one at least, and at most for twice as many as
// before.
func calls(before, fetched int, took time.Duration) int {
	inMoment := float64(fetched) * float64(moment) / float64(max(took, settling)) / nextCall
	return min(max(int(math.Round(inMoment)), 1), 2*max(before, 1), maxCalls)
}

// Spare returns for how many updates there is room that can wait. It is measured anew each time, so that they make nothing wait that
// was published before.
func (m *Meter) Spare(ctx context.Context) (int, error) {
	if time.Since(m.last) < settling {
		return 0, nil
	}
	m.room, m.taken = 0, 0
	return m.Room(ctx, 1)
}

// Take notes that updates were published.
func (m *Meter) Take(updates int) {
	if updates == 0 {
		return
	}
	m.last = time.Now()
	if m.taken == 0 {
		m.first = m.last
	}
	m.taken += updates
	m.room = max(m.room-updates, 0)
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
