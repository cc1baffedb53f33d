// Package ledger is ingest's state store: which files there were, and what became of each of their rows.
//
// It is a bbolt file with these buckets:
//
//	meta      schema             what boltdb writes: version and name of this file
//	          order              the last sequence number in the order of reading that was given out
//	          resolver_memory    the epoch of the resolver's state store that was last recovered from the files
//	          identity.<STREAM>  when the broker made the stream, see topology.Identity
//	          mover              the token of the last run's moves, see files.Dir.Tidy
//	          rebuilt            set once the processed directories were scanned after the ledger was begun
//	files     <id>               JSON of File; the id is the 32 bytes of the content's SHA-256
//	open      <id>               empty; exists while the file needs work: entries to settle or a move to make
//	rows      <id><chunk>        a byte for each line of the file, ChunkLines to a chunk (4 bytes, big endian); see Code
//	rejected  <id><chunk>        what goes with rejected lines of that chunk: pairs of line and number, 4 bytes each
//	dead      <id><line>         text: why AtHoc will never take this row
//	copies    <id><number>       JSON of Copy: moved copies for which there is no room in the record (8 bytes, big endian)
//	names     <name>             JSON of NameEntry: what was last found under a name in the input directory
//
// Names of files are bytes: where JSON holds one that is not UTF-8, it is escaped, see escape.
//
// The first outcome of a row stands, so a second acknowledgement changes nothing; only a dead row can be repaired. A Ledger is
// safe for concurrent use; one process may have it open.
package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"bobosync/services/ingest/internal/files"
	"bobosync/shared/boltdb"
)

// schemaVersion is the version of the layout above.
const schemaVersion = 1

// ChunkLines is the number of lines whose codes are stored together. It is part of the layout.
const ChunkLines = 4096

var (
	bucketFiles    = []byte("files")
	bucketOpen     = []byte("open")
	bucketRows     = []byte("rows")
	bucketRejected = []byte("rejected")
	bucketDead     = []byte("dead")
	bucketCopies   = []byte("copies")
	bucketNames    = []byte("names")
	// bucketProblems is one that earlier versions kept: the watcher itself keeps what it finds wrong.
	bucketProblems = []byte("problems")
	bucketMeta     = []byte("meta")
)

// Keys of the meta bucket, for Tx.Meta.
const (
	MetaEpoch   = "resolver_memory"
	MetaRebuilt = "rebuilt"
	MetaMover   = "mover"

	metaSequence = "order"
	metaIdentity = "identity."
)

// MetaIdentity is the key of a stream's identity.
func MetaIdentity(stream string) string { return metaIdentity + stream }

// Ledger is an open ledger.
type Ledger struct {
	db    *boltdb.DB
	stats *stats
}

// Open opens the ledger at path, or begins it. See boltdb.Open for what happens to a damaged or locked one.
func Open(path string, log *slog.Logger) (*Ledger, error) {
	db, err := boltdb.Open(path, schemaVersion, log)
	if err != nil {
		return nil, fmt.Errorf("open the file ledger: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{
			bucketFiles, bucketOpen, bucketRows, bucketRejected, bucketDead, bucketCopies, bucketNames, bucketMeta,
		} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("make bucket %s: %w", name, err)
			}
		}
		if err := tx.DeleteBucket(bucketProblems); !errors.Is(err, berrors.ErrBucketNotFound) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the file ledger: %w", err), db.Close())
	}
	l := &Ledger{db: db, stats: newStats()}
	if err := l.countAll(); err != nil {
		return nil, errors.Join(fmt.Errorf("look through the file ledger: %w", err), db.Close())
	}
	return l, nil
}

// Epoch names this ledger: a ledger that was recreated has another one.
func (l *Ledger) Epoch() string { return l.db.Epoch() }

// Close closes the file.
func (l *Ledger) Close() error { return l.db.Close() }

// Update runs fn in a transaction that is stored as a whole, or not at all if fn fails.
func (l *Ledger) Update(fn func(*Tx) error) error {
	return l.db.Update(func(tx *bbolt.Tx) error { return fn(&Tx{tx, l.stats}) })
}

// View runs fn in a transaction that only reads. Keep it short: a growing file waits for it.
func (l *Ledger) View(fn func(*Tx) error) error {
	return l.db.View(func(tx *bbolt.Tx) error { return fn(&Tx{tx, l.stats}) })
}

// File returns a file's record, nil if the id is unknown.
func (l *Ledger) File(id string) (f *File, err error) {
	err = l.View(func(tx *Tx) error {
		f, err = tx.File(id)
		return err
	})
	return f, err
}

// Open returns the files that still need work, in the order of reading.
func (l *Ledger) Open() (files []*File, err error) {
	err = l.View(func(tx *Tx) error {
		files, err = tx.Open()
		return err
	})
	return files, err
}

// Unsettled returns the files with rows that wait for their outcome, or that were not wholly read, in the order of reading.
func (l *Ledger) Unsettled() ([]*File, error) {
	open, err := l.Open()
	if err != nil {
		return nil, fmt.Errorf("look up waiting files: %w", err)
	}
	return slices.DeleteFunc(open, func(f *File) bool { return f.Status == Done }), nil
}

// Meta returns a single fact, empty if it is not known.
func (l *Ledger) Meta(key string) (string, error) { return l.db.Meta(key) }

// Tx is a transaction. It must not be used after its function has returned, nor by several goroutines.
type Tx struct {
	tx    *bbolt.Tx
	stats *stats
}

// File returns a file's record, nil if the id is unknown or none at all.
func (t *Tx) File(id string) (*File, error) {
	key := keyOf(id)
	if key == nil {
		return nil, nil
	}
	return t.file(key)
}

// file returns the record under a key, nil if there is none.
func (t *Tx) file(key []byte) (*File, error) {
	data := t.tx.Bucket(bucketFiles).Get(key)
	if data == nil {
		return nil, nil
	}
	f := &File{ID: hex.EncodeToString(key)}
	if err := f.decode(data); err != nil {
		return nil, fmt.Errorf("read the record of file %s: %w", Short(f.ID), err)
	}
	f.stored = viewOf(f)
	return f, nil
}

// Put stores a record. Read the record in the same transaction, or what is counted goes wrong.
func (t *Tx) Put(f *File) error {
	key := keyOf(f.ID)
	if key == nil {
		return fmt.Errorf("store a file: %d characters are no file id", len(f.ID))
	}
	data, err := f.encode()
	if err != nil {
		return fmt.Errorf("write the record of file %s: %w", Short(f.ID), err)
	}
	if err := t.tx.Bucket(bucketFiles).Put(key, data); err != nil {
		return fmt.Errorf("store the record of file %s: %w", Short(f.ID), err)
	}
	before, after := f.stored, viewOf(f)
	f.stored = after
	t.tx.OnCommit(func() { t.stats.change(f.ID, before, after) })
	open := t.tx.Bucket(bucketOpen)
	if f.NeedsWork() {
		return open.Put(key, nil)
	}
	return open.Delete(key)
}

// Attach adds a place to a record, which is to be put afterwards, or brings the one of that name up to date.
func (t *Tx) Attach(f *File, p Copy) error {
	dropped := f.attach(p)
	if dropped == nil {
		return nil
	}
	number, err := t.tx.Bucket(bucketCopies).NextSequence()
	if err != nil {
		return fmt.Errorf("number a copy of file %s: %w", Short(f.ID), err)
	}
	return t.PutExtraCopy(ExtraCopy{*dropped, binary.BigEndian.AppendUint64(keyOf(f.ID), number)})
}

// ExtraCopy is a moved copy of a file for which there was no room in the record.
type ExtraCopy struct {
	Copy
	key []byte
}

// ExtraCopies returns the copies of a file that are not in its record.
func (t *Tx) ExtraCopies(id string) ([]ExtraCopy, error) {
	key := keyOf(id)
	if key == nil {
		return nil, nil
	}
	var copies []ExtraCopy
	c := t.tx.Bucket(bucketCopies).Cursor()
	for k, v := c.Seek(key); bytes.HasPrefix(k, key); k, v = c.Next() {
		found := ExtraCopy{key: bytes.Clone(k)}
		if err := json.Unmarshal(v, &found.Copy); err != nil {
			return nil, fmt.Errorf("read of a copy of file %s: %w", Short(id), err)
		}
		copies = append(copies, found)
	}
	return copies, nil
}

// PutExtraCopy stores a copy, or drops it if it is gone.
func (t *Tx) PutExtraCopy(c ExtraCopy) error {
	if c.Gone {
		return t.tx.Bucket(bucketCopies).Delete(c.key)
	}
	data, err := json.Marshal(c.Copy)
	if err != nil {
		return fmt.Errorf("write of a copy: %w", err)
	}
	return t.tx.Bucket(bucketCopies).Put(c.key, data)
}

// Remove drops a file and its rows. Unknown ids are fine.
func (t *Tx) Remove(id string) error {
	key := keyOf(id)
	if key == nil {
		return nil
	}
	f, err := t.File(id)
	if err != nil {
		return err
	}
	if f != nil {
		t.tx.OnCommit(func() { t.stats.change(id, f.stored, view{}) })
	}
	err = errors.Join(
		t.tx.Bucket(bucketFiles).Delete(key), t.tx.Bucket(bucketOpen).Delete(key), t.ForgetRows(id), t.forget(key, bucketCopies),
	)
	if err != nil {
		return fmt.Errorf("forget file %s: %w", Short(id), err)
	}
	return nil
}

// ForgetRows drops what became of each row of a file. The record keeps the counts.
func (t *Tx) ForgetRows(id string) error {
	key := keyOf(id)
	if key == nil {
		return nil
	}
	return t.forget(key, bucketRows, bucketRejected, bucketDead)
}

// forget deletes all keys that begin with a file's.
func (t *Tx) forget(key []byte, buckets ...[]byte) error {
	var errs []error
	for _, bucket := range buckets {
		c := t.tx.Bucket(bucket).Cursor()
		for k, _ := c.Seek(key); bytes.HasPrefix(k, key); k, _ = c.Seek(key) {
			if err := c.Delete(); err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	return errors.Join(errs...)
}

// After returns the records of up to n files whose ids follow the given one, in the order of their ids: for a walk through
// all of them in parts. The first part follows the empty id.
func (l *Ledger) After(id string, n int) (files []*File, err error) {
	err = l.View(func(tx *Tx) error {
		c := tx.tx.Bucket(bucketFiles).Cursor()
		after := keyOf(id)
		k, _ := c.Seek(after)
		if after != nil && bytes.Equal(k, after) {
			k, _ = c.Next()
		}
		for ; k != nil && len(files) < n; k, _ = c.Next() {
			f, err := tx.file(k)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return nil
	})
	return files, err
}

// Compact makes the ledger's file smaller if it is mostly empty, and returns by how many bytes; see boltdb.
func (l *Ledger) Compact(ctx context.Context) (int64, error) { return l.db.CompactIfSparse(ctx) }

// Open returns the files that still need work, in the order of reading.
func (t *Tx) Open() ([]*File, error) {
	var files []*File
	err := t.tx.Bucket(bucketOpen).ForEach(func(k, _ []byte) error {
		f, err := t.File(hex.EncodeToString(k))
		if f != nil {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	sortFiles(files)
	return files, nil
}

// NextSequence gives out a sequence number in the order of reading. It follows the file's own time, so that it comes out the same when
// files are read again after the ledger was lost, but never goes back behind one that was given out.
func (t *Tx) NextSequence(modified, now time.Time) (int64, error) {
	last, err := t.LastSequence()
	if err != nil {
		return 0, err
	}
	sequence := max(min(modified.UnixNano(), now.UnixNano()), last+1)
	return sequence, t.RaiseSequence(sequence)
}

// LastSequence returns the last sequence number in the order of reading that was given out.
func (t *Tx) LastSequence() (int64, error) {
	text := t.Meta(metaSequence)
	if text == "" {
		return 0, nil
	}
	last, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the last order: %w", err)
	}
	return last, nil
}

// RaiseSequence notes that a sequence number in the order of reading is taken.
func (t *Tx) RaiseSequence(sequence int64) error {
	last, err := t.LastSequence()
	if err != nil || sequence <= last {
		return err
	}
	return t.SetMeta(metaSequence, strconv.FormatInt(sequence, 10))
}

// Meta returns a single fact, empty if it is not known.
func (t *Tx) Meta(key string) string { return string(t.tx.Bucket(bucketMeta).Get([]byte(key))) }

// SetMeta stores a single fact.
func (t *Tx) SetMeta(key, value string) error { return boltdb.PutMeta(t.tx, key, value) }

// NameEntry is what was last found under a name in the input directory.
type NameEntry struct {
	// Stat is what the file looked like when its content was read.
	Stat files.Stat `json:"stat"`
	// ID is the content's id; empty for a file that lay there when the ledger was begun and was not read yet.
	ID string `json:"id,omitempty"`
	// Sequence is the sequence number in the order of reading that is reserved for such a file.
	Sequence int64 `json:"order,omitempty"`
	// Next is what lies there now and waits to be read, if its sequence number in the order of reading is reserved.
	Next *Reserved `json:"next,omitempty"`
}

// Reserved is a sequence number in the order of reading that is reserved for a file.
type Reserved struct {
	Stat     files.Stat `json:"stat"`
	Sequence int64      `json:"order"`
}

// Reserve reserves a sequence number in the order of reading for the file that lies under a name now, unless it has one.
func (t *Tx) Reserve(name string, stat files.Stat, now time.Time) error {
	n, _, err := t.Name(name)
	if err != nil || n.Next != nil && n.Next.Stat.Same(stat) || n.ID == "" && n.Sequence != 0 && n.Stat.Same(stat) {
		return err
	}
	sequence, err := t.NextSequence(stat.Time(), now)
	if err != nil {
		return err
	}
	n.Next = &Reserved{Stat: stat, Sequence: sequence}
	return t.SetName(name, n)
}

// EnterName notes which content was found at a place, and that another one is not there any more.
func (t *Tx) EnterName(p Copy, id string) error {
	before, known, err := t.Name(p.Name)
	if err != nil {
		return err
	}
	if known && before.ID != "" && before.ID != id {
		if err := t.markGone(before.ID, p.Name); err != nil {
			return err
		}
	}
	return t.SetName(p.Name, NameEntry{Stat: p.Stat, ID: id})
}

func (t *Tx) markGone(id, name string) error {
	f, err := t.File(id)
	if err != nil || f == nil {
		return err
	}
	f.MarkGone(name)
	return t.Put(f)
}

// Name returns what was last found under a name.
func (t *Tx) Name(name string) (n NameEntry, known bool, err error) {
	data := t.tx.Bucket(bucketNames).Get([]byte(name))
	if data == nil {
		return n, false, nil
	}
	if err := json.Unmarshal(data, &n); err != nil {
		return n, false, fmt.Errorf("read what is known of a name: %w", err)
	}
	return n, true, nil
}

// SetName stores what was found under a name.
func (t *Tx) SetName(name string, n NameEntry) error {
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write what is known of a name: %w", err)
	}
	return t.tx.Bucket(bucketNames).Put([]byte(name), data)
}

// DropName drops a name.
func (t *Tx) DropName(name string) error { return t.tx.Bucket(bucketNames).Delete([]byte(name)) }

// Names calls fn for each name known in the input directory; it must not change the ledger.
func (t *Tx) Names(fn func(name string, n NameEntry) error) error {
	return t.tx.Bucket(bucketNames).ForEach(func(k, v []byte) error {
		var n NameEntry
		if err := json.Unmarshal(v, &n); err != nil {
			return fmt.Errorf("read what is known of a name: %w", err)
		}
		return fn(string(k), n)
	})
}

// keyOf returns the bytes of an id, nil if it is not one.
func keyOf(id string) []byte {
	if len(id) != 64 {
		return nil
	}
	key, err := hex.DecodeString(id)
	if err != nil {
		return nil
	}
	return key
}

// numbered appends a chunk's or line's number to a file's key.
func numbered(key []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, len(key)+4), key...), uint32(n))
}

// Short shortens an id for people.
func Short(id string) string { return id[:min(len(id), 12)] }
