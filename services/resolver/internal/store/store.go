// Package store is the resolver's state store, a bbolt file:
//
//	meta                         schema version and epoch (shared/boltdb), "recovered", "mapping", "quiet", "forgotten", stream identities
//	workers/<employee id>        latest.Worker as CBOR
//	mapping/<employee id>        username
//	replays/<id>                 control.ReplayState as JSON, without Left; the newest 100
//	guard/history, hour/<hour>,  guard.History without Hours, and these, as JSON
//	guard/group/<id>             guard.Group as JSON
//	staging/mapping/…            a mapping that is being written and is not in force yet
//
// All of it can be recovered from the input files, AtHoc and the broker, so the file may be deleted while the resolver
// is down.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.etcd.io/bbolt"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/boltdb"
	"bobosync/shared/control"
)

const schemaVersion = 2

var (
	workersBucket = []byte("workers")
	mappingBucket = []byte("mapping")
	stagingBucket = []byte("staging")
	replaysBucket = []byte("replays")
	guardBucket   = []byte("guard")
)

// Keys of the bucket meta.
const (
	recoveredKey = "recovered"
	mappingKey   = "mapping"
	identityKey  = "identity."
	holdOffKey   = "quiet"
	forgottenKey = "forgotten"
)

// The most keys that one transaction writes. bbolt splits nodes only at the commit, so the cost of a transaction grows
// faster than its number of keys. A shutdown is noticed between two transactions.
const (
	workersPart = 20_000
	usersPart   = 20_000
)

// Store is the open file. Reads may run at any time; writes run one after another.
type Store struct {
	db *boltdb.DB
}

// Open opens the file at path, or creates it.
func Open(path string, log *slog.Logger) (*Store, error) {
	db, err := boltdb.Open(path, schemaVersion, log)
	if err != nil {
		return nil, err
	}

	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{workersBucket, mappingBucket, stagingBucket, replaysBucket, guardBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("make bucket %s of %s: %w", name, path, err)
			}
		}

		return nil
	})
	if err != nil {
		_ = db.Close() // the first error is the one to return
		return nil, err
	}

	return &Store{db: db}, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// DB returns the file itself, for its name and epoch.
func (s *Store) DB() *boltdb.DB { return s.db }

// Recovered reports whether all that this store must know has been read.
func (s *Store) Recovered() (bool, error) {
	v, err := s.db.Meta(recoveredKey)
	return v != "", err
}

// Identity returns the identity that a stream had when it was last seen; "" if it never was.
func (s *Store) Identity(stream string) (string, error) { return s.db.Meta(identityKey + stream) }

// SetIdentity stores a stream's identity.
func (s *Store) SetIdentity(stream, identity string) error {
	return s.db.SetMeta(identityKey+stream, identity)
}

// HoldOff returns until when nothing may be published; zero if that was never set.
func (s *Store) HoldOff() (time.Time, error) {
	v, err := s.db.Meta(holdOffKey)
	if err != nil || v == "" {
		return time.Time{}, err
	}

	until, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return time.Time{}, fmt.Errorf("read until when nothing may be published: %w", err)
	}

	return until, nil
}

// SetHoldOff stores until when nothing may be published.
func (s *Store) SetHoldOff(until time.Time) error {
	return s.db.SetMeta(holdOffKey, until.UTC().Format(time.RFC3339))
}

// Forgotten returns the time of the newest event that was dropped, in Unix seconds; 0 if none was dropped since the
// files were last read again.
func (s *Store) Forgotten() (int64, error) {
	v, err := s.db.Meta(forgottenKey)
	if err != nil || v == "" {
		return 0, err
	}

	at, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read what was forgotten: %w", err)
	}

	return at, nil
}

// Forget deletes workers, and stores newest for Forgotten.
func (s *Store) Forget(employees []string, newest int64) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(workersBucket)
		for _, employee := range employees {
			if err := b.Delete([]byte(employee)); err != nil {
				return fmt.Errorf("delete a worker: %w", err)
			}
		}

		return boltdb.PutMeta(tx, forgottenKey, strconv.FormatInt(newest, 10))
	})
	if err != nil {
		return fmt.Errorf("forget workers in %s: %w", s.db.Path(), err)
	}

	return nil
}

// Renew begins a new epoch, in which all that was forgotten has to be read again.
func (s *Store) Renew() error {
	return s.db.Renew(func(tx *bbolt.Tx) error {
		return errors.Join(boltdb.PutMeta(tx, recoveredKey, ""), boltdb.PutMeta(tx, forgottenKey, ""))
	})
}

// Snapshot returns the name of the mapping in force; "" if there never was one.
func (s *Store) Snapshot() (string, error) { return s.db.Meta(mappingKey) }

// View calls f with a consistent view of workers and mapping, which must not be used after f has returned.
func (s *Store) View(f func(View) error) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		return f(View{tx.Bucket(workersBucket), tx.Bucket(mappingBucket)})
	})
}

// View is a consistent view of workers and mapping.
type View struct {
	workers, mapping *bbolt.Bucket
}

// Worker returns a worker's record; the zero value if there is none.
func (v View) Worker(employee string) (latest.Worker, error) {
	data := v.workers.Get([]byte(employee))
	if data == nil {
		return latest.Worker{}, nil
	}

	return decode(data)
}

func decode(data []byte) (w latest.Worker, err error) {
	if err := cbor.Unmarshal(data, &w); err != nil {
		return w, fmt.Errorf("read a worker of the state store: %w", err)
	}
	return w, nil
}

// Workers counts the workers.
func (v View) Workers() int { return v.workers.Stats().KeyN }

// EachWorker calls f for all workers, in the order of their ids, until ctx ends.
func (v View) EachWorker(ctx context.Context, f func(employee string, w latest.Worker) error) error {
	return v.EachWorkerFrom(ctx, "", func(employee string, w latest.Worker) (bool, error) { return true, f(employee, w) })
}

// EachWorkerFrom calls f for the workers from the given id on, in the order of their ids, until f returns false or ctx
// ends.
func (v View) EachWorkerFrom(ctx context.Context, from string, f func(employee string, w latest.Worker) (bool, error)) error {
	c := v.workers.Cursor()
	for k, data := c.Seek([]byte(from)); k != nil; k, data = c.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}

		w, err := decode(data)
		if err != nil {
			return err
		}

		if goOn, err := f(string(k), w); err != nil || !goOn {
			return err
		}
	}

	return nil
}

// EachUser calls f for the mapped employee ids with their usernames, in order, beginning after the given id ("" for the
// first), until f returns false.
func (v View) EachUser(after string, f func(employee, user string) bool) {
	c := v.mapping.Cursor()
	k, user := c.Seek([]byte(after))
	if after != "" && string(k) == after {
		k, user = c.Next()
	}

	for ; k != nil && f(string(k), string(user)); k, user = c.Next() {
	}
}

// Change is what one batch of work leaves behind.
type Change struct {
	// Workers are the workers as they are now.
	Workers map[string]latest.Worker
	// Recovered: the store is complete now.
	Recovered bool
	// Replay, if not nil, is a replay as it is now.
	Replay *control.ReplayState
	// Guard, if not nil, is the guard's state.
	Guard *GuardChange
}

// Empty reports whether there is nothing to save.
func (c Change) Empty() bool {
	return len(c.Workers) == 0 && !c.Recovered && c.Replay == nil && c.Guard == nil
}

// Save stores a change. When it returns nil, all of the change is on the disk. A change of many workers is written in
// parts, each of them atomically, with everything other than workers in the last part. After an error some of the parts
// may be stored.
func (s *Store) Save(ctx context.Context, c Change) error {
	employees := slices.Sorted(maps.Keys(c.Workers)) // bbolt is faster with neighbouring keys
	for {
		part := employees[:min(len(employees), workersPart)]
		employees = employees[len(part):]

		err := ctx.Err()
		if err == nil {
			err = s.db.Update(func(tx *bbolt.Tx) error { return c.put(tx, part, len(employees) == 0) })
		}

		if err != nil {
			return fmt.Errorf("save to %s: %w", s.db.Path(), err)
		}

		if len(employees) == 0 {
			return nil
		}
	}
}

func (c Change) put(tx *bbolt.Tx, employees []string, last bool) error {
	b := tx.Bucket(workersBucket)
	for _, employee := range employees {
		data, err := cbor.Marshal(c.Workers[employee])
		if err != nil {
			return fmt.Errorf("write a worker: %w", err)
		}

		if err := b.Put([]byte(employee), data); err != nil {
			return fmt.Errorf("write a worker: %w", err)
		}
	}

	if last && c.Replay != nil {
		if err := putReplay(tx.Bucket(replaysBucket), *c.Replay); err != nil {
			return err
		}
	}

	if last && c.Guard != nil {
		if err := c.Guard.put(tx.Bucket(guardBucket)); err != nil {
			return err
		}
	}

	if last && c.Recovered {
		return boltdb.PutMeta(tx, recoveredKey, "yes")
	}

	return nil
}
