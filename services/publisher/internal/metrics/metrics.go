// Package metrics has the metrics of the publisher.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/metric"
)

// Set are the metrics of a publisher. Its Watch reads the gauges from the service's state.
type Set struct {
	metric.Watched[control.PublisherState]
	fresh prometheus.Histogram
	sizes prometheus.Histogram
	users *prometheus.CounterVec
}

// again is the outcome of a user who is resent.
const again = "again"

// New returns the metrics of a publisher in t.
func New(t *telemetry.Telemetry) *Set {
	return telemetry.Once(t, "publisher", func() *Set {
		const part = "publisher"

		m := &Set{
			fresh: metric.Histogram(part, "freshness_seconds", "Time from an event to AtHoc's confirmation of its duty status.",
				[]float64{.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 43200, 86400}),
			sizes: metric.Histogram(part, "batch_users", "Users in a call to AtHoc.",
				[]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}),
			users: metric.Counters(part, "users_total", "Users sent to AtHoc, by AtHoc's answer for each; again means that the user is resent.", "outcome"),
		}
		for _, o := range []event.Outcome{event.Applied, event.Expired, event.UnknownUser, event.ForbiddenUser, event.Dead} {
			m.users.WithLabelValues(o.String())
		}

		m.users.WithLabelValues(again)
		type state = control.PublisherState
		m.Gauges = metric.Readings[state]{
			metric.Value(part, "lanes_held", "Partitions of users that this publisher holds now.", func(s state) float64 { return float64(len(s.Partitions)) }),
			metric.Value(part, "batch_limit_users", "Most users in a call: BATCH_SIZE, or less after AtHoc refused so many.",
				func(s state) float64 { return float64(s.BatchSize) }),
			metric.Value(part, "insecure_connection", "1 if the settings let others on the path to AtHoc read passwords or pass for AtHoc (DISABLE_SSL_VERIFY, ATHOC_ALLOW_HTTP).",
				func(s state) float64 { return metric.Flag(len(s.Insecure) > 0) }),
			metric.Age(part, "call_age_seconds", "Time since the call under way began; 0 if there is none.",
				func(s state) time.Time { return s.Calling }),
			metric.Value(part, "last_success_timestamp_seconds", "When AtHoc last took an update; 0 if not since the start.",
				func(s state) float64 { return metric.Timestamp(s.LastSuccess) }),
		}

		return m
	})
}

// Collectors are all metrics of the set.
func (m *Set) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m, m.fresh, m.sizes, m.users}
}

// Called notes a call with the given number of users.
func (m *Set) Called(users int) { m.sizes.Observe(float64(users)) }

// Settled counts a user with a final outcome.
func (m *Set) Settled(outcome event.Outcome) { m.users.WithLabelValues(outcome.String()).Inc() }

// Again counts users who are resent.
func (m *Set) Again(n int) { m.users.WithLabelValues(again).Add(float64(n)) }

// Confirmed notes how long after its event a duty status was confirmed.
func (m *Set) Confirmed(after time.Duration) { m.fresh.Observe(max(after.Seconds(), 0)) }
