package boltdb

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func TestOpenRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "x.db")
	db, err := Open(path, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.True(t, db.fresh)
	require.NoError(t, db.SetMeta("k", "v"))
	epoch := db.Epoch()
	require.NoError(t, db.Close())

	db, err = Open(path, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.False(t, db.fresh)
	require.Equal(t, epoch, db.Epoch())
	v, err := db.Meta("k")
	require.NoError(t, err)
	require.Equal(t, "v", v)
	require.NoError(t, db.Close())
}

func TestOpenNamesALockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := Open(path, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	_, err = Open(path, 1, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, path+" is in use by another process")
}

func TestOpenRefusesAnotherSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.db")
	db, err := Open(path, 2, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, db.Close())

	for version, says := range map[int]string{1: "newer version", 3: "older version"} {
		_, err = Open(path, version, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "remove the file")
	}
}

func TestOpenSetsDamageAside(t *testing.T) {
	damages := map[string]func([]byte) []byte{
		"text":           func([]byte) []byte { return []byte("not a database, not even a page of one") },
		"both metas":     func(b []byte) []byte { clear(b[:2*os.Getpagesize()]); return b },
		"cut in half":    func(b []byte) []byte { return b[:len(b)/2] },
		"schema":         func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`{"version":`), []byte(`{"vers"on":`)) },
		"pages of noise": func(b []byte) []byte { copy(b[2*os.Getpagesize():], bytes.Repeat([]byte{0xa5}, len(b)/2)); return b },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			fill(t, path)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, damage(data), 0o600))

			var log bytes.Buffer
			db, err := Open(path, 1, slog.New(slog.NewTextHandler(&log, nil)))
			require.NoError(t, err)
			require.True(t, db.fresh)
			require.NoError(t, db.Close())

			aside, err := filepath.Glob(path + ".damaged-*")
			require.NoError(t, err)
			require.Len(t, aside, 1)
			require.Contains(t, log.String(), "damaged")
		})
	}
}

func fill(t *testing.T, path string) {
	t.Helper()

	db, err := Open(path, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		if err != nil {
			return err
		}

		for i := range 20_000 {
			if err := b.Put(fmt.Appendf(nil, "key-%06d", i), bytes.Repeat([]byte("v"), 50)); err != nil {
				return err
			}
		}

		return nil
	}))
	require.NoError(t, db.Close())
}
