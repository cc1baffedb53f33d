// Package journal records what the janitor did, what operators did, and what the last comparison found. It is for
// operators to read; nothing that the janitor does depends on it.
//
// It is kept in the stream JOURNAL, one message for each of these subjects:
//
//	bobo.journal.entry.<UUIDv7>   control.JournalEntry in its latest form; the ids sort by when the entries began
//	bobo.journal.mapping          Findings of the last refresh
//	bobo.journal.comparison.<n>   part n, from 0, of the last comparison
//
// Only the leader writes to it, so the leader reads the stream once and answers from memory.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// Journal is the journal as the leader keeps it. It is safe for concurrent use.
type Journal struct {
	storage *storage
	now     func() time.Time

	mu sync.Mutex
	contents

	// held is the last comparison, without its users, if it should have sent statuses but the guard held them back. It
	// can be read without waiting for the broker.
	held atomic.Pointer[control.ReconcileAnswer]
}

// contents is what the journal holds.
type contents struct {
	entries    entries
	findings   Findings
	comparison control.ReconcileAnswer
}

// Open reads the journal. Entries without an end belong to runs that were cut off with the previous leader; Open ends
// them as interrupted.
func Open(ctx context.Context, js jetstream.JetStream, pub *bus.Publisher, now func() time.Time, log *slog.Logger) (*Journal, error) {
	j := &Journal{storage: &storage{js: js, pub: pub, lost: make(chan error, 1)}, now: now}
	var err error
	if j.storage.stream, err = js.Stream(ctx, topology.StreamJournal); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}

	if j.contents, err = j.storage.read(ctx, log); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}

	j.keepComparison(j.comparison)

	return j, j.Interrupt()
}

// Lost returns an error as soon as a write finds that the stream is gone, or nil when ctx ends.
func (j *Journal) Lost(ctx context.Context) error {
	select {
	case err := <-j.storage.lost:
		return err
	case <-ctx.Done():
		return nil
	}
}

// store stores an entry, replacing the stream's previous version of it. The caller holds j.mu.
func (j *Journal) store(ctx context.Context, e control.JournalEntry) error {
	seq, err := j.storage.publish(ctx, topology.JournalEntrySubject(e.ID), e)
	if err != nil {
		return err
	}

	j.entries.put(entry{JournalEntry: e, seq: seq})

	return nil
}

// remove removes an entry. The caller holds j.mu.
func (j *Journal) remove(ctx context.Context, e entry) error {
	if err := j.storage.stream.DeleteMsg(ctx, e.seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return j.storage.failed(err)
	}

	j.entries.remove(e.ID)

	return nil
}

// Interrupt ends all open entries as interrupted.
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

// Begin stores an entry for something that begins now and returns its id. An entry that already has an end is stored
// as it is.
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

// Result is the result of a run, as the journal records it.
type Result struct {
	Outcome string
	Counts  map[string]int
	Text    string
	Error   string
	// Again: the previous run failed too. If its entry says the same, it represents this run as well.
	Again bool
}

// End ends an entry that Begin stored. With r.Again it may merge the entry into the previous one.
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

// Prune deletes the entries that have ended and that began before the given moment, and returns their number.
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
