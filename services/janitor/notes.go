package janitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// notesKey is where the janitors keep, in the state bucket, what must outlive the machine that one of them works on.
const notesKey = "janitor.duties"

// notesVersion is the version of the notes' form. Notes of another version count as none.
const notesVersion = 1

// notes are what must outlive the machine that a janitor works on.
type notes struct {
	V      int                 `json:"v"`
	Duties map[string]dutyNote `json:"duties"`
	// Held is the mapping that is held back; nil if none is.
	Held *held `json:"held,omitempty"`
	// Unmapped is what an early refresh of the mapping depends on.
	Unmapped unmappedNote `json:"unmapped,omitzero"`
}

// dutyNote is what is remembered of a duty.
type dutyNote struct {
	// Since is when a janitor first knew of the duty. It counts as done then, so that a first start waits for the hour, and a
	// machine that is never on at that hour still catches up.
	Since time.Time `json:"since"`
	// Done is the end of the last run by the clock that needs not be repeated, Succeeded that of the last one that succeeded,
	// whoever asked for it.
	Done      time.Time `json:"done,omitzero"`
	Succeeded time.Time `json:"succeeded,omitzero"`
}

// last is the moment that the schedule goes by.
func (n dutyNote) last() time.Time {
	if n.Done.After(n.Since) {
		return n.Done
	}
	return n.Since
}

// errConflict means that somebody else has written meanwhile.
var errConflict = errors.New("another janitor has written meanwhile")

// cell is one value that outlives processes. Revision 0 stands for none.
type cell interface {
	load(ctx context.Context) (value []byte, revision uint64, err error)
	// save takes the place of the value with that revision; it returns errConflict if there is another one by now.
	save(ctx context.Context, value []byte, revision uint64) (uint64, error)
}

// kvCell is a key in a bucket.
type kvCell struct {
	kv  jetstream.KeyValue
	key string
}

func (c kvCell) load(ctx context.Context) ([]byte, uint64, error) {
	entry, err := c.kv.Get(ctx, c.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s in bucket %s: %w", c.key, c.kv.Bucket(), err)
	}
	return entry.Value(), entry.Revision(), nil
}

func (c kvCell) save(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	var err error
	if revision == 0 {
		revision, err = c.kv.Create(ctx, c.key, value)
	} else {
		revision, err = c.kv.Update(ctx, c.key, value, revision)
	}
	if conflicting(err) {
		err = errors.Join(errConflict, err)
	}
	if err != nil {
		return 0, fmt.Errorf("write %s in bucket %s: %w", c.key, c.kv.Bucket(), err)
	}
	return revision, nil
}

func conflicting(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // of replicated streams
}

// book holds the notes. It is safe for concurrent use.
type book struct {
	cell  cell
	alone func() error

	mu       sync.Mutex
	notes    notes
	revision uint64
}

// openBook reads the notes.
func openBook(ctx context.Context, c cell, alone func() error, log *slog.Logger) (*book, error) {
	b := &book{cell: c, alone: alone}
	value, revision, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	if revision > 0 {
		if err := json.Unmarshal(value, &b.notes); err != nil || b.notes.V != notesVersion {
			log.Warn("the janitor's notes cannot be read and are begun afresh", "version", b.notes.V, "error", err)
			b.notes = notes{}
		}
	}
	b.revision = revision
	return b, nil
}

// read returns the notes; what it points to does not change.
func (b *book) read() notes {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notes
}

// conflictsMost bounds how often a change is tried against others who write.
const conflictsMost = 3

// change changes the notes and stores them. F may be called again, with what somebody else has written meanwhile. If the
// change cannot be stored, the notes stay as they were.
func (b *book) change(ctx context.Context, f func(*notes)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for try := 1; ; try++ {
		if err := b.alone(); err != nil {
			return fmt.Errorf("note what the janitor did: %w", err)
		}
		next := b.notes
		next.V, next.Duties = notesVersion, maps.Clone(b.notes.Duties)
		if next.Duties == nil {
			next.Duties = map[string]dutyNote{}
		}
		f(&next)
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("note what the janitor did: %w", err)
		}
		revision, err := b.cell.save(ctx, value, b.revision)
		switch {
		case err == nil:
			b.notes, b.revision = next, revision
			return nil
		case !errors.Is(err, errConflict) || try == conflictsMost:
			return fmt.Errorf("note what the janitor did: %w", err)
		}
		if err := b.again(ctx); err != nil {
			return fmt.Errorf("note what the janitor did: %w", err)
		}
	}
}

// again reads what somebody else has written. Notes that are gone from the broker are still known here.
func (b *book) again(ctx context.Context) error {
	value, revision, err := b.cell.load(ctx)
	if err != nil {
		return err
	}
	var there notes
	if revision > 0 && json.Unmarshal(value, &there) == nil && there.V == notesVersion {
		b.notes = there
	}
	b.revision = revision
	return nil
}

// begin notes the duties that nobody knew of before.
func (b *book) begin(ctx context.Context, now time.Time, names ...string) error {
	unknown := false
	known := b.read().Duties
	for _, name := range names {
		if _, ok := known[name]; !ok {
			unknown = true
		}
	}
	if !unknown {
		return nil
	}
	return b.change(ctx, func(n *notes) {
		for _, name := range names {
			if _, ok := n.Duties[name]; !ok {
				n.Duties[name] = dutyNote{Since: now.UTC()}
			}
		}
	})
}

// noted returns what tells when the clock's last run of a duty ended, on whichever machine.
func (b *book) noted(name string) func(context.Context) (time.Time, error) {
	return func(context.Context) (time.Time, error) { return b.read().Duties[name].last(), nil }
}
