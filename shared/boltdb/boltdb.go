// Package boltdb opens the services' state stores, which are bbolt files. No service stops because its state store is
// damaged: the file is set aside and a fresh one is created, since everything in it can be had again from the input
// files.
package boltdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/google/uuid"

	"bobosync/shared/disk"
)

// lockTimeout is how long Open waits while another process holds the file: long enough for a predecessor that was
// stopped to end.
const lockTimeout = 5 * time.Second

var (
	metaBucket = []byte("meta")
	schemaKey  = []byte("schema")
)

// schema is what every file records about itself.
type schema struct {
	Version int       `json:"version"`
	Epoch   string    `json:"memory"`
	Since   time.Time `json:"since"`
}

// DB is an open bbolt file with the bucket "meta" in it. It is safe for concurrent use, by one process.
type DB struct {
	path   string
	log    *slog.Logger
	schema schema
	fresh  bool

	// writes is held by writers, and by a compaction while it copies.
	writes sync.Mutex
	// swap is held for reading while inner is in use, and for writing while it is replaced.
	swap  sync.RWMutex
	inner *bbolt.DB

	// closeFirst is set if the system does not allow an open file to be replaced.
	closeFirst bool
	// reach is called after each step of a compaction; only tests set it.
	reach func(step)
}

// Open opens the file at path, or creates it. version is that of the bucket layout; a file with another version is left
// alone and refused. If another process holds the file, the error names it. A damaged file is renamed to
// <path>.damaged-<time> and a fresh one is created, which is logged. A file that is mostly empty is made smaller first,
// see DB.CompactIfSparse.
func Open(path string, version int, log *slog.Logger) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory of %s: %w", path, err)
	}

	db, err := open(path)
	if damaged := new(damagedError); errors.As(err, &damaged) {
		if err := SetAside(path, damaged.err, log); err != nil {
			return nil, err
		}

		db, err = open(path)
	}

	if err != nil {
		return nil, err
	}

	out := &DB{
		path: path, log: log, inner: db, closeFirst: runtime.GOOS == "windows", reach: func(step) {},
	}
	if err := errors.Join(out.readSchema(version), out.tidyUp()); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), out.Close())
	}

	return out, nil
}

// SetAside renames a damaged file, which must be closed, so that Open creates a fresh one. It is also for a service
// that cannot read what is in its file, though that is a valid bbolt file.
func SetAside(path string, why error, log *slog.Logger) error {
	aside := fmt.Sprintf("%s%s%s", path, damagedSuffix, time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set the damaged file %s aside: %w", path, err)
	}

	log.Error("a data file is damaged; it is set aside and what it held is read again", "file", path, "set_aside_as", aside, "error", why)

	return nil
}

// tidyUp removes what an interrupted compaction left behind, and compacts a file that is mostly empty.
func (db *DB) tidyUp() error {
	if err := disk.Remove(db.path + partSuffix); err != nil {
		return fmt.Errorf("remove a copy that was cut off: %w", err)
	}

	if _, err := db.compactIfSparse(context.Background()); err != nil {
		db.log.Warn("a data file is mostly empty and cannot be made smaller, going on with it as it is", "error", err)
	}

	// Compacting may have closed the file and failed to open it again.
	return db.View(func(*bbolt.Tx) error { return nil })
}

// Path returns the path of the file.
func (db *DB) Path() string { return db.path }

// View runs f in a transaction that only reads. Neither View nor Update may be called within it.
func (db *DB) View(f func(*bbolt.Tx) error) error {
	db.swap.RLock()
	defer db.swap.RUnlock()
	return db.inner.View(f)
}

// Update runs f in a transaction that is stored as a whole, or not at all if f fails. Neither View nor Update may be
// called within it.
func (db *DB) Update(f func(*bbolt.Tx) error) error {
	db.writes.Lock()
	defer db.writes.Unlock()

	db.swap.RLock()
	defer db.swap.RUnlock()

	return db.inner.Update(f)
}

// Close waits for what is under way and closes the file.
func (db *DB) Close() error {
	db.writes.Lock()
	defer db.writes.Unlock()

	db.swap.Lock()
	defer db.swap.Unlock()

	return db.inner.Close()
}

// Epoch returns the id that was drawn when the file was created, by which others notice that it is a new one.
func (db *DB) Epoch() string { return db.schema.Epoch }

// Renew gives the file a new epoch and time of creation, as if it had been created now, in one transaction with f. It
// must not run at the same time as Epoch or Since.
func (db *DB) Renew(f func(*bbolt.Tx) error) error {
	next := schema{Version: db.schema.Version, Epoch: uuid.NewString(), Since: time.Now().UTC()}

	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("write the schema version: %w", err)
	}

	err = db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(metaBucket).Put(schemaKey, data); err != nil {
			return fmt.Errorf("write the schema version: %w", err)
		}
		return f(tx)
	})
	if err == nil {
		db.schema = next
	}

	return err
}

// Since returns when the file was created.
func (db *DB) Since() time.Time { return db.schema.Since }

type damagedError struct{ err error }

func (e *damagedError) Error() string { return "damaged: " + e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// open opens and checks the file that is at path, even if another process replaces it meanwhile. It returns a
// *damagedError if the content cannot be trusted.
func open(path string) (*bbolt.DB, error) {
	for {
		db, file, err := openOnce(path)
		if err != nil {
			return nil, err
		}

		// While this process waited for the lock, another one may have put a compacted file here. The lock is then on a
		// file that nobody will find again.
		if isAt(file, path) {
			return db, nil
		}

		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("close a file that was replaced: %w", err)
		}
	}
}

func isAt(file *os.File, path string) bool {
	mine, err := file.Stat()
	if err != nil {
		return true // not the place to report what is wrong
	}

	there, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}

	return os.SameFile(mine, there)
}

// openOnce opens and checks the file that is at path now. It also returns the open file.
func openOnce(path string) (db *bbolt.DB, file *os.File, err error) {
	// A damaged page may make bbolt read outside the mapped file, which is a memory fault and not an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if db != nil {
				_ = db.Close() // its error about a damaged file is of no use
			}

			db, err = nil, &damagedError{fmt.Errorf("%v", r)}
		}
	}()

	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, nil, fmt.Errorf("%s is in use by another process: stop it first, a data directory serves one process at a time: %w", path, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, nil, &damagedError{err}
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist):
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	case err != nil:
		if info, statErr := os.Stat(path); statErr == nil && info.Mode().IsRegular() && info.Size() > 0 && isFormat(err) {
			return nil, nil, &damagedError{err}
		}
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}

	if err := check(db); err != nil {
		return nil, nil, errors.Join(&damagedError{err}, db.Close())
	}

	return db, file, nil
}

// isFormat reports whether an error is bbolt's about the content, and not the operating system's about the file, for
// instance that it has no memory to map the file, or no locks.
func isFormat(err error) bool {
	var path *os.PathError
	var call *os.SyscallError
	var number syscall.Errno
	return !errors.As(err, &path) && !errors.As(err, &call) && !errors.As(err, &number)
}

// check walks all pages, in this goroutine so that a fault can be caught, and returns the first problem.
func check(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(metaBucket); meta != nil {
			if data := meta.Get(schemaKey); data != nil && !json.Valid(data) {
				return errors.New("the schema version cannot be read")
			}
		}

		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return walk(b) })
	})
}

func walk(b *bbolt.Bucket) error {
	var last []byte

	return b.ForEach(func(k, v []byte) error {
		if last != nil && string(last) >= string(k) {
			return errors.New("keys are out of order")
		}

		last = append(last[:0], k...)
		if v == nil {
			return walk(b.Bucket(k))
		}

		return nil
	})
}

func (db *DB) readSchema(version int) error {
	return db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return fmt.Errorf("make bucket meta: %w", err)
		}

		if data := meta.Get(schemaKey); data != nil {
			if err := json.Unmarshal(data, &db.schema); err != nil {
				return fmt.Errorf("read the schema version: %w", err)
			}

			if db.schema.Version > version {
				return fmt.Errorf("it was written by a newer version of this program (schema %d, this one knows %d): use that version, or remove the file and its content is read again", db.schema.Version, version)
			}

			if db.schema.Version < version {
				return fmt.Errorf("it was written by an older version of this program (schema %d, this one writes %d): remove the file and its content is read again", db.schema.Version, version)
			}

			return nil
		}

		db.fresh = true
		db.schema = schema{Version: version, Epoch: uuid.NewString(), Since: time.Now().UTC()}

		data, err := json.Marshal(db.schema)
		if err != nil {
			return fmt.Errorf("write the schema version: %w", err)
		}

		return meta.Put(schemaKey, data)
	})
}

// Meta returns a value from the bucket "meta"; it is empty if there is none.
func (db *DB) Meta(key string) (string, error) {
	var value string

	err := db.View(func(tx *bbolt.Tx) error {
		value = string(tx.Bucket(metaBucket).Get([]byte(key)))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", key, db.Path(), err)
	}

	return value, nil
}

// SetMeta writes a value to the bucket "meta".
func (db *DB) SetMeta(key, value string) error {
	err := db.Update(func(tx *bbolt.Tx) error { return PutMeta(tx, key, value) })
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", key, db.Path(), err)
	}

	return nil
}

// PutMeta writes a value to the bucket "meta" within a transaction.
func PutMeta(tx *bbolt.Tx, key, value string) error {
	if err := tx.Bucket(metaBucket).Put([]byte(key), []byte(value)); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}
