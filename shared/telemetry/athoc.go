package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bobosync/shared/athoc"
	"bobosync/shared/brake"
)

// Calls are the metrics of the calls to AtHoc, of all callers in the process.
type Calls struct {
	calls *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

// ok is the result of a call that AtHoc answered as it should.
const ok = "ok"

// operations are the labels of athoc's operations.
var operations = map[string]string{athoc.OpToken: "token", athoc.OpUpdate: "update", athoc.OpSearch: "search"}

// NewCalls returns the metrics of the calls to AtHoc in t.
func NewCalls(t *Telemetry) *Calls {
	return once(t, "calls", func() *Calls {
		return &Calls{
			calls: counters("athoc", "calls_total", "Requests to AtHoc, by operation (token, update, search) and result (ok, or what went wrong).",
				"operation", "result"),
			took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
				Namespace: namespace, Subsystem: "athoc", Name: "call_seconds", Help: "Time that a request to AtHoc took, by operation.",
				Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60},
			}, []string{"operation"}),
		}
	})
}

func (m *Calls) collectors() []prometheus.Collector { return []prometheus.Collector{m.calls, m.took} }

// Observe notes a request; it fits athoc.Config. Kind is 0 if AtHoc answered as it should.
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

// Brake are the metrics of the brake that all callers of AtHoc share.
type Brake struct{ watched[braked] }

// braked is the brake's state and the rate without trouble.
type braked struct {
	brake.State
	rate float64
}

// NewBrake returns the metrics of the brake in t.
func NewBrake(t *Telemetry) *Brake {
	return once(t, "brake", func() *Brake {
		const part = "brake"
		m := &Brake{}
		m.gauges = []reading[braked]{
			labelled(part, "trouble", "1 for the trouble that AtHoc is in now: outage and refused hold all calls back but a probe, throttled slows them down.",
				[]string{"trouble"}, func(s braked, emit func(float64, ...string)) {
					for _, t := range []brake.Trouble{brake.Outage, brake.Refused, brake.Throttled} {
						emit(flag(s.Trouble == t), string(t))
					}
				}),
			age(part, "trouble_age_seconds", "Time since the trouble began; 0 without any.", func(s braked) time.Time { return s.Since }),
			value(part, "trouble_failed_calls", "Calls and probes that have failed since the trouble began.",
				func(s braked) float64 { return float64(s.Failures) }),
			value(part, "rate_limit_calls_per_second", "Most calls a second that are let through now, by all replicas together; 0 while calls are held back.",
				braked.now),
		}
		return m
	})
}

func (s braked) now() float64 {
	switch {
	case s.Open():
		return 0
	case s.Slow > 0:
		return s.rate * s.Slow
	default:
		return s.rate
	}
}

func (m *Brake) collectors() []prometheus.Collector { return []prometheus.Collector{m} }

// WatchBrake has the metrics read off b until the returned function is called. Limits are those that b was made with.
func (m *Brake) WatchBrake(b *brake.Brake, limits brake.Limits) (stop func()) {
	return m.Watch(func(ctx context.Context) (braked, error) {
		s, err := b.State(ctx)
		return braked{s, limits.Rate}, err
	})
}
