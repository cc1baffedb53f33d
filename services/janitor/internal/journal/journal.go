// Package journal remembers, on this machine, what the janitor did and what its last comparisons found. It is for operators to
// look at; nothing that the janitor goes by depends on it.
//
// The buckets of its bbolt file (schema 1), beside "meta" of package boltdb:
//
//	entries/<16 bytes of a UUIDv7>   control.JournalEntry; the order of the keys is that of beginning
//	reports/mapping                  Findings of the last refresh
//	reports/comparison               control.ReconcileAnswer without its users
//	differing/<4 bytes, big-endian>  control.DifferingUser of the last comparison, counted from 1
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"bobosync/shared/boltdb"
	"bobosync/shared/control"
)

const schemaVersion = 1

var (
	entriesBucket   = []byte("entries")
	reportsBucket   = []byte("reports")
	differingBucket = []byte("differing")
)

const (
	// listed is how many entries are told of unless a request says otherwise, listedMost the most of them.
	listed     = 200
	listedMost = 1000
	// answerBytes bounds an answer, well below the broker's limit of 1 MB for a message.
	answerBytes = 512 << 10
)

// timesCount is the count, in an entry, of the runs that it stands for if they are more than one.
const timesCount = "times"

// Journal is the file, opened or to be opened as soon as it can be. It is safe for concurrent use.
type Journal struct {
	path string
	now  func() time.Time
	log  *slog.Logger

	mu     sync.Mutex
	opened *boltdb.DB
	closed bool
}

// Open opens the journal at path, or begins it. What was under way when the process before ended counts as interrupted.
//
// A file that cannot be used, such as one that a process holds which hangs, is not worth stopping for: it is logged, each use
// fails with the reason, and tries to open it again.
func Open(path string, now func() time.Time, log *slog.Logger) *Journal {
	j := &Journal{path: path, now: now, log: log}
	if _, err := j.db(); err != nil {
		log.Error("the janitor's journal cannot be used; the work goes on without it (DATA_DIRECTORY)", "error", err)
	}
	return j
}

// db returns the open file.
func (j *Journal) db() (*boltdb.DB, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.opened != nil {
		return j.opened, nil
	}
	if j.closed {
		return nil, errors.New("it is closed")
	}
	db, err := boltdb.Open(j.path, schemaVersion, j.log)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{entriesBucket, reportsBucket, differingBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return j.interrupt(tx)
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	j.opened = db
	return db, nil
}

// update changes the file.
func (j *Journal) update(f func(*bbolt.Tx) error) error {
	db, err := j.db()
	if err == nil {
		err = db.Update(f)
	}
	return err
}

// view reads the file.
func (j *Journal) view(f func(*bbolt.Tx) error) error {
	db, err := j.db()
	if err == nil {
		err = db.View(f)
	}
	return err
}

// Close ends the journal. What is still under way counts as interrupted.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.opened == nil {
		return nil
	}
	err := errors.Join(j.opened.Update(j.interrupt), j.opened.Close())
	j.opened = nil
	if err != nil {
		return fmt.Errorf("close the journal %s: %w", j.path, err)
	}
	return nil
}

// interrupt ends all entries that have no end.
func (j *Journal) interrupt(tx *bbolt.Tx) error {
	b := tx.Bucket(entriesBucket)
	var open []control.JournalEntry
	err := b.ForEach(func(_, data []byte) error {
		e, err := read(data)
		if err == nil && e.Ended.IsZero() {
			open = append(open, e)
		}
		return err
	})
	for _, e := range open {
		if err == nil {
			e.Ended, e.Outcome = j.now().UTC(), control.OutcomeInterrupted
			err = put(b, e)
		}
	}
	return err
}

// Begin writes an entry for what begins now and returns its id. An entry that has an end already is written as it is.
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
	err = j.update(func(tx *bbolt.Tx) error { return put(tx.Bucket(entriesBucket), e) })
	if err != nil {
		return "", fmt.Errorf("write the journal %s: %w", j.path, err)
	}
	return e.ID, nil
}

// Result is how something ended that the journal tells of.
type Result struct {
	Outcome string
	Counts  map[string]int
	Text    string
	Error   string
	// Again says that the run before did not succeed either. If its entry says the same then it stands for this run too.
	Again bool
}

// End ends an entry that Begin wrote.
func (j *Journal) End(id string, r Result) error {
	err := j.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(entriesBucket)
		key, err := keyOf(id)
		if err != nil {
			return err
		}
		e, err := read(b.Get(key))
		if err != nil {
			return err
		}
		e.Ended, e.Outcome, e.Counts, e.Error = j.now().UTC(), r.Outcome, r.Counts, r.Error
		if r.Text != "" {
			e.Text = r.Text
		}
		if r.Again {
			if before, ok := same(b, e, key); ok {
				if err := b.Delete(key); err != nil {
					return err
				}
				e = before
			}
		}
		return put(b, e)
	})
	if err != nil {
		return fmt.Errorf("write the journal %s: %w", j.path, err)
	}
	return nil
}

// same returns the last entry of e's kind before it, made to stand for e too, if it says the same.
func same(b *bbolt.Bucket, e control.JournalEntry, key []byte) (control.JournalEntry, bool) {
	c := b.Cursor()
	c.Seek(key)
	for k, data := c.Prev(); k != nil; k, data = c.Prev() {
		before, err := read(data)
		if err != nil {
			return e, false
		}
		if before.Kind != e.Kind {
			continue
		}
		alike := before.By == "" && e.By == "" && before.Outcome == e.Outcome && before.Error == e.Error && before.Text == e.Text
		if !alike {
			return e, false
		}
		times := max(before.Counts[timesCount], 1) + 1
		before.Counts = map[string]int{timesCount: times}
		maps.Copy(before.Counts, e.Counts)
		before.Ended = e.Ended
		return before, true
	}
	return e, false
}

// List returns the entries that a request asks for, newest first, as many as fit into an answer.
func (j *Journal) List(req control.JournalRequest) (control.JournalAnswer, error) {
	answer := control.JournalAnswer{Entries: []control.JournalEntry{}}
	most := min(req.Most, listedMost)
	if most <= 0 {
		most = listed
	}
	err := j.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(entriesBucket).Cursor()
		k, data, err := first(c, req)
		size := 0
		for ; err == nil && k != nil; k, data = c.Prev() {
			var e control.JournalEntry
			if e, err = read(data); err != nil || !wanted(e, req) {
				continue
			}
			size += len(data) + len(",")
			if len(answer.Entries) == most || size > answerBytes && len(answer.Entries) > 0 {
				answer.More = true
				return nil
			}
			answer.Entries = append(answer.Entries, e)
			if req.ID != "" {
				return nil
			}
		}
		return err
	})
	if err != nil {
		return control.JournalAnswer{}, fmt.Errorf("read the journal %s: %w", j.path, err)
	}
	return answer, nil
}

// first puts the cursor on the newest entry that a request may mean.
func first(c *bbolt.Cursor, req control.JournalRequest) (k, data []byte, err error) {
	switch {
	case req.ID != "":
		key, err := keyOf(req.ID)
		if err != nil {
			return nil, nil, err
		}
		if k, data = c.Seek(key); !bytes.Equal(k, key) {
			return nil, nil, nil
		}
		return k, data, nil
	case req.Before != "":
		key, err := keyOf(req.Before)
		if err != nil {
			return nil, nil, err
		}
		if k, _ = c.Seek(key); k != nil {
			k, data = c.Prev()
			return k, data, nil
		}
	}
	k, data = c.Last()
	return k, data, nil
}

func wanted(e control.JournalEntry, req control.JournalRequest) bool {
	return (req.Kind == "" || e.Kind == req.Kind) && !e.Started.Before(req.Since)
}

// Prune forgets what has ended and began before the given moment, and returns how many entries that were.
func (j *Journal) Prune(before time.Time) (int, error) {
	pruned := 0
	err := j.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(entriesBucket)
		var old [][]byte
		err := b.ForEach(func(k, data []byte) error {
			e, err := read(data)
			if err == nil && !e.Ended.IsZero() && e.Started.Before(before) {
				old = append(old, bytes.Clone(k))
			}
			return err
		})
		for _, k := range old {
			if err == nil {
				err = b.Delete(k)
			}
		}
		pruned = len(old)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune the journal %s: %w", j.path, err)
	}
	return pruned, nil
}

func keyOf(id string) ([]byte, error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return nil, control.Refuse("%q is not the id of a journal entry", id)
	}
	return key[:], nil
}

func read(data []byte) (e control.JournalEntry, err error) {
	if data == nil {
		return e, control.Refuse("the journal has no such entry")
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("read an entry: %w", err)
	}
	return e, nil
}

func put(b *bbolt.Bucket, e control.JournalEntry) error {
	key, err := keyOf(e.ID)
	if err != nil {
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write an entry: %w", err)
	}
	return b.Put(key, data)
}
