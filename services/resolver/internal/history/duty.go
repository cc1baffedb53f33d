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
	// publisher, and a call without one for the next look.
	lateness = 5 * time.Minute
	// together is how many stretches of the stream are read at once, runLength the longest. What lies no further apart than nearby is read in
	// one: to ask costs as much as that many messages.
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
	books, _, err := k.books(ctx)
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
	book, _, err := k.fold(ctx, mark, func(t event.Told, _ time.Time) bool { return t.Call.Sent <= late })
	if err != nil {
		return nil, err
	}
	for _, t := range open {
		book.add(stored{Told: t})
	}
	return &moment{at: at, read: k.now(), answer: onDuty(book, books, at)}, nil
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
func onDuty(book book, books event.Books, at time.Time) control.OnDutyAnswer {
	answer := control.OnDutyAnswer{At: at.UTC(), Workers: []control.OnDutyWorker{}, CompleteFrom: books.From}
	for _, user := range slices.Sorted(maps.Keys(book)) {
		told := book.told(user)
		p := history.At(told, books, at)
		w := control.OnDutyWorker{User: told[len(told)-1].User, Employee: told[len(told)-1].Employee, State: p.State}
		switch p.State {
		case history.On:
			w.Since, w.Answered, w.Call = time.Unix(p.Held.At, 0).UTC(), time.UnixMilli(p.Held.Call.Answered).UTC(), p.Held.Call.ID
			w.User, w.Employee = p.Held.User, p.Held.Employee
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

// book is what AtHoc was told, as far as it matters, by username without letter case.
type book map[string][]stored

func (b book) add(s stored) {
	user := topology.NormalUsername(s.User)
	b[user] = append(b[user], s)
}

func (b book) told(user string) []event.Told {
	told := make([]event.Told, 0, len(b[user]))
	for _, s := range b[user] {
		told = append(told, s.Told)
	}
	return told
}

// fold reads what a mark points to, and what follows it for as long as it is wanted. It returns how far it came.
func (k *Keeper) fold(ctx context.Context, mark event.Mark, wanted func(t event.Told, stored time.Time) bool) (b book, through uint64, err error) {
	if b, err = k.load(ctx, mark.Open); err != nil {
		return nil, 0, err
	}
	through = mark.Through
	var failed error
	err = bus.Scan(ctx, k.js, topology.StreamHistory, bus.ReadFrom{After: mark.Through}, func(m *jetstream.RawStreamMsg) bool {
		if topology.IsHistory(m.Subject) {
			s := stored{sequence: m.Sequence}
			if failed = event.Decode(m.Data, &s.Told); failed != nil || !wanted(s.Told, m.Time) {
				return false
			}
			b.add(s)
		}
		through = m.Sequence
		return true
	})
	return b, through, errors.Join(err, failed)
}

// load reads messages at places. What is gone, for its age or because it was erased, is left out.
func (k *Keeper) load(ctx context.Context, places []uint64) (book, error) {
	var mu sync.Mutex
	b := book{}
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

// runs cuts places into stretches of the stream, each of which is read at once, with what lies between.
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

// loadRun reads a stretch and calls f for the messages at its places.
func (k *Keeper) loadRun(ctx context.Context, run []uint64, f func(stored)) error {
	length := int(run[len(run)-1] - run[0] + 1)
	msgs, err := jetstreamext.GetBatch(ctx, k.js, topology.StreamHistory, length, jetstreamext.GetBatchSeq(run[0]))
	if err != nil {
		return fmt.Errorf("read what AtHoc was told: %w", err)
	}
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what AtHoc was told: %w", err)
		}
		if _, wanted := slices.BinarySearch(run, m.Sequence); !wanted || !topology.IsHistory(m.Subject) {
			continue
		}
		s := stored{sequence: m.Sequence}
		if err := event.Decode(m.Data, &s.Told); err != nil {
			return err
		}
		f(s)
	}
	return nil
}
