package boltdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"

	"bobosync/shared/disk"
)

const (
	// sparseSize is the size up to which a file is left as it is, however empty: bbolt grows files by that much at
	// once.
	sparseSize = 16 << 20
	// copyPart is how much is copied in one transaction.
	copyPart = 4 << 20
	// partSuffix marks a compacted copy that has not yet taken its original's place.
	partSuffix = ".compact"
	// damagedSuffix marks a file that was set aside; the time at which that happened follows it.
	damagedSuffix = ".damaged-"
)

// step is a step of a compaction, for tests that kill the program between steps.
type step string

const (
	stepCopied   step = "copied"
	stepRenamed  step = "renamed"
	stepReplaced step = "replaced"
)

// CompactIfSparse rewrites the file, without its free pages, if it is larger than 16 MiB and more than half empty:
// bbolt itself never gives space back. It returns by how many bytes the file shrank, 0 if it was left as it is.
//
// Reading goes on meanwhile; writing waits, some seconds for each gigabyte in use. The file stays locked against other
// processes, and a kill at any moment leaves either the old or the new file, whole. If compacting fails, the old file
// stays in use. If ctx has ended, compacting does not begin. On Windows, where an open file cannot be replaced,
// CompactIfSparse does nothing; Open compacts there.
func (db *DB) CompactIfSparse(ctx context.Context) (saved int64, err error) {
	if db.closeFirst {
		return 0, nil
	}
	return db.compactIfSparse(ctx)
}

func (db *DB) compactIfSparse(ctx context.Context) (saved int64, err error) {
	db.writes.Lock() // anything written while the file is copied would be lost
	defer db.writes.Unlock()

	if err := ctx.Err(); err != nil {
		return 0, err
	}

	before, used, err := db.measure()
	if err != nil || before <= sparseSize || used > before/2 {
		return 0, err
	}

	if free, err := disk.Free(filepath.Dir(db.path)); err == nil && free < uint64(used)+2*sparseSize {
		db.log.Warn("a data file is mostly empty, but there is no room for making it smaller",
			"file", db.path, "bytes", before, "bytes_used", used, "bytes_free", free)
		return 0, nil
	}

	began := time.Now()

	if err := db.compact(); err != nil {
		return 0, fmt.Errorf("make %s smaller: %w", db.path, err)
	}

	after, _, err := db.measure()
	if err != nil {
		return 0, err
	}

	db.log.Info("a data file was mostly empty and is made smaller",
		"file", db.path, "bytes_before", before, "bytes", after, "seconds", time.Since(began).Round(time.Millisecond).Seconds())

	return before - after, nil
}

// Compact rewrites the file whatever its size, so that nothing of what was deleted is left in it. It also deletes the
// damaged versions of the file that were set aside. Otherwise it works like CompactIfSparse, but on Windows too, where
// reading waits meanwhile.
func (db *DB) Compact(ctx context.Context) error {
	db.writes.Lock()
	defer db.writes.Unlock()

	if err := ctx.Err(); err != nil {
		return err
	}

	if err := db.compact(); err != nil {
		return fmt.Errorf("rewrite %s: %w", db.path, err)
	}

	aside, err := filepath.Glob(db.path + damagedSuffix + "*")
	for _, file := range aside {
		err = errors.Join(err, disk.Remove(file))
	}

	return err
}

// measure returns the size of the file and how much of it is in use.
func (db *DB) measure() (size, used int64, err error) {
	info, err := os.Stat(db.path)
	if err != nil {
		return 0, 0, fmt.Errorf("look at the size of a data file: %w", err)
	}

	err = db.View(func(tx *bbolt.Tx) error {
		stats := tx.DB().Stats()
		free := stats.FreePageN + stats.PendingPageN
		used = tx.Size() - int64(free)*int64(tx.DB().Info().PageSize)
		return nil
	})

	return info.Size(), used, err
}

// compact copies what is in use into a file next to this one, which then takes its place. The caller holds db.writes.
func (db *DB) compact() error {
	part := db.path + partSuffix
	if err := disk.Remove(part); err != nil {
		return err
	}

	next, err := copyInto(db.inner, part)
	if err != nil {
		return errors.Join(err, disk.Remove(part))
	}

	db.reach(stepCopied)

	if db.closeFirst {
		return db.replaceClosed(next, part)
	}

	return db.replace(next, part)
}

// copyInto copies db into a new file at path and returns it, open and therefore locked. All of it is on the disk.
func copyInto(db *bbolt.DB, path string) (*bbolt.DB, error) {
	next, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		return nil, fmt.Errorf("begin a copy: %w", err)
	}

	if err := bbolt.Compact(next, db, copyPart); err != nil {
		return nil, errors.Join(fmt.Errorf("copy: %w", err), next.Close())
	}

	if err := next.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("bring the copy to the disk: %w", err), next.Close())
	}

	next.NoSync = false // until now only this compaction knew the copy

	return next, nil
}

// replace puts the copy in the file's place while both are open, so that at no moment can another process lock the
// file.
func (db *DB) replace(next *bbolt.DB, part string) error {
	if err := os.Rename(part, db.path); err != nil {
		return errors.Join(err, next.Close(), disk.Remove(part))
	}

	db.reach(stepRenamed)
	// This comes before anything is written to the new file: a power failure might otherwise bring back the old file,
	// without those writes.
	dirErr := syncDirectory(filepath.Dir(db.path))
	db.swap.Lock()
	old := db.inner
	db.inner = next
	db.swap.Unlock()

	err := errors.Join(dirErr, old.Close())

	db.reach(stepReplaced)

	return err
}

// replaceClosed is for systems that do not allow an open file to be replaced. If another process takes the file while
// it is closed, it cannot be opened again, because it is in use.
func (db *DB) replaceClosed(next *bbolt.DB, part string) error {
	if err := next.Close(); err != nil {
		return errors.Join(err, disk.Remove(part))
	}

	db.swap.Lock()
	defer db.swap.Unlock()

	err := db.inner.Close()
	if err == nil {
		err = os.Rename(part, db.path)
		db.reach(stepRenamed)
	}

	again, openErr := open(db.path) // this is the old file if it could not be replaced
	if openErr != nil {
		return errors.Join(err, openErr)
	}

	db.inner = again
	db.reach(stepReplaced)

	return errors.Join(err, disk.Remove(part))
}

// syncDirectory makes a rename in a directory survive a power failure, where the system can.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}

	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}

	return errors.Join(dir.Sync(), dir.Close())
}
