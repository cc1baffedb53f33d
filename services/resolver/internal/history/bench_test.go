package history

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

var records = flag.Int("history-records", 100_000, "how many `records` BenchmarkHistory keeps: 7200000 are those of 20,000 workers in 90 days")

// BenchmarkHistory asks a history of that size about one worker, and about all, at random moments. What takes 90 days takes minutes here,
// and what is late is as much less late.
func BenchmarkHistory(b *testing.B) {
	const workers, callers, timeout = 20_000, 500, 10 * time.Millisecond
	server := bustest.Start(b)
	conn := server.Connect(b)
	require.NoError(b, topology.Provision(b.Context(), conn.JS, topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: timeout}, topology.Everyone))
	k, err := New(conn, timeout, bustest.Logger(), time.Now)
	require.NoError(b, err)
	defer k.Close()
	k.lateness = 100 * time.Millisecond
	require.NoError(b, k.Begin(b.Context()))

	rng := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for n := 0; n < *records; n += callers {
		// Each worker is on duty for a third of his changes.
		a := answers(fmt.Sprintf("0193d0e2-0000-7000-8000-%012d", n), n%workers, callers, (n/workers)%3 == 0, time.Now().Add(-time.Second))
		for i := range a.Answers {
			a.Answers[i].File = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
			a.Answers[i].On = a.Answers[i].On != (rng.IntN(5) == 0)
		}
		require.NoError(b, k.Record(b.Context(), []Answered{{Acks: a, Sequence: uint64(n + 1), Stored: time.Now()}}))
		if n%markAfter == 0 {
			require.NoError(b, k.mark(b.Context()))
		}
	}
	ended := time.Now()
	b.Logf("%d records in %s, %d bytes of store for each", *records, ended.Sub(began).Round(time.Second), size(b, server.Dir())/int64(*records))
	moment := func() time.Time { return began.Add(time.Duration(rng.Int64N(int64(ended.Sub(began))))) }
	report := func(b *testing.B, took []time.Duration) {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms-worst")
	}
	b.Run("worker", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			n, began := rng.IntN(workers), time.Now()
			_, err := k.Past(b.Context(), fmt.Sprint(n), fmt.Sprintf("User%d", n), control.PastRequest{At: moment(), Most: 5})
			require.NoError(b, err)
			took = append(took, time.Since(began))
		}
		report(b, took)
	})
	b.Run("onduty", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			began, req, total := time.Now(), control.OnDutyRequest{At: moment()}, 0
			for more := true; more; {
				a, err := k.OnDuty(b.Context(), req)
				require.NoError(b, err)
				if more = a.More; more {
					req.After = a.Workers[len(a.Workers)-1].User
				}
				total = a.Total
			}
			took = append(took, time.Since(began))
			b.ReportMetric(float64(total), "on-duty")
		}
		report(b, took)
	})
}

// size is that of all files below a directory.
func size(tb testing.TB, dir string) (sum int64) {
	tb.Helper()
	require.NoError(tb, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		sum += info.Size()
		return err
	}))
	return sum
}

// TestAMarkOfManyParts: a mark that is too large for a message is put together, and one of which a part is gone does not count.
func TestAMarkOfManyParts(t *testing.T) {
	b := newBench(t)
	mark := event.Mark{At: b.now.UnixMilli(), Through: 7}
	for n := range 2*markPlaces + 1 {
		mark.Open = append(mark.Open, uint64(n))
	}
	small := event.Mark{At: b.now.UnixMilli(), Through: 3, Open: []uint64{1, 2}}
	for _, m := range []event.Mark{small, mark} {
		_, err := b.keeper.pub.PublishBatch(t.Context(), parts(m)...)
		require.NoError(t, err)
	}
	got, err := b.keeper.lastMark(t.Context(), time.Now())
	require.NoError(t, err)
	slices.Sort(got.Open)
	require.Equal(t, mark.Open, got.Open)
	require.Equal(t, mark.Through, got.Through)

	stream, err := b.conn.JS.Stream(t.Context(), topology.StreamHistory)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), stream.CachedInfo().State.LastSeq-1))
	got, err = b.keeper.lastMark(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, small.Through, got.Through)
	require.Equal(t, small.Open, got.Open)
}
