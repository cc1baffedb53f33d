// Package metrics has the metrics of the resolver.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/metric"
)

// Set holds the metrics of the resolver. Its Watch reads the gauges from the service's state.
type Set struct {
	metric.Watched[control.ResolverState]
	entries prometheus.Counter
	updates prometheus.Counter
	settled *prometheus.CounterVec
	batch   prometheus.Histogram
	unusual *prometheus.CounterVec
}

// New returns the metrics of the resolver in t.
func New(t *telemetry.Telemetry) *Set {
	return telemetry.Once(t, "resolver", func() *Set {
		const part = "resolver"

		m := &Set{
			entries: metric.Counter(part, "entries_total", "Entries read, also those read again."),
			updates: metric.Counter(part, "updates_published_total", "Updates published to the publishers, also those published again."),
			settled: metric.Counters(part, "rows_settled_total", "Rows settled without a call to AtHoc, by outcome.", "outcome"),
			batch: metric.Histogram(part, "batch_seconds", "Time that a batch of entries took, to its last byte on the disk.",
				[]float64{.001, .005, .01, .05, .1, .5, 1, 5, 10}),
		}
		m.unusual = metric.Counters(part, "unusual_changes_total", "Times that a mass change was not usual, by kind and whether it was held.", "kind", "held")
		for _, kind := range []string{"off", "stale", "silent", "on"} {
			m.unusual.WithLabelValues(kind, "true")
			m.unusual.WithLabelValues(kind, "false")
		}

		for _, outcome := range []event.Outcome{event.Applied, event.Superseded, event.Expired, event.Unmapped, event.Withheld} {
			m.settled.WithLabelValues(outcome.String())
		}

		type state = control.ResolverState
		m.Gauges = metric.Readings[state]{
			metric.Value(part, "recovered", "1 if the state store is complete; 0 while the files are read again after a loss.",
				func(s state) float64 { return metric.Flag(s.Recovered) }),
			metric.Value(part, "workers", "Workers that are known.", func(s state) float64 { return float64(s.Workers) }),
			metric.Value(part, "workers_on_duty", "Workers whose latest event is a booking on that is not stale.",
				func(s state) float64 { return float64(s.OnDuty) }),
			metric.Value(part, "workers_unmapped", "Workers whose employee id no AtHoc user has.",
				func(s state) float64 { return float64(s.Unmapped) }),
			metric.Value(part, "workers_unresolved", "Workers whose latest event is held back.",
				func(s state) float64 { return float64(s.Unresolved) }),
			metric.Value(part, "workers_unconfirmed", "Workers whose update AtHoc has not confirmed.",
				func(s state) float64 { return float64(s.Unconfirmed) }),
			metric.Age(part, "oldest_unconfirmed_age_seconds", "Time since the oldest event that is held back or not confirmed; 0 if there is none.",
				func(s state) time.Time { return s.Oldest }),
			metric.Value(part, "mapping_ids", "Employee ids in the mapping in use.", func(s state) float64 { return float64(s.Mapped) }),
			metric.Value(part, "held_workers", "Users of mass changes that wait for a person's decision.", func(s state) float64 { return float64(s.Guard.Users()) }),
			metric.Age(part, "oldest_hold_age_seconds", "Time since the oldest mass change began to wait for a decision; 0 if none waits.",
				func(s state) time.Time { return s.Guard.Oldest() }),
			metric.Value(part, "guard_holding", "1 if mass changes that are not usual are held; 0 while the guard only observes, or is off.",
				func(s state) float64 { return metric.Flag(s.Guard != nil && s.Guard.Holding) }),
			metric.Value(part, "replays", "Replays that are under way.", func(s state) float64 { return float64(s.Replays) }),
		}

		return m
	})
}

// Collectors returns all metrics of the set.
func (m *Set) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m, m.entries, m.updates, m.settled, m.batch, m.unusual}
}

// Batch records a batch of entries and how long it took.
func (m *Set) Batch(entries int, took time.Duration) {
	m.entries.Add(float64(entries))
	m.batch.Observe(took.Seconds())
}

// UpdatesPublished counts updates that are in the stream.
func (m *Set) UpdatesPublished(n int) { m.updates.Add(float64(n)) }

// Unusual counts a mass change that was not usual.
func (m *Set) Unusual(kind string, held bool) {
	m.unusual.WithLabelValues(kind, strconv.FormatBool(held)).Inc()
}

// RowsSettled counts rows that the resolver settled.
func (m *Set) RowsSettled(outcome event.Outcome, n int) {
	m.settled.WithLabelValues(outcome.String()).Add(float64(n))
}
