package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/control"
)

// Janitor are the metrics of the janitor. Its Watch takes some gauges off the service's state; an instance that stands by
// has none of them.
type Janitor struct {
	watched[control.JanitorState]
	runs     *prometheus.CounterVec
	cleared  prometheus.Counter
	resent   prometheus.Counter
	compared prometheus.Gauge
	differ   prometheus.Gauge
	foreign  prometheus.Gauge
	purged   prometheus.Counter

	mapping mappingGauges
}

// mappingGauges tell of the mapping in force, once there is one.
type mappingGauges struct {
	watchless []reading[control.MappingReport]
	mu        sync.Mutex
	report    control.MappingReport
}

// NewJanitor returns the metrics of the janitor in t.
func NewJanitor(t *Telemetry) *Janitor {
	return once(t, "janitor", func() *Janitor {
		const part = "janitor"
		m := &Janitor{
			runs:     counters(part, "runs_total", "Runs of the janitor's duties, by duty and outcome.", "duty", "outcome"),
			cleared:  counter(part, "stale_duties_cleared_total", "Duties older than AUTO_CLEANUP_HOURS that were found in AtHoc and cleared."),
			resent:   counter(part, "reconcile_applied_total", "Users whose status a comparison with AtHoc has sent once more."),
			compared: gauge(part, "reconcile_compared", "Users compared with AtHoc the last time."),
			differ:   gauge(part, "reconcile_differing", "Users for whom AtHoc held another status than it should at the last comparison."),
			foreign:  gauge(part, "reconcile_foreign", "Users with a duty status whom no known worker is mapped to, at the last comparison."),
			purged:   counter(part, "files_purged_total", "Processed files that were deleted since they are old."),
		}
		for _, duty := range []string{control.DutyMapping, control.DutyCleanup, control.DutyReconcile, control.DutyPurge} {
			for _, outcome := range []string{control.OutcomeOK, control.OutcomeFailed, control.OutcomeHeld} {
				m.runs.WithLabelValues(duty, outcome)
			}
		}
		type state = control.JanitorState
		eachDuty := func(s state, emit func(float64, ...string), read func(control.Duty) float64) {
			for _, d := range s.Duties {
				if !d.Off {
					emit(read(d), d.Name)
				}
			}
		}
		m.gauges = []reading[state]{
			value(part, "at_work", "1 for the instance that is at work, 0 for one that stands by.",
				func(s state) float64 { return flag(s.AtWork) }),
			labelled(part, "last_success_timestamp_seconds", "End of the last run that succeeded, by duty; 0 if none has.", []string{"duty"},
				func(s state, emit func(float64, ...string)) {
					eachDuty(s, emit, func(d control.Duty) float64 { return timestamp(d.LastSuccess) })
				}),
			labelled(part, "failures", "Failed runs since the last success, by duty.", []string{"duty"},
				func(s state, emit func(float64, ...string)) {
					eachDuty(s, emit, func(d control.Duty) float64 { return float64(d.Failures) })
				}),
			labelled(part, "notify_failing", "1 for a sink of notices that takes none, 0 for one that does.", []string{"sink"},
				func(s state, emit func(float64, ...string)) {
					for _, n := range s.Notify {
						emit(flag(!n.Failing.IsZero()), n.Sink)
					}
				}),
			labelled(part, "notify_waiting", "Notices that wait for a sink; they are kept for a day.", []string{"sink"},
				func(s state, emit func(float64, ...string)) {
					for _, n := range s.Notify {
						emit(float64(n.Waiting), n.Sink)
					}
				}),
			value(part, "mapping_held", "1 if a mapping is held back by its guard and waits for an approval.",
				func(s state) float64 { return flag(s.Held != nil) }),
		}
		type report = control.MappingReport
		m.mapping.watchless = []reading[report]{
			age(part, "mapping_age_seconds", "Time since the last refresh of the mapping that succeeded, also of one that found nothing new.",
				func(r report) time.Time { return r.Refreshed }),
			value(part, "mapping_ids", "Employee ids that are mapped to an AtHoc user.", func(r report) float64 { return float64(r.Mapped) }),
			value(part, "mapping_users", "AtHoc's users at the last refresh.", func(r report) float64 { return float64(r.Users) }),
			value(part, "mapping_users_without_id", "AtHoc's users that have no employee id.",
				func(r report) float64 { return float64(r.Without) }),
			value(part, "mapping_ambiguous_ids", "Employee ids that several AtHoc users have: none of them gets its duty status.",
				func(r report) float64 { return float64(len(r.Ambiguous)) }),
		}
		return m
	})
}

func (m *Janitor) collectors() []prometheus.Collector {
	return []prometheus.Collector{m, m.runs, m.cleared, m.resent, m.compared, m.differ, m.foreign, m.purged, &m.mapping}
}

// Run counts a run of a duty that has ended. Duty and outcome are control's words.
func (m *Janitor) Run(duty, outcome string) { m.runs.WithLabelValues(duty, outcome).Inc() }

// StaleCleared counts stale duties that were cleared.
func (m *Janitor) StaleCleared(n int) { m.cleared.Add(float64(n)) }

// FilesPurged counts processed files that were deleted.
func (m *Janitor) FilesPurged(n int) { m.purged.Add(float64(n)) }

// Reconciled notes a comparison of AtHoc with what it should say, when it has ended.
func (m *Janitor) Reconciled(a control.ReconcileAnswer) {
	m.compared.Set(float64(a.Compared))
	m.differ.Set(float64(a.Differing))
	m.foreign.Set(float64(a.Foreign))
	m.resent.Add(float64(a.Applied))
}

// Mapping notes the mapping in force: at the start, and after each refresh.
func (m *Janitor) Mapping(r control.MappingReport) {
	m.mapping.mu.Lock()
	defer m.mapping.mu.Unlock()
	m.mapping.report = r
}

// Describe implements prometheus.Collector.
func (g *mappingGauges) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range g.watchless {
		ch <- r.desc
	}
}

// Collect implements prometheus.Collector.
func (g *mappingGauges) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	report := g.report
	g.mu.Unlock()
	if report.Refreshed.IsZero() {
		return
	}
	now := time.Now()
	for _, r := range g.watchless {
		r.read(report, now, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(r.desc, prometheus.GaugeValue, value, labels...)
		})
	}
}
