package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/telemetry/metric"
)

// Calls are the metrics of the calls to AtHoc, by all callers in the process.
type Calls struct {
	calls *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

// ok is the result of a call that succeeded.
const ok = "ok"

// operations maps athoc's operations to label values.
var operations = map[string]string{athoc.OpToken: "token", athoc.OpUpdate: "update", athoc.OpSearch: "search"}

// NewCalls returns the metrics of the calls to AtHoc in t.
func NewCalls(t *Telemetry) *Calls {
	return Once(t, "calls", func() *Calls {
		return &Calls{
			calls: metric.Counters("athoc", "calls_total", "Requests to AtHoc, by operation (token, update, search) and result (ok, or what went wrong).",
				"operation", "result"),
			took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Namespace: metric.Namespace, Subsystem: "athoc", Name: "call_seconds", Help: "Time that a request to AtHoc took, by operation.",
				Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60},
			}, []string{"operation"}),
		}
	})
}

// Collectors returns all metrics of the set.
func (m *Calls) Collectors() []prometheus.Collector { return []prometheus.Collector{m.calls, m.took} }

// Observe counts a request; it has the signature that athoc.Config needs. Kind is 0 if the request succeeded.
func (m *Calls) Observe(op string, kind athoc.Kind, took time.Duration) {
	operation, known := operations[op]
	if !known {
		operation = "other"
	}

	result := ok
	if kind != 0 {
		result = kind.String()
	}

	m.calls.WithLabelValues(operation, result).Inc()
	m.took.WithLabelValues(operation).Observe(took.Seconds())
}

// Breaker are the metrics of the circuit breaker that all callers of AtHoc share.
type Breaker struct{ metric.Watched[breakerReading] }

// breakerReading is the circuit breaker's state, the rate without trouble, and whether an operator's pause is in force.
type breakerReading struct {
	breaker.State
	rate   float64
	paused bool
}

// NewBreaker returns the metrics of the circuit breaker in t.
func NewBreaker(t *Telemetry) *Breaker {
	return Once(t, "brake", func() *Breaker {
		const part = "brake"
		m := &Breaker{}
		m.Gauges = metric.Readings[breakerReading]{
			metric.Labelled(part, "trouble", "1 for the trouble that AtHoc is in now: outage and refused hold all calls back but a probe, throttled slows them down.",
				[]string{"trouble"}, func(s breakerReading, emit func(float64, ...string)) {
					for _, t := range []breaker.FailureClass{breaker.Outage, breaker.Refused, breaker.Throttled} {
						emit(metric.Flag(s.Class == t), string(t))
					}
				}),
			metric.Age(part, "trouble_age_seconds", "Time since the trouble began; 0 without any.", func(s breakerReading) time.Time { return s.Since }),
			metric.Value(part, "trouble_failed_calls", "Calls and probes that have failed since the trouble began.",
				func(s breakerReading) float64 { return float64(s.Failures) }),
			metric.Value(part, "paused", "1 while an operator's pause holds back what is sent to AtHoc.", func(s breakerReading) float64 { return metric.Flag(s.paused) }),
			metric.Value(part, "rate_limit_calls_per_second", "Most calls a second that are let through now, by all replicas together; 0 while calls are held back.",
				breakerReading.now),
		}

		return m
	})
}

func (s breakerReading) now() float64 {
	switch {
	case s.Open(), s.paused:
		return 0
	case s.Slow > 0:
		return s.rate * s.Slow
	default:
		return s.rate
	}
}

// Collectors returns all metrics of the set.
func (m *Breaker) Collectors() []prometheus.Collector { return []prometheus.Collector{m} }

// WatchBreaker reads the metrics from b until the returned function is called. The limits must be those that b was made
// with.
func (m *Breaker) WatchBreaker(b *breaker.Breaker, limits breaker.Limits) (stop func()) {
	return m.Watch(func(ctx context.Context) (breakerReading, error) {
		s, err := b.State(ctx)
		if err != nil {
			return breakerReading{}, err
		}

		p, err := b.Pauses().Last(ctx)

		return breakerReading{s, limits.Rate, p.InForce(b.Now())}, err
	})
}
