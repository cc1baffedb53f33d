// Package memory keeps what the resolver knows in a bbolt file:
//
//	meta                         schema version and memory name (shared/boltdb), "recovered", "mapping", "quiet", stream identities
//	workers/<employee id>        latest.Worker as CBOR
//	mapping/<employee id>        username
//	replays/<id>                 control.ReplayState as JSON, without Left; the newest 100
//	staging/<snapshot>/<index>   chunks of a mapping that is not complete yet, as event.MappingChunk
//
// All of it can be had again from the input files and AtHoc, so the file may be deleted while the resolver is down.
package memory

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"go.etcd.io/bbolt"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/boltdb"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

const schemaVersion = 2

var (
	workersBucket = []byte("workers")
	mappingBucket = []byte("mapping")
	stagingBucket = []byte("staging")
	replaysBucket = []byte("replays")
)

// Keys of the bucket meta.
const (
	recoveredKey = "recovered"
	mappingKey   = "mapping"
	identityKey  = "identity."
	quietKey     = "quiet"
)

// Memory is the open file. Reads may go on at any time; writes are one after another.
type Memory struct {
	db *boltdb.DB
}

// Open opens or begins the file at path.
func Open(path string, log *slog.Logger) (*Memory, error) {
	db, err := boltdb.Open(path, schemaVersion, log)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{workersBucket, mappingBucket, stagingBucket, replaysBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("make bucket %s of %s: %w", name, path, err)
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close() // the first error is the one to tell
		return nil, err
	}
	return &Memory{db: db}, nil
}

// Close closes the file.
func (m *Memory) Close() error { return m.db.Close() }

// DB is the file itself, for its name and identity.
func (m *Memory) DB() *boltdb.DB { return m.db }

// Recovered says whether all that this memory must know has been read.
func (m *Memory) Recovered() (bool, error) {
	v, err := m.db.Meta(recoveredKey)
	return v != "", err
}

// Identity returns the identity that a stream had when it was last seen; "" if it never was.
func (m *Memory) Identity(stream string) (string, error) { return m.db.Meta(identityKey + stream) }

// SetIdentity stores a stream's identity.
func (m *Memory) SetIdentity(stream, identity string) error {
	return m.db.SetMeta(identityKey+stream, identity)
}

// Quiet is until when nothing is to be published; zero if that was never set.
func (m *Memory) Quiet() (time.Time, error) {
	v, err := m.db.Meta(quietKey)
	if err != nil || v == "" {
		return time.Time{}, err
	}
	until, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return time.Time{}, fmt.Errorf("read until when the resolver is quiet: %w", err)
	}
	return until, nil
}

// SetQuiet stores until when nothing is to be published.
func (m *Memory) SetQuiet(until time.Time) error {
	return m.db.SetMeta(quietKey, until.UTC().Format(time.RFC3339))
}

// Snapshot names the mapping in use; "" if there never was one.
func (m *Memory) Snapshot() (string, error) { return m.db.Meta(mappingKey) }

// View gives a consistent look at workers and mapping. It must not outlive f.
func (m *Memory) View(f func(View) error) error {
	return m.db.View(func(tx *bbolt.Tx) error {
		return f(View{tx.Bucket(workersBucket), tx.Bucket(mappingBucket)})
	})
}

// View is a look at workers and mapping.
type View struct {
	workers, mapping *bbolt.Bucket
}

// Worker returns what is known of a worker; the zero value if nothing is.
func (v View) Worker(employee string) (latest.Worker, error) {
	var w latest.Worker
	data := v.workers.Get([]byte(employee))
	if data == nil {
		return w, nil
	}
	if err := cbor.Unmarshal(data, &w); err != nil {
		return w, fmt.Errorf("read a worker of the resolver's memory: %w", err)
	}
	return w, nil
}

// User returns the username that an employee id is mapped to; "" if none.
func (v View) User(employee string) string { return string(v.mapping.Get([]byte(employee))) }

// EachUser calls f for the employee ids that are mapped, with their usernames, in order and beginning after the given id, until
// f returns false.
func (v View) EachUser(after string, f func(employee, user string) bool) {
	c := v.mapping.Cursor()
	k, user := c.Seek([]byte(after))
	if after != "" && string(k) == after {
		k, user = c.Next()
	}
	for ; k != nil && f(string(k), string(user)); k, user = c.Next() {
	}
}

// EachWorker calls f for all workers, in the order of their ids.
func (v View) EachWorker(f func(employee string, w latest.Worker) error) error {
	return v.workers.ForEach(func(k, data []byte) error {
		var w latest.Worker
		if err := cbor.Unmarshal(data, &w); err != nil {
			return fmt.Errorf("read a worker of the resolver's memory: %w", err)
		}
		return f(string(k), w)
	})
}

// CompareMapping counts what another mapping adds, changes and removes.
func (v View) CompareMapping(mapping map[string]string) (added, changed, removed int) {
	for employee, user := range mapping {
		switch v.User(employee) {
		case "":
			added++
		case user:
		default:
			changed++
		}
	}
	return added, changed, v.MappingSize() + added - len(mapping)
}

// Workers counts the workers that are known.
func (v View) Workers() int { return v.workers.Stats().KeyN }

// MappingSize counts the employee ids that are mapped.
func (v View) MappingSize() int { return v.mapping.Stats().KeyN }

// Change is what one batch of work leaves behind. It is stored whole or not at all.
type Change struct {
	// Workers are the workers as they are now.
	Workers map[string]latest.Worker
	// Mapping, if not nil, replaces the mapping.
	Mapping map[string]string
	// Snapshot names that mapping.
	Snapshot string
	// Recovered says that the memory is complete.
	Recovered bool
	// Replay, if not nil, is a replay as it is now.
	Replay *control.ReplayState
}

// Save stores a change. When it returns, the change is on the disk.
func (m *Memory) Save(c Change) error {
	err := m.db.Update(func(tx *bbolt.Tx) error {
		if err := putWorkers(tx.Bucket(workersBucket), c.Workers); err != nil {
			return err
		}
		if c.Mapping != nil {
			if err := replaceMapping(tx, c.Mapping); err != nil {
				return err
			}
			if err := boltdb.PutMeta(tx, mappingKey, c.Snapshot); err != nil {
				return err
			}
		}
		if c.Replay != nil {
			if err := putReplay(tx.Bucket(replaysBucket), *c.Replay); err != nil {
				return err
			}
		}
		if c.Recovered {
			return boltdb.PutMeta(tx, recoveredKey, "yes")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save to %s: %w", m.db.Path(), err)
	}
	return nil
}

func putWorkers(b *bbolt.Bucket, workers map[string]latest.Worker) error {
	for _, employee := range slices.Sorted(maps.Keys(workers)) { // bbolt is faster with neighbours
		data, err := cbor.Marshal(workers[employee])
		if err != nil {
			return fmt.Errorf("write a worker: %w", err)
		}
		if err := b.Put([]byte(employee), data); err != nil {
			return fmt.Errorf("write a worker: %w", err)
		}
	}
	return nil
}

// mostReplays is how many replays are remembered.
const mostReplays = 100

func putReplay(b *bbolt.Bucket, r control.ReplayState) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write a replay: %w", err)
	}
	known := b.Stats().KeyN // it does not count what this transaction puts
	if b.Get([]byte(r.ID)) == nil {
		known++
	}
	if err := b.Put([]byte(r.ID), data); err != nil {
		return fmt.Errorf("write a replay: %w", err)
	}
	// Ids begin with the time, so the first is the oldest.
	for first, _ := b.Cursor().First(); first != nil && known > mostReplays; first, _ = b.Cursor().First() {
		known--
		if err := b.Delete(first); err != nil {
			return fmt.Errorf("forget a replay: %w", err)
		}
	}
	return nil
}

// Replays returns the replays that are remembered, newest first.
func (m *Memory) Replays() ([]control.ReplayState, error) {
	var all []control.ReplayState
	err := m.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(replaysBucket).ForEach(func(_, data []byte) error {
			var r control.ReplayState
			if err := json.Unmarshal(data, &r); err != nil {
				return fmt.Errorf("read a replay: %w", err)
			}
			all = append(all, r)
			return nil
		})
	})
	slices.Reverse(all)
	return all, err
}

// replaceMapping writes only what differs, and clears the staging.
func replaceMapping(tx *bbolt.Tx, mapping map[string]string) error {
	b := tx.Bucket(mappingBucket)
	var gone [][]byte
	err := b.ForEach(func(k, _ []byte) error {
		if _, stays := mapping[string(k)]; !stays {
			gone = append(gone, append([]byte(nil), k...))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the mapping: %w", err)
	}
	for _, k := range gone {
		if err := b.Delete(k); err != nil {
			return fmt.Errorf("delete from the mapping: %w", err)
		}
	}
	for employee, user := range mapping {
		if string(b.Get([]byte(employee))) == user {
			continue
		}
		if err := b.Put([]byte(employee), []byte(user)); err != nil {
			return fmt.Errorf("write the mapping: %w", err)
		}
	}
	if err := tx.DeleteBucket(stagingBucket); err != nil {
		return fmt.Errorf("clear the staged mapping: %w", err)
	}
	_, err = tx.CreateBucket(stagingBucket)
	return err
}

// Stage keeps a chunk of a mapping until the others are there. Once all are, it returns the whole mapping. A chunk of
// another snapshot than those staged before drops them: only the last snapshot counts.
func (m *Memory) Stage(chunk event.MappingChunk) (mapping map[string]string, err error) {
	err = m.db.Update(func(tx *bbolt.Tx) error {
		staging := tx.Bucket(stagingBucket)
		b := staging.Bucket([]byte(chunk.Snapshot))
		if b == nil {
			if err := tx.DeleteBucket(stagingBucket); err != nil {
				return err
			}
			if staging, err = tx.CreateBucket(stagingBucket); err != nil {
				return err
			}
			if b, err = staging.CreateBucket([]byte(chunk.Snapshot)); err != nil {
				return err
			}
		}
		key := binary.BigEndian.AppendUint32(nil, uint32(chunk.Index))
		if err := b.Put(key, event.Encode(&chunk)); err != nil {
			return err
		}
		mapping, err = whole(b, chunk.Chunks)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stage chunk %d of mapping %s in %s: %w", chunk.Index, chunk.Snapshot, m.db.Path(), err)
	}
	return mapping, nil
}

// whole joins the chunks in b, or returns nil if some are missing.
func whole(b *bbolt.Bucket, chunks int) (map[string]string, error) {
	mapping := map[string]string{}
	have := 0
	err := b.ForEach(func(_, data []byte) error {
		var chunk event.MappingChunk
		if err := event.Decode(data, &chunk); err != nil {
			return err
		}
		have++
		maps.Copy(mapping, chunk.Users)
		return nil
	})
	if err != nil || have < chunks {
		return nil, err
	}
	return mapping, nil
}
