// Package journal records what the janitor did, what operators did, and what the last comparison found. It is for operators to
// read; nothing that the janitor does depends on it.
//
// It lies in the stream JOURNAL, one message for each of these subjects:
//
//	bobo.journal.entry.<UUIDv7>   control.JournalEntry as it stands; the order of the ids is that of beginning
//	bobo.journal.mapping          Findings of the last refresh
//	bobo.journal.comparison.<n>   part n, from 0, of the last comparison
//
// The instance that leads is the only one that writes, so it reads the stream once and answers from memory.
package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

const (
	// writeTimeout is how long the broker may take to store an entry.
	writeTimeout = 5 * time.Second
	// loadBatch is how many messages are asked for at once when the journal is read.
	loadBatch = 1000
)

// Journal is the journal as the leader keeps it. It is safe for concurrent use.
type Journal struct {
	js     jetstream.JetStream
	pub    *bus.Publisher
	stream jetstream.Stream
	now    func() time.Time
	log    *slog.Logger
	// lost gets the error of a write for which there was no stream.
	lost chan error

	mu         sync.Mutex
	entries    entries
	findings   Findings
	comparison control.ReconcileAnswer
}

// Open reads the journal. Runs that have no end there were cut off with the previous leader, and count as interrupted.
func Open(ctx context.Context, js jetstream.JetStream, pub *bus.Publisher, now func() time.Time, log *slog.Logger) (*Journal, error) {
	j := &Journal{js: js, pub: pub, now: now, log: log, lost: make(chan error, 1)}
	var err error
	if j.stream, err = js.Stream(ctx, topology.StreamJournal); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := j.load(ctx); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return j, j.Interrupt()
}

// load reads the whole stream.
func (j *Journal) load(ctx context.Context) error {
	var parts []part
	for seq, last := uint64(1), j.stream.CachedInfo().State.LastSeq; seq <= last; {
		messages, err := jetstreamext.GetBatch(ctx, j.js, topology.StreamJournal, loadBatch, jetstreamext.GetBatchSeq(seq))
		if err != nil {
			return err
		}
		got := 0
		for m, err := range messages {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				break
			}
			if err != nil {
				return err
			}
			got++
			seq = m.Sequence + 1
			if err := j.take(m, &parts); err != nil {
				j.log.Warn("a message of the journal cannot be read and is left out", "subject", m.Subject, "error", err)
			}
		}
		if got == 0 {
			break
		}
	}
	j.entries.sort()
	j.comparison = whole(parts)
	return nil
}

// take adds a message that was read.
func (j *Journal) take(m *jetstream.RawStreamMsg, parts *[]part) error {
	switch {
	case strings.HasPrefix(m.Subject, topology.JournalEntrySubject("")):
		e := entry{seq: m.Sequence}
		if err := json.Unmarshal(m.Data, &e.JournalEntry); err != nil {
			return err
		}
		j.entries = append(j.entries, e)
		return nil
	case m.Subject == topology.SubjectJournalMapping:
		return json.Unmarshal(m.Data, &j.findings)
	default:
		var p part
		if err := json.Unmarshal(m.Data, &p); err != nil {
			return err
		}
		*parts = append(*parts, p)
		return nil
	}
}

// Lost waits until a write finds no stream, which is an error, or until ctx ends.
func (j *Journal) Lost(ctx context.Context) error {
	select {
	case err := <-j.lost:
		return err
	case <-ctx.Done():
		return nil
	}
}

// writing bounds a write. It is not bound to any job's context: what was cut off is worth an entry.
func writing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), writeTimeout)
}

// publish stores v under a subject and returns its sequence.
func (j *Journal) publish(ctx context.Context, subject string, v any) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("write the journal: %w", err)
	}
	ack, err := j.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data})
	if err != nil {
		return 0, j.failed(err)
	}
	return ack.Sequence, nil
}

// failed wraps the error of a write, and reports a stream that is gone.
func (j *Journal) failed(err error) error {
	err = fmt.Errorf("write the journal: %w", err)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) {
		select {
		case j.lost <- err:
		default: // it is known
		}
	}
	return err
}

// store stores an entry in place of what the stream holds of it. The caller holds j.mu.
func (j *Journal) store(ctx context.Context, e control.JournalEntry) error {
	seq, err := j.publish(ctx, topology.JournalEntrySubject(e.ID), e)
	if err != nil {
		return err
	}
	j.entries.put(entry{JournalEntry: e, seq: seq})
	return nil
}

// remove removes an entry. The caller holds j.mu.
func (j *Journal) remove(ctx context.Context, e entry) error {
	if err := j.stream.DeleteMsg(ctx, e.seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return j.failed(err)
	}
	j.entries.remove(e.ID)
	return nil
}

// Interrupt ends all entries that have no end.
func (j *Journal) Interrupt() error {
	ctx, cancel := writing()
	defer cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, e := range slices.Clone(j.entries) {
		if e.Ended.IsZero() {
			e.Ended, e.Outcome = j.now().UTC(), control.OutcomeInterrupted
			errs = append(errs, j.store(ctx, e.JournalEntry))
		}
	}
	return errors.Join(errs...)
}

// Begin stores an entry for what begins now and returns its id. An entry that has an end already is stored as it is.
func (j *Journal) Begin(e control.JournalEntry) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("name a journal entry: %w", err)
	}
	e.ID = id.String()
	if e.Started.IsZero() {
		e.Started = j.now()
	}
	e.Started = e.Started.UTC()
	ctx, cancel := writing()
	defer cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	return e.ID, j.store(ctx, e)
}

// Result is how something ended that the journal records.
type Result struct {
	Outcome string
	Counts  map[string]int
	Text    string
	Error   string
	// Again: the previous run did not succeed either. If its entry says the same, it stands for this run too.
	Again bool
}

// End ends an entry that Begin stored.
func (j *Journal) End(id string, r Result) error {
	ctx, cancel := writing()
	defer cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.entries.get(id)
	if !ok {
		return fmt.Errorf("write the journal: %w", control.Refuse("the journal has no entry %s", id))
	}
	now := e.JournalEntry
	now.Ended, now.Outcome, now.Counts, now.Error = j.now().UTC(), r.Outcome, r.Counts, r.Error
	now.Text = cmp.Or(r.Text, now.Text)
	if r.Again {
		if merged, ok := j.entries.merge(now); ok {
			return errors.Join(j.store(ctx, merged), j.remove(ctx, e))
		}
	}
	return j.store(ctx, now)
}

// List returns the entries that a request asks for, newest first, as many as fit into an answer.
func (j *Journal) List(req control.JournalRequest) (control.JournalAnswer, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries.list(req)
}

// Prune deletes what has ended and began before the given moment, and returns how many entries that were.
func (j *Journal) Prune(ctx context.Context, before time.Time) (pruned int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range slices.Clone(j.entries) {
		if e.Ended.IsZero() || !e.Started.Before(before) {
			continue
		}
		if err := j.remove(ctx, e); err != nil {
			return pruned, err
		}
		pruned++
	}
	return pruned, nil
}
