// Package state keeps what must outlive the machine that a janitor works on, in the state bucket.
package state

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

	"bobosync/shared/cas"
	"bobosync/shared/control"
)

// Key is the state's key in the state bucket.
const Key = "janitor.duties"

// version is the version of the state's form. A state of another version is ignored.
const version = 1

// State is what must outlive the machine that a janitor works on.
type State struct {
	V    int            `json:"v"`
	Jobs map[string]Job `json:"duties"`
	// Held is the mapping that is held back; nil if none is.
	Held *Held `json:"held,omitempty"`
	// Unmapped is what an early refresh of the mapping depends on.
	Unmapped Unmapped `json:"unmapped,omitzero"`
}

// Job is what is kept of a periodic job.
type Job struct {
	// Since is when a janitor first knew of the job. It counts as done then, so that a first start waits for the hour, and a
	// machine that is never on at that hour still catches up.
	Since time.Time `json:"since"`
	// Done is the end of the last run by the clock that need not be repeated, Succeeded that of the last one that succeeded,
	// by the clock or on request.
	Done      time.Time `json:"done,omitzero"`
	Succeeded time.Time `json:"succeeded,omitzero"`
}

// Last is the moment that the schedule goes by.
func (n Job) Last() time.Time {
	if n.Done.After(n.Since) {
		return n.Done
	}
	return n.Since
}

// ErrConflict means that another janitor has written meanwhile.
var ErrConflict = cas.ErrConflict

// Entry is one value that outlives processes. Revision 0 stands for none.
type Entry interface {
	Load(ctx context.Context) (value []byte, revision uint64, err error)
	// Save replaces the value with that revision; it returns ErrConflict if there is another one by now.
	Save(ctx context.Context, value []byte, revision uint64) (uint64, error)
}

// KVEntry is a key in a bucket.
type KVEntry struct {
	KV  jetstream.KeyValue
	Key string
}

// Load implements Entry.
func (c KVEntry) Load(ctx context.Context) ([]byte, uint64, error) { return cas.Load(ctx, c.KV, c.Key) }

// Save implements Entry.
func (c KVEntry) Save(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	return cas.Store(ctx, c.KV, c.Key, value, revision)
}

// Store holds the state. It is safe for concurrent use.
type Store struct {
	entry       Entry
	checkLeader func() error

	mu       sync.Mutex
	state    State
	revision uint64
}

// Open reads the state. CheckLeader returns an error if another process may have become the one that writes it.
func Open(ctx context.Context, e Entry, checkLeader func() error, log *slog.Logger) (*Store, error) {
	s := &Store{entry: e, checkLeader: checkLeader}

	value, revision, err := e.Load(ctx)
	if err != nil {
		return nil, err
	}

	if revision > 0 {
		if err := json.Unmarshal(value, &s.state); err != nil || s.state.V != version {
			log.Warn("what the janitor kept cannot be read and is begun afresh", "version", s.state.V, "error", err)
			s.state = State{}
		}
	}

	s.revision = revision

	return s, nil
}

// Read returns the state; what it points to does not change.
func (s *Store) Read() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// maxConflicts bounds how often a change is tried against others who write.
const maxConflicts = 3

// Update changes the state and stores it. F may be called again, with what somebody else has written meanwhile. If the
// change cannot be stored, the state stays as it was.
func (s *Store) Update(ctx context.Context, f func(*State)) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	for try := 1; ; try++ {
		if err := s.checkLeader(); err != nil {
			return fmt.Errorf("keep what the janitor did: %w", err)
		}

		next := s.state
		next.V, next.Jobs = version, maps.Clone(s.state.Jobs)
		if next.Jobs == nil {
			next.Jobs = map[string]Job{}
		}

		f(&next)

		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("keep what the janitor did: %w", err)
		}

		revision, err := s.entry.Save(ctx, value, s.revision)
		switch {
		case err == nil:
			s.state, s.revision = next, revision
			return nil
		case !errors.Is(err, ErrConflict) || try == maxConflicts:
			return fmt.Errorf("keep what the janitor did: %w", err)
		}

		if err := s.reload(ctx); err != nil {
			return fmt.Errorf("keep what the janitor did: %w", err)
		}
	}
}

// reload reads what somebody else has written. A state that is gone from the broker is still known here.
func (s *Store) reload(ctx context.Context) error {
	value, revision, err := s.entry.Load(ctx)
	if err != nil {
		return err
	}

	var there State
	if revision > 0 && json.Unmarshal(value, &there) == nil && there.V == version {
		s.state = there
	}

	s.revision = revision

	return nil
}

// Register records the moment for jobs that were not known before.
func (s *Store) Register(ctx context.Context, now time.Time, names ...string) error {
	unknown := false
	known := s.Read().Jobs
	for _, name := range names {
		if _, ok := known[name]; !ok {
			unknown = true
		}
	}

	if !unknown {
		return nil
	}

	return s.Update(ctx, func(n *State) {
		for _, name := range names {
			if _, ok := n.Jobs[name]; !ok {
				n.Jobs[name] = Job{Since: now.UTC()}
			}
		}
	})
}

// LastRun returns a function that returns when the last run of a job by the clock ended, on any machine.
func (s *Store) LastRun(name string) func(context.Context) (time.Time, error) {
	return func(context.Context) (time.Time, error) { return s.Read().Jobs[name].Last(), nil }
}

// Held is what the janitors keep of a mapping that is held back. It holds no personal data.
type Held struct {
	control.HeldMapping
	// Hash names the content.
	Hash string `json:"hash"`
	// Approved is when an operator approved it, and ApprovedBy who that was; zero if nobody has.
	Approved   time.Time `json:"approved,omitzero"`
	ApprovedBy string    `json:"approved_by,omitempty"`
}

// idLength is how much of a hash names a held mapping to operators.
const idLength = 12

// HeldID is the id of a mapping with this hash.
func HeldID(hash string) string { return hash[:min(len(hash), idLength)] }

// Report is how operators see it; nil for nil.
func (h *Held) Report() *control.HeldMapping {
	if h == nil {
		return nil
	}

	report := h.HeldMapping
	report.ID = HeldID(h.Hash) // what an older version kept has none

	return &report
}

// Unmapped is how many workers without an AtHoc user there were at least since a refresh.
type Unmapped struct {
	// Refreshed is the end of that refresh.
	Refreshed time.Time `json:"refreshed"`
	Workers   int       `json:"workers"`
}
