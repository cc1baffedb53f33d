package store

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/event"
)

// BenchmarkSave saves 20,000 workers, as for a batch that affects all of them.
func BenchmarkSave(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "m.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}

	b.Cleanup(func() { _ = s.Close() }) // nothing is read from it

	workers := map[string]latest.Worker{}
	for i := range 20_000 {
		e := latest.Event{Version: event.Version{Rank: 1795462717, Sequence: 1795462717248371230, Row: i}, File: fmt.Sprintf("%064x", i), On: true, At: 1795462717}
		sent := latest.Sent{User: fmt.Sprintf("firstname.lastname.%d@example.org", i), File: e.File, Version: e.Version, On: true, At: e.At}
		workers[fmt.Sprintf("%05d", i)] = latest.Worker{Latest: e, Open: true, Sent: &sent, Confirmed: &latest.Confirmed{Sent: sent, Outcome: event.Applied, Answered: 1795462717}}
	}

	for b.Loop() {
		if err := s.Save(b.Context(), Change{Workers: workers}); err != nil {
			b.Fatal(err)
		}
	}
}

func fresh(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(filepath.Join(tb.TempDir(), "resolver.db"), slog.New(slog.DiscardHandler))
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })

	return s
}

func crowd(n int) map[string]string {
	users := make(map[string]string, n)
	for i := range n {
		users[fmt.Sprintf("%07d", i)] = fmt.Sprintf("firstname.lastname.%d@example.org", i)
	}

	return users
}

func mapped(t *testing.T, s *Store) (string, map[string]string) {
	t.Helper()

	users := map[string]string{}
	require.NoError(t, s.View(func(v View) error {
		v.EachUser("", func(employee, user string) bool {
			users[employee] = user
			return true
		})

		return nil
	}))
	snapshot, err := s.Snapshot()
	require.NoError(t, err)

	return snapshot, users
}

// TestAMappingIsReplacedWhole: whatever interrupts the replacement, the store holds either the old or the new mapping.
func TestAMappingIsReplacedWhole(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	first, second := crowd(2*usersPart+1), crowd(usersPart+1)
	second["0000001"] = "another"

	require.NoError(t, s.ReplaceMapping(t.Context(), "m1", first))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.ReplaceMapping(ended, "m2", second), context.Canceled)
	snapshot, users := mapped(t, s)
	require.Equal(t, "m1", snapshot)
	require.Equal(t, first, users)

	for _, next := range []map[string]string{second, {}, first} {
		require.NoError(t, s.ReplaceMapping(t.Context(), "m3", next))
		snapshot, users = mapped(t, s)
		require.Equal(t, "m3", snapshot)
		require.Equal(t, next, users)
	}
}

// TestReplacingAMappingIsLinear: it is, in what is allocated and in what bbolt counts as written.
func TestReplacingAMappingIsLinear(t *testing.T) {
	s := fresh(t)
	cost := func(n int) (bytes, pages float64) {
		users := crowd(n)

		require.NoError(t, s.ReplaceMapping(t.Context(), "m", nil))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, s.ReplaceMapping(t.Context(), "m", users))
		runtime.ReadMemStats(&after)
		var written int
		require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
			stats := tx.Bucket(mappingBucket).Stats()
			written = stats.LeafPageN + stats.BranchPageN
			return nil
		}))

		return float64(after.TotalAlloc - before.TotalAlloc), float64(written)
	}
	bytes, pages := cost(25_000)
	bytes2, pages2 := cost(50_000)
	bytes4, pages4 := cost(100_000)
	for _, growth := range []float64{bytes2 / bytes, bytes4 / bytes2, pages2 / pages, pages4 / pages2} {
		require.Less(t, growth, 3.0)
	}
}

// TestALargeChangeStopsInBetween: a shutdown does not wait for all of the change, and only whole workers are stored.
func TestALargeChangeStopsInBetween(t *testing.T) {
	t.Parallel()
	s := fresh(t)

	workers := map[string]latest.Worker{}
	for i := range workersPart + 1 {
		workers[fmt.Sprintf("%06d", i)] = latest.Worker{Latest: latest.Event{File: "a", At: int64(i)}}
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Save(ended, Change{Workers: workers, Recovered: true}), context.Canceled)
	recovered, err := s.Recovered()
	require.NoError(t, err)
	require.False(t, recovered)
	require.NoError(t, s.Save(t.Context(), Change{Workers: workers, Recovered: true}))
	recovered, err = s.Recovered()
	require.NoError(t, err)
	require.True(t, recovered)

	got := map[string]latest.Worker{}
	require.NoError(t, s.View(func(v View) error {
		return v.EachWorker(t.Context(), func(employee string, w latest.Worker) error {
			got[employee] = w
			return nil
		})
	}))
	require.Equal(t, workers, got)
}

// BenchmarkReplaceMapping stores a mapping over and over, each time in place of an equal one.
func BenchmarkReplaceMapping(b *testing.B) {
	for _, n := range []int{20_000, 200_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, users := fresh(b), crowd(n)
			b.ReportAllocs()

			for b.Loop() {
				require.NoError(b, s.ReplaceMapping(b.Context(), "m", users))
			}
		})
	}
}
