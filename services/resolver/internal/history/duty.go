package history

// Who was on duty at a moment. To find out, the last mark before the moment is read, what it points to, and what follows it.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
)

const (
	// lateness is by how much later something may be stored than what was answered at the same time: an answer waits for its
	// publisher, and a call without one for the next check.
	lateness = 5 * time.Minute
	// together is how many ranges of the stream are read at once, runLength the longest. What lies no further apart than nearby is read in
	// one: a request costs as much as that many messages.
	together  = 32
	runLength = 1000
	nearby    = 10
	// dutyPage is the most workers in an answer, well below the broker's limit of 1 MB.
	dutyPage = 2000
	// pagesFor is how long an answer is kept for its further pages.
	pagesFor = time.Minute
)

// OnDuty answers whom AtHoc held as on duty.
func (k *Keeper) OnDuty(ctx context.Context, req control.OnDutyRequest) (control.OnDutyAnswer, error) {
	now := k.now()
	at := req.At
	if at.IsZero() {
		at = now
	}
	if at.After(now.Add(time.Minute)) {
		return control.OnDutyAnswer{}, control.Refuse("%s is in the future", at.Format(time.RFC3339))
	}
	state := k.asked.Load()
	if req.After == "" || state == nil || !state.at.Equal(at) || now.Sub(state.read) > pagesFor {
		var err error
		if state, err = k.read(ctx, at); err != nil {
			return control.OnDutyAnswer{}, err
		}
		k.asked.Store(state)
	}
	return page(state.answer, topology.NormalUsername(req.After)), nil
}

// moment is what is known of a moment, all workers in one answer; it is kept for its further pages.
type moment struct {
	at, read time.Time
	answer   control.OnDutyAnswer
}

// read reads what is known of a moment.
func (k *Keeper) read(ctx context.Context, at time.Time) (*moment, error) {
	info, _, err := k.loadInfo(ctx)
	if err != nil {
		return nil, err
	}
	open, err := k.underWay(ctx) // first: what is stored meanwhile is found below
	if err != nil {
		return nil, err
	}
	mark, err := k.lastMark(ctx, at)
	if err != nil {
		return nil, err
	}
	late := at.Add(k.lateness + k.longest).UnixMilli()
	deliveries, _, err := k.readFrom(ctx, mark, func(t event.Delivery, _ time.Time) bool { return t.Call.Sent <= late })
	if err != nil {
		return nil, err
	}
	for _, t := range open {
		deliveries.add(stored{Delivery: t})
	}
	return &moment{at: at, read: k.now(), answer: onDuty(deliveries, info, at)}, nil
}

// page is the part of an answer that lists those behind a username.
func page(answer control.OnDutyAnswer, after string) control.OnDutyAnswer {
	if after != "" {
		from := slices.IndexFunc(answer.Workers, func(w control.OnDutyWorker) bool { return topology.NormalUsername(w.User) > after })
		if from < 0 {
			from = len(answer.Workers)
		}
		answer.Workers = answer.Workers[from:]
	}
	if answer.More = len(answer.Workers) > dutyPage; answer.More {
		answer.Workers = answer.Workers[:dutyPage]
	}
	return answer
}

// onDuty lists all who are on duty, or may be, by username.
func onDuty(deliveries userDeliveries, info event.HistoryInfo, at time.Time) control.OnDutyAnswer {
	answer := control.OnDutyAnswer{At: at.UTC(), Workers: []control.OnDutyWorker{}, CompleteFrom: info.From}
	for _, user := range slices.Sorted(maps.Keys(deliveries)) {
		own := deliveries.of(user)
		p := history.At(own, info, at)
		w := control.OnDutyWorker{User: own[len(own)-1].User, Employee: own[len(own)-1].Employee, State: p.State}
		switch p.State {
		case history.On:
			w.Since, w.Answered, w.Call = time.Unix(p.Confirmed.At, 0).UTC(), time.UnixMilli(p.Confirmed.Call.Answered).UTC(), p.Confirmed.Call.ID
			w.User, w.Employee = p.Confirmed.User, p.Confirmed.Employee
			answer.Total++
		case history.Uncertain:
			answer.Uncertain++
			answer.Gaps = intervals(p.Gaps)
		default:
			continue
		}
		answer.Workers = append(answer.Workers, w)
	}
	if answer.Gaps == nil {
		answer.Gaps = []control.Interval{}
	}
	return answer
}

// userDeliveries is what AtHoc was sent, as far as it matters, by username without letter case.
type userDeliveries map[string][]stored

func (b userDeliveries) add(s stored) {
	user := topology.NormalUsername(s.User)
	b[user] = append(b[user], s)
}

func (b userDeliveries) of(user string) []event.Delivery {
	all := make([]event.Delivery, 0, len(b[user]))
	for _, s := range b[user] {
		all = append(all, s.Delivery)
	}
	return all
}

// readFrom reads what a mark points to, and what follows it for as long as it is wanted. It returns how far it came.
func (k *Keeper) readFrom(ctx context.Context, mark event.Mark, wanted func(t event.Delivery, stored time.Time) bool) (b userDeliveries, through uint64, err error) {
	if b, err = k.load(ctx, mark.Open); err != nil {
		return nil, 0, err
	}
	through = mark.Through
	var failed error
	err = bus.Scan(ctx, k.js, topology.StreamHistory, bus.ReadFrom{After: mark.Through}, func(m *jetstream.RawStreamMsg) bool {
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

// load reads messages by sequence. What is gone, for its age or because it was erased, is left out.
func (k *Keeper) load(ctx context.Context, places []uint64) (userDeliveries, error) {
	var mu sync.Mutex
	b := userDeliveries{}
	var group errgroup.Group
	group.SetLimit(together)
	for _, run := range runs(places) {
		group.Go(func() error {
			return k.loadRun(ctx, run, func(s stored) {
				mu.Lock()
				defer mu.Unlock()
				b.add(s)
			})
		})
	}
	return b, group.Wait()
}

// runs cuts sequences into ranges of the stream, each of which is read at once, with what lies between.
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
func (k *Keeper) loadRun(ctx context.Context, run []uint64, f func(stored)) error {
	length := int(run[len(run)-1] - run[0] + 1)
	msgs, err := jetstreamext.GetBatch(ctx, k.js, topology.StreamHistory, length, jetstreamext.GetBatchSeq(run[0]))
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
