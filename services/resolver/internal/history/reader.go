package history

// Reading the stream HISTORY: what is known of it as a whole, and ranges of it with the records of all workers.

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

const (
	// together is how many ranges of the stream are read at once, and runLength is the longest range. Records that are
	// no further apart than nearby are read in one range: a request costs as much as that many messages.
	together  = 32
	runLength = 1000
	nearby    = 10
)

// reader reads the stream. It may be used by several goroutines.
type reader struct {
	js jetstream.JetStream
}

// stored is something that AtHoc was sent, with its sequence in the stream.
type stored struct {
	event.Delivery
	sequence uint64
}

// deliveriesOf returns the deliveries without their sequences.
func deliveriesOf(all []stored) []event.Delivery {
	deliveries := make([]event.Delivery, 0, len(all))
	for _, s := range all {
		deliveries = append(deliveries, s.Delivery)
	}

	return deliveries
}

// loadInfo returns what is known of the history; known is false if the stream was recreated.
func (r reader) loadInfo(ctx context.Context) (info event.HistoryInfo, known bool, err error) {
	stream, err := r.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return info, false, fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}

	m, err := stream.GetLastMsgForSubject(ctx, topology.SubjectHistoryInfo)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return info, false, nil
	case err != nil:
		return info, false, fmt.Errorf("read what is known of the history: %w", err)
	}

	err = event.Decode(m.Data, &info)
	if state := stream.CachedInfo().State; state.FirstSeq > 1 && state.FirstTime.After(info.From) {
		info.From = state.FirstTime.UTC() // earlier records were dropped for their age
	}

	return info, true, err
}

// lastStored returns when the history was last written, in Unix milliseconds.
func (r reader) lastStored(ctx context.Context) (int64, error) {
	stream, err := r.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return 0, fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}

	return stream.CachedInfo().State.LastTime.UnixMilli(), nil
}

// storedBy returns the sequence of the last message that was stored before a moment, and math.MaxUint64 if none was
// stored since.
func (r reader) storedBy(ctx context.Context, moment time.Time) (uint64, error) {
	msgs, err := jetstreamext.GetBatch(ctx, r.js, topology.StreamHistory, 1, jetstreamext.GetBatchStartTime(moment))
	if err != nil {
		return 0, fmt.Errorf("look up a moment in the history: %w", err)
	}

	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}

		if err != nil {
			return 0, fmt.Errorf("look up a moment in the history: %w", err)
		}

		return m.Sequence - 1, nil
	}

	return math.MaxUint64, nil
}

// userDeliveries holds the deliveries that still matter, by topology.NormalUsername.
type userDeliveries map[string][]stored

func (b userDeliveries) add(s stored) {
	user := topology.NormalUsername(s.User)
	b[user] = append(b[user], s)
}

// readFrom reads the records that a mark points to, and those that follow it for as long as wanted returns true. It
// returns the last sequence it covered.
func (r reader) readFrom(ctx context.Context, mark event.Mark, wanted func(t event.Delivery, stored time.Time) bool) (b userDeliveries, through uint64, err error) {
	if b, err = r.load(ctx, mark.Open); err != nil {
		return nil, 0, err
	}

	through = mark.Through
	var failed error
	err = bus.Scan(ctx, r.js, topology.StreamHistory, bus.ReadFrom{After: mark.Through}, func(m *jetstream.RawStreamMsg) bool {
		if topology.IsHistory(m.Subject) {
			s := stored{sequence: m.Sequence}
			if failed = event.Decode(m.Data, &s.Delivery); failed != nil || !wanted(s.Delivery, m.Time) {
				return false
			}

			b.add(s)
		}

		through = m.Sequence

		return true
	})

	return b, through, errors.Join(err, failed)
}

// load reads records by sequence. Records that are gone, for their age or because they were erased, are left out.
func (r reader) load(ctx context.Context, places []uint64) (userDeliveries, error) {
	var mu sync.Mutex
	b := userDeliveries{}
	var group errgroup.Group
	group.SetLimit(together)

	for _, run := range runs(places) {
		group.Go(func() error {
			return r.loadRun(ctx, run, func(s stored) {
				mu.Lock()
				defer mu.Unlock()

				b.add(s)
			})
		})
	}

	return b, group.Wait()
}

// runs groups sequences into ranges of the stream. Each range is read at once, with what lies between its sequences.
func runs(places []uint64) (all [][]uint64) {
	places = slices.Sorted(slices.Values(places))
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n]-places[n-1] <= nearby && places[n]-places[0] < runLength {
			n++
		}

		all, places = append(all, places[:n]), places[n:]
	}

	return all
}

// loadRun reads a range and calls f for the messages at its sequences.
func (r reader) loadRun(ctx context.Context, run []uint64, f func(stored)) error {
	length := int(run[len(run)-1] - run[0] + 1)

	msgs, err := jetstreamext.GetBatch(ctx, r.js, topology.StreamHistory, length, jetstreamext.GetBatchSeq(run[0]))
	if err != nil {
		return fmt.Errorf("read what AtHoc was sent: %w", err)
	}

	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}

		if err != nil {
			return fmt.Errorf("read what AtHoc was sent: %w", err)
		}

		if _, wanted := slices.BinarySearch(run, m.Sequence); !wanted || !topology.IsHistory(m.Subject) {
			continue
		}

		s := stored{sequence: m.Sequence}
		if err := event.Decode(m.Data, &s.Delivery); err != nil {
			return err
		}

		f(s)
	}

	return nil
}
