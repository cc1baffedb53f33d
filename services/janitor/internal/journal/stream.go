package journal

// The stream of the journal: how it is read, and how it is written.

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
	// loadBatch is how many messages are asked for at once when the journal is read.
	loadBatch = 1000
)

// storage is the journal's stream with what writes it. It is safe for concurrent use.
type storage struct {
	js     jetstream.JetStream
	pub    *bus.Publisher
	stream jetstream.Stream
	// lost gets the error of a write for which there was no stream.
	lost chan error
}

// read reads the whole stream. What cannot be read of it is logged and left out.
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

// take adds a message that was read.
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

// writing bounds a write. It is not bound to any job's context: what was cut off is worth an entry.
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

// failed wraps the error of a write, and reports a stream that is gone.
func (s *storage) failed(err error) error {
	err = fmt.Errorf("write the journal: %w", err)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) {
		select {
		case s.lost <- err:
		default: // it is known
		}
	}

	return err
}
