package roster

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/mapping"
)

// TestForget: the oldest strangers are forgotten, and nobody else.
func TestForget(t *testing.T) {
	t.Parallel()

	now := time.Unix(1_718_000_000, 0)
	at := func(hoursAgo int) latest.Event {
		return latest.Event{File: "a", On: true, At: now.Add(-time.Duration(hoursAgo) * time.Hour).Unix()}
	}
	for name, c := range map[string]struct {
		workers  map[string]latest.Worker
		most     int
		lifetime time.Duration
		kept     []string
		// forgot: somebody was forgotten whose event might still matter.
		forgot bool
	}{
		"few of them": {map[string]latest.Worker{"1": {Latest: at(1), Unmapped: true}}, 1, 24 * time.Hour, []string{"1"}, false},
		"too old to matter": {map[string]latest.Worker{
			"1": {Latest: at(25), Unmapped: true}, "2": {Latest: at(1), Unmapped: true},
		}, 4, 24 * time.Hour, []string{"2"}, false},
		"nothing is ever too old": {map[string]latest.Worker{"1": {Latest: at(2500), Unmapped: true}}, 1, 0, []string{"1"}, false},
		"too many": {map[string]latest.Worker{
			"1": {Latest: at(4), Unmapped: true}, "2": {Latest: at(1), Unmapped: true}, "3": {Latest: at(3), Unmapped: true},
			"4": {Latest: at(2), Unmapped: true}, "5": {Latest: at(9), Unmapped: true},
		}, 4, 24 * time.Hour, []string{"2", "3", "4"}, true},
		"too many workers, and no stranger": {map[string]latest.Worker{
			"1": {Latest: at(40)}, "2": {Latest: at(40), Unmapped: true, Sent: &latest.Sent{User: "u"}},
			"3": {Latest: at(40), Unmapped: true, Open: true}, "4": {Latest: at(40), Unmapped: true, InDoubt: 5},
			"5": {Latest: at(40), Unmapped: true, Unresolved: true}, "6": {Latest: at(40), Unmapped: true, Replay: "r"},
		}, 1, 24 * time.Hour, []string{"1", "2", "3", "4", "5", "6"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(filepath.Join(t.TempDir(), "resolver.db"), slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()

			require.NoError(t, s.Save(t.Context(), store.Change{Workers: c.workers}))
			r := &Roster{
				Holds: hold.New(guard.Rules{}, slog.New(slog.DiscardHandler)),
				Store: s, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, MaxStrangers: c.most,
				Rules: latest.Rules{Lifetime: c.lifetime},
			}
			require.NoError(t, r.Load(t.Context()))
			require.NoError(t, r.Forget(t.Context()))
			var kept []string
			forgot := false
			require.NoError(t, s.View(func(v store.View) (err error) {
				next := map[string]string{}
				for employee := range c.workers {
					next[employee] = "user of " + employee
				}

				if forgot, err = r.MayHaveForgotten(v, mapping.NewIndex("m", next)); err != nil {
					return err
				}

				return v.EachWorker(t.Context(), func(employee string, _ latest.Worker) error {
					kept = append(kept, employee)
					return nil
				})
			}))
			require.Equal(t, c.kept, kept)
			require.Equal(t, c.forgot, forgot)
			require.Equal(t, len(kept), r.Stats.Count(now, r.Rules).Workers)
		})
	}
}

// TestForgettingIsLinear: the cost grows with the number of workers, not with its square.
func TestForgettingIsLinear(t *testing.T) {
	cost := func(n int) float64 {
		s, err := store.Open(filepath.Join(t.TempDir(), "resolver.db"), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()

		workers := map[string]latest.Worker{}
		for i := range n {
			workers[fmt.Sprintf("%07d", i)] = latest.Worker{Latest: latest.Event{File: "a", At: int64(i + 1)}, Unmapped: true}
		}

		require.NoError(t, s.Save(t.Context(), store.Change{Workers: workers}))
		r := &Roster{Holds: hold.New(guard.Rules{}, slog.New(slog.DiscardHandler)), Store: s, Log: slog.New(slog.DiscardHandler), Now: time.Now, MaxStrangers: 100}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, r.Load(t.Context()))
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, r.Stats.Strangers(), 100)

		return float64(after.Mallocs - before.Mallocs)
	}
	n, n2, n4 := cost(10_000), cost(20_000), cost(40_000)
	require.Less(t, n2/n, 3.0)
	require.Less(t, n4/n2, 3.0)
}
