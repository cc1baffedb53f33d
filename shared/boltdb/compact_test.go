package boltdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

const (
	fullKeys = 6000
	keptKeys = 300
	valueLen = 4000
)

// sparse makes a file of more than 16 MiB, little of which is in use, and returns what it holds.
func sparse(t *testing.T, path string) string {
	t.Helper()
	db := openIt(t, path)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}

		in, err := b.CreateBucket([]byte("inside"))
		if err != nil {
			return err
		}

		if err := in.Put([]byte("empty"), nil); err != nil {
			return err
		}

		for i := range fullKeys {
			if err := b.Put(fmt.Appendf(nil, "key-%06d", i), bytes.Repeat([]byte{byte(i)}, valueLen)); err != nil {
				return err
			}
		}

		return b.SetSequence(7)
	}))
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		for i := keptKeys; i < fullKeys; i++ {
			if err := tx.Bucket([]byte("b")).Delete(fmt.Appendf(nil, "key-%06d", i)); err != nil {
				return err
			}
		}

		return nil
	}))
	sum := contentOf(t, db)
	require.NoError(t, db.Close())
	require.Greater(t, sizeOf(t, path), int64(sparseSize))

	return sum
}

func openIt(t *testing.T, path string) *DB {
	t.Helper()

	db, err := Open(path, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)

	return db
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()

	info, err := os.Stat(path)
	require.NoError(t, err)

	return info.Size()
}

// contentOf returns a hash of all keys and values, and of the schema.
func contentOf(t *testing.T, db *DB) string {
	t.Helper()

	sum := sha256.New()
	var add func(b *bbolt.Bucket) error
	add = func(b *bbolt.Bucket) error {
		fmt.Fprintf(sum, "sequence %d\n", b.Sequence())

		return b.ForEach(func(k, v []byte) error {
			fmt.Fprintf(sum, "%q = %q, a bucket: %t\n", k, v, v == nil)

			if v == nil {
				return add(b.Bucket(k))
			}

			return nil
		})
	}
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			fmt.Fprintf(sum, "%q\n", name)
			return add(b)
		})
	}))

	return fmt.Sprintf("%x", sum.Sum(nil))
}

// thin deletes again what it puts, so that an open file becomes mostly empty.
func thin(t *testing.T, db *DB) {
	t.Helper()

	for _, fill := range []bool{true, false} {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			for i := 0; i < fullKeys && err == nil; i++ {
				key := fmt.Appendf(nil, "thin-%06d", i)
				if fill {
					err = b.Put(key, make([]byte, valueLen))
				} else {
					err = b.Delete(key)
				}
			}

			return err
		}))
	}
}

func TestASparseFileIsMadeSmallerWhenOpened(t *testing.T) {
	for _, closeFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed first %t", closeFirst), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			want := sparse(t, path)
			before := sizeOf(t, path)
			inner, err := open(path)
			require.NoError(t, err)

			db := &DB{path: path, log: slog.New(slog.DiscardHandler), inner: inner, closeFirst: closeFirst, reach: func(step) {}}
			require.NoError(t, db.tidyUp())
			require.Less(t, sizeOf(t, path), before/4)
			require.Equal(t, want, contentOf(t, db))
			require.NoError(t, db.SetMeta("k", "v"))
			require.NoError(t, db.Close())

			db = openIt(t, path)
			v, err := db.Meta("k")
			require.NoError(t, err)
			require.Equal(t, "v", v)
			require.NoError(t, db.Close())
			require.NoFileExists(t, path+partSuffix)
		})
	}
}

func TestAFullOrSmallFileIsLeftAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	fill(t, path)
	db := openIt(t, path)
	saved, err := db.CompactIfSparse(t.Context())
	require.NoError(t, err)
	require.Zero(t, saved)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("b"))
		for i := range fullKeys {
			if err := b.Put(fmt.Appendf(nil, "more-%06d", i), make([]byte, valueLen)); err != nil {
				return err
			}
		}

		return nil
	}))
	before := sizeOf(t, path)
	require.Greater(t, before, int64(sparseSize))
	saved, err = db.CompactIfSparse(t.Context())
	require.NoError(t, err)
	require.Zero(t, saved)
	require.Equal(t, before, sizeOf(t, path))
	require.NoError(t, db.Close())
}

func TestNothingBeginsAfterTheContextsEnd(t *testing.T) {
	db := openIt(t, filepath.Join(t.TempDir(), "x.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := db.CompactIfSparse(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, db.Close())
}

// TestReadersAndWritersGoOnMeanwhile: no write is lost and no reader sees half of one while the file is replaced.
func TestReadersAndWritersGoOnMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := openIt(t, path)
	db.closeFirst = false
	key := []byte("count")
	put := func(n uint64) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("counts"))
			if err != nil {
				return err
			}

			value := binary.BigEndian.AppendUint64(nil, n)
			if err := b.Put(key, value); err != nil {
				return err
			}

			return b.Put([]byte("again"), value)
		})
	}
	require.NoError(t, put(0))

	stop := make(chan struct{})
	var workers sync.WaitGroup
	var written uint64
	errs := make(chan error, 8)
	workers.Go(func() {
		for n := uint64(1); ; n++ {
			if err := put(n); err != nil {
				errs <- err
				return
			}

			written = n

			select {
			case <-stop:
				return
			default:
			}
		}
	})

	for range 3 {
		workers.Go(func() {
			last := uint64(0)
			for {
				err := db.View(func(tx *bbolt.Tx) error {
					b := tx.Bucket([]byte("counts"))
					n := binary.BigEndian.Uint64(b.Get(key))
					if n < last || !bytes.Equal(b.Get(key), b.Get([]byte("again"))) {
						return fmt.Errorf("read %d after %d, with %x beside it", n, last, b.Get([]byte("again")))
					}

					last = n

					return nil
				})
				if err != nil {
					errs <- err
					return
				}

				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}

	for range 3 {
		thin(t, db)
		saved, err := db.CompactIfSparse(t.Context())
		require.NoError(t, err)
		require.Greater(t, saved, int64(8<<20))
	}

	_, err := Open(path, 1, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "in use by another process", "the lock must have come along")
	close(stop)
	workers.Wait()
	close(errs)

	for err := range errs {
		t.Error(err)
	}

	require.NoError(t, db.Close())

	db = openIt(t, path)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		require.Equal(t, written, binary.BigEndian.Uint64(tx.Bucket([]byte("counts")).Get(key)))
		return nil
	}))
	require.NoError(t, db.Close())
}

// TestWaitingForALockEndsAtTheFileThatIsThere: a process that waits for the lock while the file is replaced must not
// get the old file.
func TestWaitingForALockEndsAtTheFileThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	fill(t, path)
	first := openIt(t, path)
	first.closeFirst = false

	thin(t, first)

	opened := make(chan *DB)
	go func() {
		second, err := Open(path, 1, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Error(err)
		}

		opened <- second
	}()

	saved, err := first.CompactIfSparse(t.Context())
	require.NoError(t, err)
	require.Positive(t, saved)
	require.NoError(t, first.SetMeta("k", "written after the exchange"))
	require.NoError(t, first.Close())

	second := <-opened
	v, err := second.Meta("k")
	require.NoError(t, err)
	require.Equal(t, "written after the exchange", v)
	require.NoError(t, second.Close())
}

const killEnv, pathEnv = "BOLTDB_TEST_KILL_AT", "BOLTDB_TEST_PATH"

// TestKilledWhileMakingSmaller kills a process between any two steps; the next process finds all of the content.
func TestKilledWhileMakingSmaller(t *testing.T) {
	if at := os.Getenv(killEnv); at != "" {
		killMyself(t, step(at))
		return
	}

	for _, at := range []step{stepCopied, stepRenamed, stepReplaced} {
		t.Run(string(at), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			want := sparse(t, path)
			before := sizeOf(t, path)

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestKilledWhileMakingSmaller$")

			cmd.Env = append(os.Environ(), killEnv+"="+string(at), pathEnv+"="+path)
			out, err := cmd.CombinedOutput()
			require.Error(t, err, "it was not killed: %s", out)
			require.NotContains(t, string(out), "FAIL")

			if at == stepCopied {
				require.FileExists(t, path+partSuffix)
				require.Equal(t, before, sizeOf(t, path))
			} else {
				require.Less(t, sizeOf(t, path), before)
			}

			db := openIt(t, path)
			require.NoFileExists(t, path+partSuffix)
			require.Equal(t, want, contentOf(t, db))
			require.Less(t, sizeOf(t, path), before/4)
			require.NoError(t, db.Close())
		})
	}
}

func killMyself(t *testing.T, at step) {
	inner, err := open(os.Getenv(pathEnv))
	require.NoError(t, err)

	db := &DB{path: os.Getenv(pathEnv), log: slog.New(slog.DiscardHandler), inner: inner, reach: func(s step) {
		if s != at {
			return
		}

		me, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, me.Kill())

		select {} // it takes a moment
	}}
	_, err = db.compactIfSparse(t.Context())
	t.Fatalf("came through: %v", err)
}

func TestAFailureLeavesTheFileAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := openIt(t, path)
	thin(t, db)
	// Something that cannot be removed is in the way of the copy: the file must stay in use as it is.
	require.NoError(t, os.MkdirAll(filepath.Join(path+partSuffix, "x"), 0o755))

	db.closeFirst = false
	before := sizeOf(t, path)
	_, err := db.CompactIfSparse(t.Context())
	require.ErrorContains(t, err, path)
	require.NoError(t, db.SetMeta("k", "v"))
	require.Equal(t, before, sizeOf(t, path))
	require.NoError(t, db.Close())
	require.NoError(t, os.RemoveAll(path+partSuffix))
}
