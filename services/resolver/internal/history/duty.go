package history

// Who was on duty at a moment. To find out, the last mark before the moment is read, what it points to, and what follows it.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	// markEvery is how often a mark is made, and markAfter how much may be read behind it before there is another one.
	markEvery = 6 * time.Hour
	markAfter = 20_000
	// lateness is by how much later something may be stored than what was answered at the same time: an answer waits for its
	// publisher, and a call without one for the next look.
	lateness = 5 * time.Minute
	// together is how many messages are asked for at once.
	together = 64
	// dutyPage is the most workers in an answer, well below the broker's limit of 1 MB.
	dutyPage = 2000
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
	books, _, err := k.books(ctx)
	if err != nil {
		return control.OnDutyAnswer{}, err
	}
	open, err := k.underWay(ctx) // first: what is stored meanwhile is found below
	if err != nil {
		return control.OnDutyAnswer{}, err
	}
	mark, err := k.lastMark(ctx, at)
	if err != nil {
		return control.OnDutyAnswer{}, err
	}
	late := at.Add(lateness + k.longest).UnixMilli()
	book, _, err := k.fold(ctx, mark, func(t event.Told, _ time.Time) bool { return t.Call.Sent <= late })
	if err != nil {
		return control.OnDutyAnswer{}, err
	}
	for _, t := range open {
		book.add(stored{Told: t})
	}
	return page(book, books, at, topology.NormalUsername(req.After)), nil
}

// page lists those on duty from a username on.
func page(book book, books event.Books, at time.Time, after string) control.OnDutyAnswer {
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
		switch {
		case user <= after && after != "":
		case len(answer.Workers) >= dutyPage:
			answer.More = true
		default:
			answer.Workers = append(answer.Workers, w)
		}
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

// lastMark reads the last mark that tells of nothing behind a moment; its zero value is the beginning of the stream.
func (k *Keeper) lastMark(ctx context.Context, at time.Time) (mark event.Mark, err error) {
	up := jetstreamext.GetLastMsgsUpToTime(at)
	for {
		msgs, err := jetstreamext.GetLastMsgsFor(ctx, k.js, topology.StreamHistory, []string{topology.SubjectHistoryMark}, up)
		if err != nil {
			return mark, fmt.Errorf("read a mark of the history: %w", err)
		}
		for m, err := range msgs {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				return event.Mark{}, nil
			}
			if err != nil {
				return mark, fmt.Errorf("read a mark of the history: %w", err)
			}
			if err := event.Decode(m.Data, &mark); err != nil {
				return mark, err
			}
			up = jetstreamext.GetLastMsgsUpToSeq(max(m.Sequence-1, 1)) // the first message is no mark
		}
		if mark.At <= at.UnixMilli() {
			return mark, nil
		}
	}
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

// load reads single messages. What is gone, for its age or because it was erased, is left out.
func (k *Keeper) load(ctx context.Context, sequences []uint64) (book, error) {
	stream, err := k.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}
	all := make([]stored, len(sequences))
	var group errgroup.Group
	group.SetLimit(together)
	for i, seq := range sequences {
		group.Go(func() error {
			m, err := stream.GetMsg(ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read what AtHoc was told: %w", err)
			}
			all[i].sequence = seq
			return event.Decode(m.Data, &all[i].Told)
		})
	}
	err = group.Wait()
	b := book{}
	for _, s := range all {
		if s.sequence != 0 {
			b.add(s)
		}
	}
	return b, err
}

// mark makes a mark if it is time.
func (k *Keeper) mark(ctx context.Context) error {
	stream, err := k.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}
	before, err := k.lastMark(ctx, k.now())
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if last < before.Through+markAfter && (k.now().Sub(k.marked) < markEvery || last <= before.Through+1) {
		return nil
	}
	// What is stored later than this mark was sent later than all that it covers, so nothing that it leaves out matters again.
	until := k.now().Add(-lateness)
	b, through, err := k.fold(ctx, before, func(_ event.Told, stored time.Time) bool { return stored.Before(until) })
	if err != nil || through == before.Through {
		return err
	}
	mark := event.Mark{At: before.At, Through: through, Open: []uint64{}}
	for user := range b {
		for _, s := range b[user] {
			mark.At = max(mark.At, s.Call.Sent, s.Call.Answered)
		}
		mark.Open = append(mark.Open, open(b[user])...)
	}
	slices.Sort(mark.Open)
	_, err = k.pub.PublishBatch(ctx, bus.NewMessage(topology.SubjectHistoryMark, event.Encode(&mark)))
	if err != nil {
		return fmt.Errorf("make a mark in the history: %w", err)
	}
	k.marked = k.now()
	return nil
}

// open returns the places of what has to be kept in mind of a user: nothing if he is off duty for certain.
func open(all []stored) []uint64 {
	slices.SortStableFunc(all, func(a, b stored) int { return cmp.Compare(a.Call.Sent, b.Call.Sent) })
	told := make([]event.Told, 0, len(all))
	for _, s := range all {
		told = append(told, s.Told)
	}
	p := history.At(told, event.Books{}, time.UnixMilli(1<<52))
	if len(p.Doubts) == 0 && (p.Held == nil || !p.Held.On) {
		return nil
	}
	var out []uint64
	for _, s := range all {
		if slices.Contains(p.Doubts, s.Told) || p.Held != nil && s.Told == *p.Held {
			out = append(out, s.sequence)
		}
	}
	return out
}
