package history

// The records of what AtHoc was sent for one worker, in their order, read along their links.

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/topology"
)

// line reads the records of one subject.
type line struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	subject string
	// tail is the subject's last record if it is cached, otherwise the zero value.
	tail tail
}

func (k *Keeper) line(ctx context.Context, subject string) (line, error) {
	stream, err := k.js.Stream(ctx, topology.StreamHistory)
	if err != nil {
		return line{}, fmt.Errorf("open stream %s: %w", topology.StreamHistory, err)
	}

	return line{js: k.js, stream: stream, subject: subject, tail: k.writer.tailOf(subject)}, nil
}

// find returns the last record up to and including a sequence, and the first one after it; nil where there is none.
func (l line) find(ctx context.Context, place uint64) (before, after *record, err error) {
	cur, err := l.begin(ctx, place)
	if err != nil || cur == nil || cur.sequence <= place {
		return cur, nil, err
	}

	for {
		far, number := cur.farthest(place)
		if far == 0 {
			if before, err = l.linked(ctx, cur); !errors.Is(err, errOther) {
				return before, cur, err
			}
			break
		}

		r, err := l.at(ctx, far, number)
		if errors.Is(err, errOther) {
			break
		}

		if err != nil {
			return nil, nil, err
		}

		if r == nil {
			place = far // it was dropped, with all that lies before it
		} else {
			cur = r
		}
	}

	if before, err = l.last(ctx, jetstreamext.GetLastMsgsUpToSeq(max(place, 1))); err != nil {
		return nil, nil, err
	}

	after, err = l.after(ctx, place)

	return before, after, err
}

// begin returns a record after a sequence, from which links lead on, or the last record; nil if there is none. The
// cached links save reading the last record. It does not matter if the cached record is gone, or is no longer the last.
func (l line) begin(ctx context.Context, place uint64) (*record, error) {
	if l.tail.sequence > place {
		seq, number := l.tail.farthest(place)
		if seq == 0 {
			seq, number = l.tail.sequence, max(l.tail.number, 1)
		}

		if r, err := l.at(ctx, seq, number); r != nil || err != nil && !errors.Is(err, errOther) {
			return r, err
		}
	}

	return l.last(ctx)
}

// before returns the record before another one; nil if there is none.
func (l line) before(ctx context.Context, r *record) (*record, error) {
	b, err := l.linked(ctx, r)
	switch {
	case !errors.Is(err, errOther):
		return b, err
	case r.sequence <= 1: // the stream was recreated, and this is its first message
		return nil, nil
	default:
		return l.last(ctx, jetstreamext.GetLastMsgsUpToSeq(r.sequence-1))
	}
}

// linked is like before, but uses the record's links alone.
func (l line) linked(ctx context.Context, r *record) (*record, error) {
	switch previous := r.previous(); {
	case r.number == 0:
		return nil, errOther
	case previous == 0:
		return nil, nil
	default:
		return l.at(ctx, previous, r.number-1)
	}
}

// errOther says that the links do not help, so that the broker has to be asked. Either an earlier version wrote the
// record, without links, or a link leads to something else, because the stream was recreated just before the record was
// written.
var errOther = errors.New("not the record that was meant")

// at returns the record at a sequence, which must have that number; nil if it was dropped, errOther if it is another
// record.
func (l line) at(ctx context.Context, place, number uint64) (*record, error) {
	m, err := l.stream.GetMsg(ctx, place)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}

	if err != nil {
		return nil, fmt.Errorf("read what AtHoc was sent: %w", err)
	}

	if m.Subject != l.subject {
		return nil, errOther
	}

	r, err := newRecord(m)
	if err == nil && max(r.number, 1) != number { // a record without links counts as the first
		return nil, errOther
	}

	return r, err
}

// after returns the first record after a sequence; nil if there is none.
func (l line) after(ctx context.Context, place uint64) (*record, error) {
	m, err := l.stream.GetMsg(ctx, place+1, jetstream.WithGetMsgSubject(l.subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}

	if err != nil {
		return nil, fmt.Errorf("read what AtHoc was sent: %w", err)
	}

	return newRecord(m)
}

// last returns the last record, or the last one up to a limit; nil if there is none.
func (l line) last(ctx context.Context, upTo ...jetstreamext.GetLastForOpt) (*record, error) {
	var last *record
	err := lastOf(ctx, l.js, []string{l.subject}, func(m *jetstream.RawStreamMsg) (err error) {
		last, err = newRecord(m)
		return err
	}, upTo...)

	return last, err
}

// lastOf calls f for the last message of each subject that has one.
func lastOf(ctx context.Context, js jetstream.JetStream, subjects []string, f func(*jetstream.RawStreamMsg) error, upTo ...jetstreamext.GetLastForOpt) error {
	msgs, err := jetstreamext.GetLastMsgsFor(ctx, js, topology.StreamHistory, subjects, upTo...)
	if err != nil {
		return fmt.Errorf("read what AtHoc was sent: %w", err)
	}

	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}

		if err == nil {
			err = f(m)
		}

		if err != nil {
			return fmt.Errorf("read what AtHoc was sent: %w", err)
		}
	}

	return nil
}
