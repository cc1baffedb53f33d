package metrics

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
)

func TestMetrics(t *testing.T) {
	all := telemetry.New("v1.2.3")
	m := New(all)
	m.FileFinished(false)
	m.FileFinished(true)
	m.RowsSettled(event.Applied, 3)
	m.RowsRejected("columns", 2)
	m.EntriesPublished(5)
	m.FileRead(time.Second)
	m.Watch(teletest.Always(control.IngestState{
		Feeds:   []control.FeedState{{Name: "default"}},
		Waiting: 2, Rows: 40, Oldest: time.Now().Add(-time.Minute), LastFile: time.Now().Add(-time.Hour), FreeBytes: 1 << 30,
		Unsettled: map[string]time.Time{"secret-name.csv": time.Now()}, Problems: map[string]control.Problem{"secret-name.csv": {}},
	}))
	teletest.Documented(t, "../../../..", all, []string{"ingest"}, m)
	teletest.HasValues(t, all, map[string]float64{
		"bobosync_ingest_files_waiting": 2, "bobosync_ingest_rows_waiting": 40, "bobosync_ingest_free_disk_bytes": 1 << 30,
		"bobosync_ingest_files_unsettled": 1, "bobosync_ingest_problems": 1, "bobosync_ingest_directories_unusable": 0,
		"bobosync_ingest_files_finished_total done": 1, "bobosync_ingest_rows_settled_total applied": 3,
		"bobosync_ingest_rows_settled_total dead": 0, "bobosync_ingest_rows_rejected_total columns": 2,
		"bobosync_ingest_rows_rejected_total header": 0,
	})
	values := teletest.Values(t, all)
	require.InDelta(t, 60, values["bobosync_ingest_oldest_waiting_file_age_seconds"], 30)
	require.InDelta(t, 3600, values["bobosync_ingest_feed_silence_seconds"], 30)
}

func TestOffIsSafe(t *testing.T) {
	New(nil).FileFinished(true)
	all := telemetry.New("dev")
	require.Same(t, New(all), New(all), "a second session of the process has the same metrics")
	n, err := testutil.GatherAndCount(all.Gatherer(), "bobosync_ingest_files_waiting")
	require.NoError(t, err)
	require.Zero(t, n, "nothing is watched yet")
}
