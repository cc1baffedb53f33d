package journal

// The journal's stream: how it is read and written.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/bus"
	"bobosync/shared/topology"
)

const (
	// writeTimeout is how long the broker may take to store an entry.
	writeTimeout = 5 * time.Second
	// loadBatch is the number of messages that one request fetches when the journal is read.
	loadBatch = 1000
)

// storage reads and writes the journal's stream. It is safe for concurrent use.
type storage struct {
	js     jetstream.JetStream
	pub    *bus.Publisher
	stream jetstream.Stream
	// lost receives the error of a write that found no stream.
	lost chan error
}

// read reads the whole stream. It logs messages that cannot be read, and skips them.
func (s *storage) read(ctx context.Context, log *slog.Logger) (c contents, err error) {
	var parts []part
	for seq, last := uint64(1), s.stream.CachedInfo().State.LastSeq; seq <= last; {
		messages, err := jetstreamext.GetBatch(ctx, s.js, topology.StreamJournal, loadBatch, jetstreamext.GetBatchSeq(seq))
		if err != nil {
			return c, err
		}

		from := seq
		for m, err := range messages {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}

			if err != nil {
				return c, err
			}

			seq = m.Sequence + 1
			if err := c.take(m, &parts); err != nil {
				log.Warn("a message of the journal cannot be read and is left out", "subject", m.Subject, "error", err)
			}
		}

		if seq == from {
			break
		}
	}

	c.entries.sort()
	c.comparison = whole(parts)

	return c, nil
}

// take adds one message of the stream.
func (c *contents) take(m *jetstream.RawStreamMsg, parts *[]part) error {
	switch {
	case strings.HasPrefix(m.Subject, topology.JournalEntrySubject("")):
		e := entry{seq: m.Sequence}
		if err := json.Unmarshal(m.Data, &e.JournalEntry); err != nil {
			return err
		}

		c.entries = append(c.entries, e)

		return nil
	case m.Subject == topology.SubjectJournalMapping:
		return json.Unmarshal(m.Data, &c.findings)
	default:
		var p part
		if err := json.Unmarshal(m.Data, &p); err != nil {
			return err
		}

		*parts = append(*parts, p)

		return nil
	}
}

// writing returns the context of a write. It does not derive from a job's context: a run that was cut off should still
// get its entry.
func writing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), writeTimeout)
}

// publish stores v under a subject and returns its sequence.
func (s *storage) publish(ctx context.Context, subject string, v any) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("write the journal: %w", err)
	}

	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data})
	if err != nil {
		return 0, s.failed(err)
	}

	return ack.Sequence, nil
}

// failed wraps the error of a write. If the stream is gone, it also sends the error to lost.
func (s *storage) failed(err error) error {
	err = fmt.Errorf("write the journal: %w", err)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) {
		select {
		case s.lost <- err:
		default: // an error is already waiting
		}
	}

	return err
}
