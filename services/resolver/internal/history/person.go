package history

// What AtHoc was told of one worker.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
)

// most is the most of a worker that is read to tell what AtHoc held, besides what is to be listed.
const most = 200

// stored is something that AtHoc was told, with its place in the stream.
type stored struct {
	event.Told
	sequence uint64
}

// Past answers what AtHoc held of a worker.
func (k *Keeper) Past(ctx context.Context, employee, user string, req control.PastRequest) (control.PastAnswer, error) {
	now := k.now()
	at := req.At
	if at.IsZero() {
		at = now
	}
	if at.After(now.Add(time.Minute)) {
		return control.PastAnswer{}, control.Refuse("%s is in the future", at.Format(time.RFC3339))
	}
	books, _, err := k.books(ctx)
	if err != nil {
		return control.PastAnswer{}, err
	}
	open, err := k.underWay(ctx) // first: what is stored meanwhile is found below
	if err != nil {
		return control.PastAnswer{}, err
	}
	var told []event.Told
	for _, subject := range subjectsOf(employee, user) {
		around, err := k.around(ctx, subject, at, min(req.Most, most))
		if err != nil {
			return control.PastAnswer{}, err
		}
		for _, s := range around {
			told = append(told, s.Told)
		}
		for _, t := range open {
			if topology.HistorySubject(t.Employee, t.User) == subject {
				told = append(told, t)
			}
		}
	}
	return answer(employee, user, at, books, told), nil
}

// subjectsOf are where it is kept what AtHoc was told of a worker. Duty that was cleared for its age, of a user of whom no booking was known,
// is kept by the username.
func subjectsOf(employee, user string) (all []string) {
	if employee != "" {
		all = append(all, topology.HistorySubject(employee, ""))
	}
	if user != "" {
		all = append(all, topology.HistorySubject("", user))
	}
	return all
}

// answer puts together what is known of a moment.
func answer(employee, user string, at time.Time, books event.Books, told []event.Told) control.PastAnswer {
	p := history.At(told, books, at)
	a := control.PastAnswer{
		Employee: employee, User: user, At: at.UTC(), State: p.State, Doubts: []control.ToldAnswer{}, Gaps: intervals(p.Gaps),
		Told: []control.ToldAnswer{}, CompleteFrom: books.From,
	}
	show := func(t *event.Told) *control.ToldAnswer {
		if t == nil {
			return nil
		}
		shown := control.ShowTold(*t)
		return &shown
	}
	a.Held, a.Next = show(p.Held), show(p.Next)
	for _, d := range p.Doubts {
		a.Doubts = append(a.Doubts, control.ShowTold(d))
	}
	for _, t := range slices.Backward(history.Sort(told)) {
		a.Told = append(a.Told, control.ShowTold(t))
	}
	return a
}

func intervals(gaps []event.Gap) []control.Interval {
	out := []control.Interval{} // JSON's null is no list
	for _, g := range gaps {
		out = append(out, control.Interval{From: time.UnixMilli(g.From).UTC(), To: time.UnixMilli(g.To).UTC()})
	}
	return out
}

// around reads what settles the state at a moment and at least so much more of before, and what follows up to what counts after the
// moment. The stream is in the order in which the answers were stored.
func (k *Keeper) around(ctx context.Context, subject string, at time.Time, list int) ([]stored, error) {
	stream, err := k.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}
	// By the time at which it was stored, which is later than the answer: what is missed by that follows.
	last, err := k.last(ctx, subject, jetstreamext.GetLastMsgsUpToTime(at))
	if err != nil {
		return nil, err
	}
	out := last
	for len(last) > 0 && last[0].sequence > 1 && (len(out) < list || !settled(out, at, k.longest)) && len(out) < most {
		if last, err = k.last(ctx, subject, jetstreamext.GetLastMsgsUpToSeq(last[0].sequence-1)); err != nil {
			return nil, err
		}
		out = append(slices.Clone(last), out...)
	}

	next := uint64(1)
	if len(out) > 0 {
		next = out[len(out)-1].sequence + 1
	}
	for range most {
		m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read what AtHoc was told: %w", err)
		}
		s := stored{sequence: m.Sequence}
		if err := event.Decode(m.Data, &s.Told); err != nil {
			return nil, err
		}
		out, next = append(out, s), m.Sequence+1
		if s.Call.Sent > at.Add(k.lateness).UnixMilli() && history.Writes(s.Told) { // what was sent before may be stored behind it
			return out, nil
		}
	}
	return out, nil
}

// settled reports whether nothing before the first of what was told can matter at a moment, for the rest of it.
func settled(all []stored, at time.Time, longest time.Duration) bool {
	return slices.ContainsFunc(all[1:], func(s stored) bool {
		return s.Call.Answered <= at.UnixMilli() && history.Settles(s.Told, all[0].Told, longest)
	})
}

// last reads the last that AtHoc was told up to a place; nothing if there is none.
func (k *Keeper) last(ctx context.Context, subject string, upTo jetstreamext.GetLastForOpt) ([]stored, error) {
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, k.js, topology.StreamHistory, []string{subject}, upTo)
	if err != nil {
		return nil, fmt.Errorf("read what AtHoc was told: %w", err)
	}
	var out []stored
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read what AtHoc was told: %w", err)
		}
		s := stored{sequence: m.Sequence}
		if err := event.Decode(m.Data, &s.Told); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
