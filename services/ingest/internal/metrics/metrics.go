// Package metrics holds the metrics of ingest.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/metric"
)

// Set is the set of ingest's metrics. Its Watch reads the gauges from the service's state.
type Set struct {
	metric.Watched[control.IngestState]
	files    *prometheus.CounterVec
	settled  *prometheus.CounterVec
	rejected *prometheus.CounterVec
	entries  prometheus.Counter
	reading  prometheus.Histogram
}

// part is the component in the metrics' names.
const part = "ingest"

// New returns the metrics of ingest in t.
func New(t *telemetry.Telemetry) *Set {
	return telemetry.Once(t, part, func() *Set {
		m := &Set{
			files: metric.Counters(part, "files_finished_total", "Files that left the input directory, or are done and stay there, by outcome.", "outcome"),
			settled: metric.Counters(part, "rows_settled_total", "Rows that got their outcome, by outcome.",
				"outcome"),
			rejected: metric.Counters(part, "rows_rejected_total", "Rows that hold no valid booking, by reason.", "reason"),
			entries:  metric.Counter(part, "entries_published_total", "Valid rows published to the resolver, also those published again."),
			reading: metric.Histogram(part, "file_read_seconds", "Time from opening a file to its last entry in the broker.",
				[]float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300}),
		}
		for _, outcome := range []string{fileDone, fileFailed} {
			m.files.WithLabelValues(outcome)
		}

		for _, outcome := range event.Outcomes() {
			m.settled.WithLabelValues(outcome.String())
		}

		for _, reason := range bobocsv.Reasons() { // a rate needs a value from before the first rows
			m.rejected.WithLabelValues(reason.String())
		}

		m.Gauges = gauges()

		return m
	})
}

// gauges returns the gauges that are read from the service's state at each scrape.
func gauges() metric.Readings[control.IngestState] {
	type state = control.IngestState

	return metric.Readings[state]{
		metric.Value(part, "complete_up_to_timestamp_seconds", "The time up to which AtHoc is complete, in Unix seconds: every row of every file that arrived until then has its outcome.",
			func(s state) float64 { return metric.Timestamp(freshness(s).CompleteUpTo) }),
		metric.Value(part, "complete_lag_seconds", "Age of the time up to which AtHoc is complete; 0 when nothing waits.",
			func(s state) float64 { return freshness(s).Lag().Seconds() }),
		metric.Value(part, "late_after_seconds", "The lag from which on duty data counts as late: LATE_AFTER.",
			func(s state) float64 { return float64(freshness(s).LateAfterMS) / 1000 }),
		metric.Labelled(part, "complete_apart_rows", "Rows that do not hold back the time up to which AtHoc is complete: those that wait for a decision about a mass change (held), and those of the last hour whose employee id no AtHoc user has (unmapped).",
			[]string{"what"}, func(s state, emit func(float64, ...string)) {
				emit(float64(freshness(s).HeldRows), "held")
				emit(float64(freshness(s).Unmapped), "unmapped")
			}),
		metric.Labelled(part, "arrival_to_confirmed_seconds", "Time of the last hour's rows from a file's arrival to AtHoc's confirmation, by part of the way (total, settling, us, athoc) and percentile; 100 is the worst.",
			[]string{"part", "percentile"}, emitSpreads),
		metric.Value(part, "files_waiting", "Files in the input directory that are read and not done.",
			func(s state) float64 { return float64(s.Waiting) }),
		metric.Value(part, "rows_waiting", "Rows of the waiting files that have no outcome yet.",
			func(s state) float64 { return float64(s.Rows) }),
		metric.Age(part, "oldest_waiting_file_age_seconds", "Time since the oldest of the waiting files was first seen; 0 if none waits.",
			func(s state) time.Time { return s.Oldest }),
		metric.Age(part, "feed_silence_seconds", "Time since the newest file was first seen; 0 if there never was one.",
			func(s state) time.Time { return s.LastFile }),
		metric.Labelled(part, "feed_unusual", "1 for a feed that is silent, thin or a flood beside what it usually brings, and not muted; 0 otherwise.",
			[]string{"feed", "how"}, emitFeeds),
		metric.Labelled(part, "feed_hour_rows", "Good rows of the hour so far, by feed, and the least and most that such hours have brought.",
			[]string{"feed", "which"}, emitHours),
		metric.Value(part, "free_disk_bytes", "Space left where the processed files and the ledger go, the lesser of the two.",
			func(s state) float64 { return float64(s.FreeBytes) }),
		metric.Value(part, "files_unsettled", "Files that are not taken yet since they still change.",
			func(s state) float64 { return float64(len(s.Unsettled)) }),
		metric.Value(part, "problems", "Names in the input directory that cannot be read.",
			func(s state) float64 { return float64(max(s.ProblemNames, len(s.Problems))) }),
		metric.Value(part, "directories_unusable", "Configured directories that cannot be used at this moment.",
			func(s state) float64 { return float64(len(s.Directories)) }),
	}
}

// freshness returns the freshness in a state; empty if there is none.
func freshness(s control.IngestState) control.Freshness {
	if s.Freshness == nil {
		return control.Freshness{}
	}
	return *s.Freshness
}

func emitSpreads(s control.IngestState, emit func(float64, ...string)) {
	f := freshness(s)
	for part, spread := range map[string]control.Spread{"total": f.Total, "settling": f.Settling, "us": f.Us, "athoc": f.AtHoc} {
		for percentile, ms := range map[string]int64{"50": spread.P50, "95": spread.P95, "99": spread.P99, "100": spread.Worst} {
			emit(float64(ms)/1000, part, percentile)
		}
	}
}

func emitFeeds(s control.IngestState, emit func(float64, ...string)) {
	for _, f := range s.Feeds {
		loud := f.Mute == nil
		emit(metric.Flag(loud && f.Silent), f.Name, "silent")
		emit(metric.Flag(loud && f.Thin != nil), f.Name, "thin")
		emit(metric.Flag(loud && f.Flood != nil), f.Name, "flood")
	}
}

func emitHours(s control.IngestState, emit func(float64, ...string)) {
	for _, f := range s.Feeds {
		emit(float64(f.Rows), f.Name, "now")
		emit(float64(f.Usual.Least), f.Name, "least")
		emit(float64(f.Usual.Most), f.Name, "most")
	}
}

// The outcomes of files.
const (
	fileDone   = "done"
	fileFailed = "failed"
)

// Collectors returns all metrics of the set.
func (m *Set) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m, m.files, m.settled, m.rejected, m.entries, m.reading}
}

// FileFinished counts a file whose rows are all settled. failed reports that it goes to FAILED_FILES_DIRECTORY.
func (m *Set) FileFinished(failed bool) {
	if failed {
		m.files.WithLabelValues(fileFailed).Inc()
		return
	}

	m.files.WithLabelValues(fileDone).Inc()
}

// RowsSettled counts rows that got their first outcome.
func (m *Set) RowsSettled(outcome event.Outcome, n int) {
	m.settled.WithLabelValues(outcome.String()).Add(float64(n))
}

// RowsRejected counts rejected rows. reason is one of a fixed set of words.
func (m *Set) RowsRejected(reason string, n int) {
	m.rejected.WithLabelValues(reason).Add(float64(n))
}

// EntriesPublished counts entries that are in the stream.
func (m *Set) EntriesPublished(n int) { m.entries.Add(float64(n)) }

// FileRead records how long a file took from being opened until its last entry was in the broker.
func (m *Set) FileRead(took time.Duration) { m.reading.Observe(took.Seconds()) }
