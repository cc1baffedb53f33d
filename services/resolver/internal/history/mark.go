package history

// Marks: positions in the stream from which who was on duty can be derived without reading what lies before them.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
)

const (
	// markEvery is how often a mark is made. markAfter is how many messages there may be after a mark before the next
	// one is made sooner.
	markEvery = 6 * time.Hour
	markAfter = 5_000
	// markPlaces is the most sequences in one message of a mark: each takes about ten bytes, and the broker's limit is
	// 1 MB.
	markPlaces = 50_000
)

// lastMark returns the last mark that covers nothing later than a moment. The zero value means the beginning of the
// stream.
func (r reader) lastMark(ctx context.Context, at time.Time) (event.Mark, error) {
	up := jetstreamext.GetLastMsgsUpToTime(at)
	for {
		last, seq, err := r.markPart(ctx, up)
		if err != nil || seq == 0 {
			return event.Mark{}, err
		}

		if last.At <= at.UnixMilli() && last.Index+1 >= last.Parts {
			mark, whole, err := r.wholeMark(ctx, last, seq)
			if err != nil || whole {
				return mark, err
			}
		}

		up = jetstreamext.GetLastMsgsUpToSeq(max(seq-1, 1)) // the first message is never a mark
	}
}

// markPart returns the last message of a mark up to a limit, and its sequence; 0 if there is none.
func (r reader) markPart(ctx context.Context, up jetstreamext.GetLastForOpt) (mark event.Mark, seq uint64, err error) {
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, r.js, topology.StreamHistory, []string{topology.SubjectHistoryMark}, up)
	if err != nil {
		return mark, 0, fmt.Errorf("read a mark of the history: %w", err)
	}

	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return mark, 0, nil
		}

		if err != nil {
			return mark, 0, fmt.Errorf("read a mark of the history: %w", err)
		}

		seq = m.Sequence
		if err := event.Decode(m.Data, &mark); err != nil {
			return mark, 0, err
		}
	}

	return mark, seq, nil
}

// wholeMark assembles a mark from its last part and those before it; whole is false if one of them was dropped for its
// age.
func (r reader) wholeMark(ctx context.Context, last event.Mark, seq uint64) (mark event.Mark, whole bool, err error) {
	mark = last
	if last.Parts <= 1 {
		return mark, true, nil
	}

	stream, err := r.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return mark, false, fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}

	for back := 1; back < last.Parts; back++ {
		m, err := stream.GetMsg(ctx, seq-uint64(back))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return mark, false, nil
		}

		if err != nil {
			return mark, false, fmt.Errorf("read a mark of the history: %w", err)
		}

		var part event.Mark
		if err := event.Decode(m.Data, &part); err != nil || part.Parts != last.Parts || part.Index != last.Parts-1-back {
			return mark, false, err
		}

		mark.Open = append(mark.Open, part.Open...)
	}

	return mark, true, nil
}

// parts returns the messages of a mark.
func parts(mark event.Mark) (msgs []*message.Message) {
	open := mark.Open
	mark.Parts = max((len(open)+markPlaces-1)/markPlaces, 1)
	for mark.Index = range mark.Parts {
		n := min(len(open), markPlaces)
		mark.Open, open = open[:n], open[n:]
		msgs = append(msgs, bus.NewMessage(topology.SubjectHistoryMark, event.Encode(&mark)))
	}

	return msgs
}

// mark makes a mark if it is time.
func (k *Keeper) mark(ctx context.Context) error {
	stream, err := k.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}

	before, err := k.reader.lastMark(ctx, k.now())
	if err != nil {
		return err
	}

	last := stream.CachedInfo().State.LastSeq
	if last < before.Through+markAfter && (k.now().Sub(k.marked) < markEvery || last <= before.Through+1) {
		return nil
	}

	// Whatever is stored after this mark was sent later than everything that the mark covers, so nothing that it leaves
	// out can matter again.
	until := k.now().Add(-k.lateness)

	b, through, err := k.reader.readFrom(ctx, before, func(_ event.Delivery, stored time.Time) bool { return stored.Before(until) })
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

	if _, err = k.pub.PublishBatch(ctx, parts(mark)...); err != nil {
		return fmt.Errorf("make a mark in the history: %w", err)
	}

	k.marked = k.now()

	return k.renewInfo(ctx)
}

// open returns the sequences of the records that have to be kept of a user: none if the user is off duty for certain.
func open(all []stored) []uint64 {
	slices.SortStableFunc(all, func(a, b stored) int { return cmp.Compare(a.Call.Sent, b.Call.Sent) })

	p := history.At(deliveriesOf(all), event.HistoryInfo{}, time.UnixMilli(1<<52))
	if len(p.Doubts) == 0 && (p.Confirmed == nil || !p.Confirmed.On) {
		return nil
	}

	var out []uint64
	for _, s := range all {
		if slices.Contains(p.Doubts, s.Delivery) || p.Confirmed != nil && s.Delivery == *p.Confirmed {
			out = append(out, s.sequence)
		}
	}

	return out
}
