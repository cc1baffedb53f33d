// Package metric has the building blocks of metrics, so that all follow the same conventions for names, labels and
// units.
package metric

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Namespace begins the names of all metrics of the project.
const Namespace = "bobosync"

// How long a state that a scrape asked for may be reused, and how long asking may take.
const (
	stateLife = 5 * time.Second
	askTime   = 2 * time.Second
)

// Counter makes a counter for a part of the product, such as ingest.
func Counter(part, name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: Namespace, Subsystem: part, Name: name, Help: help})
}

// Counters makes a counter for each combination of label values. These must be words of small, fixed sets, never names
// of files, users or workers.
func Counters(part, name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Subsystem: part, Name: name, Help: help}, labels)
}

// Gauge makes a gauge that the program sets. For values that can be read from a state at each scrape, use Watched.
func Gauge(part, name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: Namespace, Subsystem: part, Name: name, Help: help})
}

// Histogram makes a histogram with the given upper bounds.
func Histogram(part, name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: Namespace, Subsystem: part, Name: name, Help: help, Buckets: buckets,
	})
}

// Watched is a set of gauges that are read from a state S at each scrape.
type Watched[S any] struct {
	Gauges Readings[S]

	mu    sync.Mutex
	ask   func(ctx context.Context) (S, error)
	turn  int
	state S
	known bool
	until time.Time
}

// Reading is one gauge that is read from a state.
type Reading[S any] struct {
	desc *prometheus.Desc
	// read emits the values, with their label values.
	read func(s S, now time.Time, emit func(value float64, labels ...string))
}

// Readings are the gauges of one state.
type Readings[S any] []Reading[S]

// Describe sends the descriptions, as Describe of prometheus.Collector does.
func (r Readings[S]) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range r {
		ch <- g.desc
	}
}

// Collect sends the values of a state, as Collect of prometheus.Collector does.
func (r Readings[S]) Collect(state S, ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, g := range r {
		g.read(state, now, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, labels...)
		})
	}
}

// Value makes a reading without labels.
func Value[S any](part, name, help string, read func(s S) float64) Reading[S] {
	return Reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(Namespace, part, name), help, nil, nil),
		read: func(s S, _ time.Time, emit func(float64, ...string)) { emit(read(s)) },
	}
}

// Age makes a reading of how long ago something was; 0 for the zero time.
func Age[S any](part, name, help string, read func(s S) time.Time) Reading[S] {
	return Reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(Namespace, part, name), help, nil, nil),
		read: func(s S, now time.Time, emit func(float64, ...string)) { emit(Since(now, read(s))) },
	}
}

// Labelled makes a reading with labels: each call of emit gives one value with its label values.
func Labelled[S any](part, name, help string, labels []string, read func(s S, emit func(float64, ...string))) Reading[S] {
	return Reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(Namespace, part, name), help, labels, nil),
		read: func(s S, _ time.Time, emit func(float64, ...string)) { read(s, emit) },
	}
}

// Since returns the seconds from then to now; 0 for the zero time, and never negative.
func Since(now, then time.Time) float64 {
	if then.IsZero() {
		return 0
	}
	return max(now.Sub(then).Seconds(), 0)
}

// Timestamp converts a moment to Prometheus's form, in seconds; 0 for the zero time.
func Timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Flag returns 1 for true and 0 for false.
func Flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Watch reads the gauges from what ask returns, until the returned function is called; once that has returned, ask is
// not running any more. Watch calls ask at most once in five seconds, from one goroutine at a time, with a timeout of
// two seconds. If ask fails, the gauges are left out.
func (w *Watched[S]) Watch(ask func(ctx context.Context) (S, error)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.turn++
	w.ask, w.until = ask, time.Time{}
	mine := w.turn

	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()

		if w.turn == mine {
			w.ask = nil
		}
	}
}

// Describe implements prometheus.Collector.
func (w *Watched[S]) Describe(ch chan<- *prometheus.Desc) { w.Gauges.Describe(ch) }

// Collect implements prometheus.Collector.
func (w *Watched[S]) Collect(ch chan<- prometheus.Metric) {
	if state, known := w.State(); known {
		w.Gauges.Collect(state, ch)
	}
}

// State returns the state, and whether it is known. It asks for the state no more often than every five seconds, as for
// the gauges.
func (w *Watched[S]) State() (S, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	now := time.Now()
	switch {
	case w.ask == nil:
		w.known = false
	case now.After(w.until):
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		defer cancel()

		state, err := w.ask(ctx)
		w.state, w.known, w.until = state, err == nil, time.Now().Add(stateLife)
	}

	return w.state, w.known
}
