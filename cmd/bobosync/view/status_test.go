package view_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/bobosync/view"
	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

var night = time.Date(2024, 6, 17, 2, 30, 0, 0, time.UTC)

// well returns the facts when nothing is wrong.
func well() verdict.Facts {
	one := control.Instance{Name: "a/1", Version: "v1.2.3", Started: night.Add(-72 * time.Hour)}

	return verdict.Facts{
		At: night,
		Ingest: []control.IngestState{{
			Instance: one, LastFile: night.Add(-time.Hour), FreeBytes: 50 << 30, Today: control.FileCounts{Done: 3, Rows: 90, Rejected: 2},
		}},
		Resolver:  []control.ResolverState{{Instance: one, Recovered: true, Workers: 100, OnDuty: 10, Snapshot: "s", Mapped: 120}},
		Publisher: []control.PublisherState{{Instance: one, Partitions: []int{1, 3}, LastSuccess: night.Add(-time.Minute)}},
		Janitor: []control.JanitorState{{Instance: one, Leads: true, Jobs: []control.Job{
			{Name: control.JobMapping, LastSuccess: night.Add(-6 * time.Hour), Next: night.Add(18 * time.Hour)},
			{Name: control.JobCleanup, LastSuccess: night.Add(-time.Minute), Next: night.Add(4 * time.Minute)},
		}}},
		Breaker: &breaker.State{},
	}
}

func TestScreen(t *testing.T) {
	f := well()
	f.DeadLetters, f.Partitions = 1, map[int]string{1: "a-1", 4: "a-1", 5: "gone-9"}
	f.Ingest[0].Today.Outcomes = map[string]int{"applied": 88, "columns": 2}
	var b strings.Builder
	require.NoError(t, view.Status(&b, f, verdict.Judge(f, verdict.Limits{}), false))
	page := b.String()
	require.True(t, strings.HasPrefix(page, "WARNING: duty data is fresh, but 1 thing needs a look\n"), page)

	for _, want := range []string{
		"bobosync dead list says why", "3 files done, 0 failed; 90 rows, 2 of them rejected (2 columns)", "10 on duty of 100 known",
		"partitions 1 3", "last update taken 1 min ago", "Partitions 5 are leased to gone-9", "mapping", "cleanup",
	} {
		require.Contains(t, page, want)
	}

	require.NotContains(t, page, "\x1b", "no colours without a terminal")
	require.NotContains(t, page, "Partitions 4")
	b.Reset()
	require.NoError(t, view.Status(&b, f, verdict.Judge(f, verdict.Limits{}), true))
	require.Contains(t, b.String(), "\x1b[1;33mWARNING")
}

func TestScreenBeginsWithTheWatermark(t *testing.T) {
	f := well()
	f.Ingest[0].Freshness = &control.Freshness{
		CompleteUpTo: night, LateAfterMS: 120_000, Rows: 7, Total: control.Spread{P50: 1100, P95: 2040, P99: 3000, Worst: 190_000},
		Worst: &control.WorstRow{File: "north.csv", Line: 5, MS: 190_000, Settling: 1000, Us: 200, AtHoc: 188_800, Confirmed: night},
	}

	var b strings.Builder
	require.NoError(t, view.Status(&b, f, verdict.Judge(f, verdict.Limits{}), false))
	require.True(t, strings.HasPrefix(b.String(), "AtHoc is complete up to "+text.When(night)+"\nOK: duty data is fresh\n"), b.String())
	require.Contains(t, b.String(), "7 rows confirmed after 1.1 s (p50), 2.0 s (p95), 3.0 s (p99), 3 min (worst)")
	require.Contains(t, b.String(), "north.csv, line 5")
}

// TestWhatIsHeldIsNotCalledConfirmed checks that workers whose change waits for a decision do not count as confirmed:
// AtHoc shows something else for them.
func TestWhatIsHeldIsNotCalledConfirmed(t *testing.T) {
	f := well()
	f.Resolver[0].Guard = &control.GuardState{Held: []control.HeldGroup{{ID: "off-1", Users: 180, Since: night}}}
	var b strings.Builder
	require.NoError(t, view.Status(&b, f, verdict.Judge(f, verdict.Limits{}), false))
	require.Contains(t, b.String(), "10 on duty by their newest bookings of 100 known, 0 unmapped; all but the held ones confirmed by AtHoc")
}
