// Package ledger is ingest's state store: which files there were, and what became of each of their rows.
//
// It is a bbolt file with these buckets:
//
//	meta      schema             what boltdb writes: version and name of this file
//	          order              the last sequence number in the order of reading
//	          resolver_memory    the epoch of the resolver's state store that was last recovered from the files
//	          identity.<STREAM>  when the broker created the stream, see topology.Identity
//	          mover              the token of the last run's moves, see files.Dir.Tidy
//	          rebuilt            set once the finished files were scanned after the ledger was created
//	files     <id>               JSON of File; the id is the 32 bytes of the content's SHA-256
//	open      <id>               empty; exists while the file needs work: entries to settle or a move to make
//	rows      <id><chunk>        a byte for each line of the file, ChunkLines to a chunk (4 bytes, big endian); see Code
//	rejected  <id><chunk>        what goes with rejected lines of that chunk: pairs of line and number, 4 bytes each
//	dead      <id><line>         text: why AtHoc will never take this row
//	copies    <id><number>       JSON of Copy: moved copies for which the record has no room (8 bytes, big endian)
//	names     <name>             JSON of NameEntry: what was last found under a name in the input directory
//
// File names are bytes. Where JSON holds one that is not UTF-8, it is escaped, see escape.
//
// The first outcome of a row stands, so a second acknowledgement changes nothing. Only a dead or withheld row can get
// another outcome. A Ledger is safe for concurrent use; only one process at a time may have it open.
package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

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
	// bucketProblems was used by earlier versions, and is deleted. Now the watcher itself keeps what it finds wrong.
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

// errDamaged means that the ledger holds something that cannot be read.
var errDamaged = errors.New("it holds what this program has not written")

// Open opens the ledger at path, or creates it. See boltdb.Open for what happens to a damaged or locked one.
func Open(path string, log *slog.Logger) (*Ledger, error) {
	l, err := openFile(path, log)
	if !errors.Is(err, errDamaged) {
		return l, err
	}

	if err := boltdb.SetAside(path, err, log); err != nil {
		return nil, err
	}

	return openFile(path, log)
}

func openFile(path string, log *slog.Logger) (*Ledger, error) {
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
	if err := l.View(l.stats.countAll); err != nil {
		return nil, errors.Join(fmt.Errorf("look through the file ledger: %w: %w", errDamaged, err), db.Close())
	}

	return l, nil
}

// Epoch returns the id of this ledger. A ledger that was recreated has another one.
func (l *Ledger) Epoch() string { return l.db.Epoch() }

// Close closes the file.
func (l *Ledger) Close() error { return l.db.Close() }

// Update runs fn in a transaction that is stored as a whole, or not at all if fn fails.
func (l *Ledger) Update(fn func(*Tx) error) error {
	return l.db.Update(func(tx *bbolt.Tx) error { return fn(&Tx{tx, l.stats}) })
}

// View runs fn in a read-only transaction. Keep it short: the file cannot grow until it ends.
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

// After returns the records of up to n files whose ids follow the given one, in the order of their ids. It serves to
// walk through all files in parts: start with the empty id.
func (l *Ledger) After(id string, n int) (files []*File, err error) {
	err = l.View(func(tx *Tx) error {
		c := tx.tx.Bucket(bucketFiles).Cursor()
		after := keyOf(id)
		k, data := c.Seek(after)
		if after != nil && bytes.Equal(k, after) {
			k, data = c.Next()
		}

		for ; k != nil && len(files) < n; k, data = c.Next() {
			f, err := decodeFile(k, data)
			if err != nil {
				return err
			}

			files = append(files, f)
		}

		return nil
	})

	return files, err
}

// Files returns the records of all files, oldest reading first. It holds all of them in memory: some hundred bytes a
// file.
func (l *Ledger) Files() ([]*File, error) {
	files, err := l.After("", math.MaxInt)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}

	sortFiles(files)

	return files, nil
}

// Open returns the files that still need work, in the order of reading.
func (l *Ledger) Open() (files []*File, err error) {
	err = l.View(func(tx *Tx) error {
		return tx.tx.Bucket(bucketOpen).ForEach(func(k, _ []byte) error {
			f, err := tx.File(hex.EncodeToString(k))
			if f != nil {
				files = append(files, f)
			}

			return err
		})
	})
	if err != nil {
		return nil, err
	}

	sortFiles(files)

	return files, nil
}

// Unsettled returns the files with rows that wait for their outcome, and those that were not read completely, in the
// order of reading.
func (l *Ledger) Unsettled() ([]*File, error) {
	open, err := l.Open()
	if err != nil {
		return nil, fmt.Errorf("look up waiting files: %w", err)
	}

	return slices.DeleteFunc(open, func(f *File) bool { return f.Status == Done }), nil
}

// Meta returns the value of a key of the meta bucket, empty if there is none.
func (l *Ledger) Meta(key string) (string, error) { return l.db.Meta(key) }

// Compact shrinks the ledger's file if it is mostly empty, and returns by how many bytes; see boltdb.
func (l *Ledger) Compact(ctx context.Context) (int64, error) { return l.db.CompactIfSparse(ctx) }

// keyOf returns the bytes of an id, nil if it is not valid.
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

// Short shortens an id for people to read.
func Short(id string) string { return id[:min(len(id), 12)] }
