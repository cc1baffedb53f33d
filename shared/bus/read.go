// Reading what a stream holds, without a consumer. No service has the right to make a consumer at a broker that keeps
// its users apart, since a consumer's settings can name a subject to deliver to.

package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/pause"
)

const (
	// readBatch is the most messages that are requested at a time, and readBytes the most bytes of them.
	readBatch = 1000
	readBytes = 8 << 20
	// lagPollInterval is how soon a replica that does not hold the newest messages yet is asked again, and lagTimeout
	// for how long in all.
	lagPollInterval = 100 * time.Millisecond
	lagTimeout      = 10 * time.Second
)

// ReadFrom chooses what Read reads. The zero value is all of a stream.
type ReadFrom struct {
	// Subject selects only messages whose subjects match it; it may have wildcards.
	Subject string
	// Since selects only messages that the broker stored then or later.
	Since time.Time
	// After selects only messages behind this sequence.
	After uint64
}

// Read calls f, in order, for the messages that from selects of those that the stream holds when Read begins; it may go
// on to messages that were stored meanwhile. It needs a stream with direct access (AllowDirect).
//
// Any replica may answer, and one may lag behind. When it reads everything, Read therefore waits until it has seen the
// last message that the stream's leader reported.
func Read(ctx context.Context, js jetstream.JetStream, stream string, from ReadFrom, f func(data []byte, subject string)) error {
	return Scan(ctx, js, stream, from, func(m *jetstream.RawStreamMsg) bool {
		f(m.Data, m.Subject)
		return true
	})
}

// Scan is like Read, but passes everything that belongs to a message, and ends when f returns false.
func Scan(ctx context.Context, js jetstream.JetStream, stream string, from ReadFrom, f func(m *jetstream.RawStreamMsg) (more bool)) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", stream, err)
	}

	state := s.CachedInfo().State
	r := reader{js: js, stream: stream, from: from, handle: f, next: max(state.FirstSeq, from.After+1)}

	for lagging := time.Duration(0); state.Msgs > 0 && r.next <= state.LastSeq && !r.enough; {
		n, err := r.batch(ctx)
		switch {
		case err != nil:
			return err
		case n > 0:
			lagging = 0
			continue
		case from.Subject != "", !r.from.Since.IsZero():
			return nil // nothing more fits
		case lagging >= lagTimeout:
			return fmt.Errorf("read stream %s: a replica does not hold message %d after %s", stream, state.LastSeq, lagTimeout)
		}

		if err := pause.For(ctx, lagPollInterval); err != nil {
			return err
		}

		lagging += lagPollInterval

		if s, err = js.Stream(ctx, stream); err != nil {
			return fmt.Errorf("look up stream %s: %w", stream, err)
		}

		if s.CachedInfo().State.FirstSeq > state.LastSeq {
			return nil // it was purged meanwhile
		}
	}

	return nil
}

// reader is the state of one reading.
type reader struct {
	js     jetstream.JetStream
	stream string
	from   ReadFrom
	handle func(m *jetstream.RawStreamMsg) bool
	// next is the sequence to continue with; it is not used before the first batch of a reading that begins at a time.
	next uint64
	// enough is set when nothing more is wanted.
	enough bool
}

// batch reads the next messages and returns how many there were.
func (r *reader) batch(ctx context.Context) (n int, err error) {
	opts := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchMaxBytes(readBytes)}
	if r.from.Subject != "" {
		opts = append(opts, jetstreamext.GetBatchSubject(r.from.Subject))
	}

	if r.from.Since.IsZero() {
		opts = append(opts, jetstreamext.GetBatchSeq(max(r.next, 1)))
	} else {
		opts = append(opts, jetstreamext.GetBatchStartTime(r.from.Since))
	}

	msgs, err := jetstreamext.GetBatch(ctx, r.js, r.stream, readBatch, opts...)
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", r.stream, err)
	}

	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return n, nil
		}

		if err != nil {
			return n, fmt.Errorf("read stream %s: %w", r.stream, err)
		}

		r.from.Since, r.next, n = time.Time{}, m.Sequence+1, n+1
		if r.enough = !r.handle(m); r.enough {
			return n, nil
		}
	}

	return n, nil
}
