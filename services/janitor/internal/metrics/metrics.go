// Package metrics holds the janitor's metrics.
package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/control"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/metric"
)

// Set holds the janitor's metrics. Some gauges, read through Watch from the service's state, are absent on a follower.
type Set struct {
	metric.Watched[control.JanitorState]
	runs      *prometheus.CounterVec
	cleared   prometheus.Counter
	resent    prometheus.Counter
	compared  prometheus.Gauge
	differ    prometheus.Gauge
	unmanaged prometheus.Gauge
	purged    prometheus.Counter

	mapping mappingGauges
}

// mappingGauges are the gauges of the mapping in force, absent until there is one.
type mappingGauges struct {
	metric.Readings[control.MappingReport]
	mu     sync.Mutex
	report control.MappingReport
}

// New returns the metrics of the janitor in t.
func New(t *telemetry.Telemetry) *Set {
	return telemetry.Once(t, "janitor", func() *Set {
		const part = "janitor"

		m := &Set{
			runs:      metric.Counters(part, "runs_total", "Runs of the janitor's jobs, by job and outcome.", "duty", "outcome"),
			cleared:   metric.Counter(part, "stale_duties_cleared_total", "Stale duty statuses that were cleared: those older than AUTO_CLEANUP_HOURS."),
			resent:    metric.Counter(part, "reconcile_applied_total", "Users whose status a comparison with AtHoc has resent."),
			compared:  metric.Gauge(part, "reconcile_compared", "Users compared with AtHoc the last time."),
			differ:    metric.Gauge(part, "reconcile_differing", "Users for whom AtHoc held another status than it should at the last comparison."),
			unmanaged: metric.Gauge(part, "reconcile_foreign", "Users with a duty status whom no known worker is mapped to, at the last comparison."),
			purged:    metric.Counter(part, "files_purged_total", "Processed files that were deleted since they are old."),
		}
		for _, job := range []string{control.JobMapping, control.JobCleanup, control.JobReconcile, control.JobPurge} {
			for _, outcome := range []string{control.OutcomeOK, control.OutcomeFailed, control.OutcomeHeld} {
				m.runs.WithLabelValues(job, outcome)
			}
		}

		type state = control.JanitorState
		eachJob := func(s state, emit func(float64, ...string), read func(control.Job) float64) {
			for _, d := range s.Jobs {
				if !d.Off {
					emit(read(d), d.Name)
				}
			}
		}
		m.Gauges = metric.Readings[state]{
			metric.Value(part, "at_work", "1 for the leader, 0 for a follower.",
				func(s state) float64 { return metric.Flag(s.Leads) }),
			metric.Labelled(part, "last_success_timestamp_seconds", "End of the last run that succeeded, by job; 0 if none has.", []string{"duty"},
				func(s state, emit func(float64, ...string)) {
					eachJob(s, emit, func(d control.Job) float64 { return metric.Timestamp(d.LastSuccess) })
				}),
			metric.Labelled(part, "failures", "Failed runs since the last success, by job.", []string{"duty"},
				func(s state, emit func(float64, ...string)) {
					eachJob(s, emit, func(d control.Job) float64 { return float64(d.Failures) })
				}),
			metric.Labelled(part, "notify_failing", "1 for a sink of notices that takes none, 0 for one that does.", []string{"sink"},
				func(s state, emit func(float64, ...string)) {
					for _, n := range s.Notify {
						emit(metric.Flag(!n.Failing.IsZero()), n.Sink)
					}
				}),
			metric.Labelled(part, "notify_waiting", "Notices that wait for a sink; they are kept for a day.", []string{"sink"},
				func(s state, emit func(float64, ...string)) {
					for _, n := range s.Notify {
						emit(float64(n.Waiting), n.Sink)
					}
				}),
			metric.Value(part, "mapping_held", "1 if a mapping is held back by its guard and waits for an approval.",
				func(s state) float64 { return metric.Flag(s.Held != nil) }),
		}
		m.mapping.Readings = mappingReadings(part)

		return m
	})
}

// mappingReadings returns the gauges that are read from the report of the mapping in force.
func mappingReadings(part string) metric.Readings[control.MappingReport] {
	type report = control.MappingReport

	return metric.Readings[report]{
		metric.Age(part, "mapping_age_seconds", "Time since the last refresh of the mapping that succeeded, also of one that found nothing new.",
			func(r report) time.Time { return r.Refreshed }),
		metric.Value(part, "mapping_ids", "Employee ids that are mapped to an AtHoc user.", func(r report) float64 { return float64(r.Mapped) }),
		metric.Value(part, "mapping_users", "AtHoc's users at the last refresh.", func(r report) float64 { return float64(r.Users) }),
		metric.Value(part, "mapping_users_without_id", "AtHoc's users that have no employee id.",
			func(r report) float64 { return float64(r.Without) }),
		metric.Value(part, "mapping_ambiguous_ids", "Employee ids that several AtHoc users have: none of them gets its duty status.",
			func(r report) float64 { return float64(len(r.Ambiguous)) }),
	}
}

// Collectors returns all metrics of the set.
func (m *Set) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m, m.runs, m.cleared, m.resent, m.compared, m.differ, m.unmanaged, m.purged, &m.mapping}
}

// Run counts a finished run of a job. Job and outcome are constants of package control.
func (m *Set) Run(job, outcome string) { m.runs.WithLabelValues(job, outcome).Inc() }

// StaleCleared counts stale duty statuses that were cleared.
func (m *Set) StaleCleared(n int) { m.cleared.Add(float64(n)) }

// FilesPurged counts processed files that were deleted.
func (m *Set) FilesPurged(n int) { m.purged.Add(float64(n)) }

// Reconciled records a finished comparison of AtHoc with what it should hold.
func (m *Set) Reconciled(a control.ReconcileAnswer) {
	m.compared.Set(float64(a.Compared))
	m.differ.Set(float64(a.Differing))
	m.unmanaged.Set(float64(a.Unmanaged))
	m.resent.Add(float64(a.Applied))
}

// Mapping records the mapping in force. It is called when a janitor begins to lead, and after each refresh.
func (m *Set) Mapping(r control.MappingReport) {
	m.mapping.mu.Lock()
	defer m.mapping.mu.Unlock()

	m.mapping.report = r
}

// Collect implements prometheus.Collector.
func (g *mappingGauges) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	report := g.report
	g.mu.Unlock()

	if !report.Refreshed.IsZero() {
		g.Readings.Collect(report, ch)
	}
}
