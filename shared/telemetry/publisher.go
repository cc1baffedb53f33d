package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/control"
	"bobosync/shared/event"
)

// Publisher are the metrics of a publisher. Its Watch takes the gauges off the service's state.
type Publisher struct {
	watched[control.PublisherState]
	fresh prometheus.Histogram
	sizes prometheus.Histogram
	users *prometheus.CounterVec
}

// again is the outcome of a user who is sent once more.
const again = "again"

// NewPublisher returns the metrics of a publisher in t.
func NewPublisher(t *Telemetry) *Publisher {
	return once(t, "publisher", func() *Publisher {
		const part = "publisher"
		m := &Publisher{
			fresh: histogram(part, "freshness_seconds", "Time from an event to AtHoc's confirmation of its duty status.",
				[]float64{.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 43200, 86400}),
			sizes: histogram(part, "batch_users", "Users in a call to AtHoc.",
				[]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}),
			users: counters(part, "users_total", "Users sent to AtHoc, by AtHoc's answer for each; again means that the user is sent once more.", "outcome"),
		}
		for _, o := range []event.Outcome{event.Applied, event.Expired, event.UnknownUser, event.ForbiddenUser, event.Dead} {
			m.users.WithLabelValues(o.String())
		}
		m.users.WithLabelValues(again)
		type state = control.PublisherState
		m.gauges = []reading[state]{
			value(part, "lanes_held", "Lanes of users that this publisher holds now.", func(s state) float64 { return float64(len(s.Lanes)) }),
			value(part, "batch_limit_users", "Most users in a call: BATCH_SIZE, or less after AtHoc refused so many.",
				func(s state) float64 { return float64(s.BatchSize) }),
			value(part, "insecure_connection", "1 if the settings let others on the path to AtHoc read passwords or pass for AtHoc (DISABLE_SSL_VERIFY, ATHOC_ALLOW_HTTP).",
				func(s state) float64 { return flag(len(s.Insecure) > 0) }),
			age(part, "call_age_seconds", "Time since the call under way began; 0 if there is none.",
				func(s state) time.Time { return s.Calling }),
			value(part, "last_success_timestamp_seconds", "When AtHoc last took an update; 0 if not since the start.",
				func(s state) float64 { return timestamp(s.LastSuccess) }),
		}
		return m
	})
}

func (m *Publisher) collectors() []prometheus.Collector {
	return []prometheus.Collector{m, m.fresh, m.sizes, m.users}
}

// Called notes a call with so many users.
func (m *Publisher) Called(users int) { m.sizes.Observe(float64(users)) }

// Settled counts a user with a final outcome.
func (m *Publisher) Settled(outcome event.Outcome) { m.users.WithLabelValues(outcome.String()).Inc() }

// Again counts users who are sent once more.
func (m *Publisher) Again(n int) { m.users.WithLabelValues(again).Add(float64(n)) }

// Confirmed notes how long after its event a duty status was confirmed.
func (m *Publisher) Confirmed(after time.Duration) { m.fresh.Observe(max(after.Seconds(), 0)) }
