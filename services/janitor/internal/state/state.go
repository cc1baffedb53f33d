// Package state keeps, in the state bucket, what must outlive the machine that runs the leading janitor.
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

// version is the version of the state's format. A state of another version is ignored.
const version = 1

// State is what must outlive the machine that runs the leading janitor.
type State struct {
	V    int            `json:"v"`
	Jobs map[string]Job `json:"duties"`
	// Held is the mapping that is held back; nil if none is.
	Held *Held `json:"held,omitempty"`
	// Unmapped is what the decision about an early refresh of the mapping depends on.
	Unmapped Unmapped `json:"unmapped,omitzero"`
}

// Job is what is persisted of a periodic job.
type Job struct {
	// Since is when a janitor first knew of the job. It counts as the end of a run, so that a first start waits for
	// the hour, and a machine that is never on at that hour still catches up.
	Since time.Time `json:"since"`
	// Done is the end of the last run that need not be repeated and that the schedule counts: by the clock, and for
	// the mapping also on request. Succeeded is the end of the last run that succeeded, by the clock or on request.
	Done      time.Time `json:"done,omitzero"`
	Succeeded time.Time `json:"succeeded,omitzero"`
}

// Last returns the moment from which the schedule counts: Done, or Since if that is later.
func (n Job) Last() time.Time {
	if n.Done.After(n.Since) {
		return n.Done
	}
	return n.Since
}

// ErrConflict means that another janitor has written in the meantime.
var ErrConflict = cas.ErrConflict

// Entry is one value that outlives processes. Revision 0 means that there is none.
type Entry interface {
	Load(ctx context.Context) (value []byte, revision uint64, err error)
	// Save replaces the value with the given revision. It returns ErrConflict if the value has another revision by
	// now.
	Save(ctx context.Context, value []byte, revision uint64) (uint64, error)
}

// KVEntry is an Entry kept under a key of a bucket.
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

// Open reads the state. CheckLeader returns an error if another process may be the leader, and so the writer of the
// state, by now.
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

// Read returns the state. What it points to must not be changed.
func (s *Store) Read() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// maxConflicts is how often Update tries to save a change when others have written in between.
const maxConflicts = 3

// Update changes the state and stores it. F is called again if somebody else has written in the meantime, with what
// they wrote. If the change cannot be stored, the state stays as it was.
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

// reload reads what somebody else has written. If the broker has lost the state, the one in memory stays.
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

// Register records now as the Since of the jobs that the state does not have yet.
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

// LastRun returns a function that returns the moment from which the schedule of a job counts; see [Job.Last].
func (s *Store) LastRun(name string) func(context.Context) (time.Time, error) {
	return func(context.Context) (time.Time, error) { return s.Read().Jobs[name].Last(), nil }
}

// Held is what is persisted of a mapping that is held back. It contains no personal data.
type Held struct {
	control.HeldMapping
	// Hash is the hash of the mapping's content.
	Hash string `json:"hash"`
	// Approved is when an operator approved the mapping, and ApprovedBy is the operator's name; zero if nobody has.
	Approved   time.Time `json:"approved,omitzero"`
	ApprovedBy string    `json:"approved_by,omitempty"`
}

// idLength is how many characters of the hash form the id that operators see.
const idLength = 12

// HeldID returns the id of a held mapping whose content has this hash.
func HeldID(hash string) string { return hash[:min(len(hash), idLength)] }

// Report returns what operators see of a held mapping; nil for nil.
func (h *Held) Report() *control.HeldMapping {
	if h == nil {
		return nil
	}

	report := h.HeldMapping
	report.ID = HeldID(h.Hash) // an older version stored none

	return &report
}

// Unmapped is the smallest number of workers without an AtHoc user since a refresh.
type Unmapped struct {
	// Refreshed is the end of that refresh.
	Refreshed time.Time `json:"refreshed"`
	Workers   int       `json:"workers"`
}
