// Package demand measures how much AtHoc and the publishers can take.
package demand

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/topology"
)

// nextCall is the most users that the next call to AtHoc carries: the default of BATCH_SIZE.
const nextCall = 1000

const (
	// moment is how long the publishers and AtHoc may take to absorb the updates that there is room for.
	moment = 500 * time.Millisecond
	// maxCalls is the most calls that there is room for at once.
	maxCalls = 16
)

// Meter limits how many updates may be unfetched in UPDATES: about what AtHoc absorbs in half a second (moment), so
// that a new update never queues for long and publishers never run dry. There is no room while the waiting updates fill
// both the next call and half of that limit. It is not safe for concurrent use.
type Meter struct {
	js jetstream.JetStream
	// calls is the last window, in calls.
	calls int
	// room is what is left of the room found by the last measurement. The actual room can only have grown since.
	room int
	// waited is the backlog at the last measurement; taken, first and last describe the updates published since.
	waited, taken int
	first, last   time.Time
}

// settling is how long the broker may take, after it has confirmed a message, to count it for its consumers.
const settling = 80 * time.Millisecond

// New returns a meter of the broker's table of updates.
func New(js jetstream.JetStream) *Meter { return &Meter{js: js} }

// Room returns how many more updates there is room for. It measures again if that may be less than wanted, unless an
// update was published just now.
func (m *Meter) Room(ctx context.Context, wanted int) (int, error) {
	if m.room >= wanted || time.Since(m.last) < settling {
		return m.room, nil
	}

	waiting, err := unfetched(ctx, m.js)
	if err != nil {
		return 0, err
	}

	m.measure(waiting, time.Since(m.first))

	return m.room, nil
}

// measure makes room if few enough updates wait; took is the time since the first update of the last window was
// published.
func (m *Meter) measure(waiting int, took time.Duration) {
	m.room = 0
	if waiting >= max(nextCall, m.calls*nextCall/2) {
		return
	}

	m.calls = calls(m.calls, m.waited+m.taken-waiting, took)
	m.room, m.waited, m.taken = max(m.calls*nextCall-waiting, nextCall), waiting, 0
}

// Soon reports whether there may be room again within less than a moment, since something was published just now.
func (m *Meter) Soon() bool { return time.Since(m.last) < moment }

// calls returns the next window, in calls: what was fetched per moment (which is more if several publishers fill their
// calls, or AtHoc is quick), at least 1, and at most maxCalls and four times the last window.
func calls(before, fetched int, took time.Duration) int {
	inMoment := float64(fetched) * float64(moment) / float64(max(took, settling)) / nextCall
	return min(max(int(math.Round(inMoment)), 1), 4*max(before, 1), maxCalls)
}

// Spare is like Room, but for low-priority updates. It measures each time, so that they never delay earlier ones.
func (m *Meter) Spare(ctx context.Context) (int, error) {
	if time.Since(m.last) < settling {
		return 0, nil
	}

	m.room, m.waited, m.taken, m.calls = 0, 0, 0, 1

	return m.Room(ctx, 1)
}

// Take records that updates were published.
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

// unfetched counts the updates that no publisher has fetched yet. Consumers other than the publishers' also read the
// table.
func unfetched(ctx context.Context, js jetstream.JetStream) (int, error) {
	stream, err := js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}

	partitions := map[string]bool{}
	for partition := range topology.Partitions {
		partitions[topology.PartitionConsumer(partition)] = true
	}

	var waiting uint64
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		if partitions[info.Name] {
			waiting += info.NumPending
		}
	}

	return int(waiting), list.Err()
}
