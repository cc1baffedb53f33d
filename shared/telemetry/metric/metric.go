// Package metric has the building blocks of metrics, so that all have names, labels and units of one kind.
package metric

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Namespace begins the names of all metrics of the project.
const Namespace = "bobosync"

// How long a state may be used that was asked for during a scrape, and how long asking may take.
const (
	stateLife = 5 * time.Second
	askTime   = 2 * time.Second
)

// Counter makes a counter of a part of the product, such as ingest.
func Counter(part, name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: Namespace, Subsystem: part, Name: name, Help: help})
}

// Counters makes a counter for each value of the labels: words of small, fixed sets; never names of files, users or workers.
func Counters(part, name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Subsystem: part, Name: name, Help: help}, labels)
}

// Gauge makes a gauge that is set; what can be read off a state when somebody looks is Watched.
func Gauge(part, name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: Namespace, Subsystem: part, Name: name, Help: help})
}

// Histogram makes a histogram with these upper bounds.
func Histogram(part, name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: Namespace, Subsystem: part, Name: name, Help: help, Buckets: buckets,
	})
}

// Watched are gauges that are read off a state S when somebody looks.
type Watched[S any] struct {
	Gauges Readings[S]

	mu    sync.Mutex
	ask   func(ctx context.Context) (S, error)
	turn  int
	state S
	known bool
	until time.Time
}

// Reading is one gauge of a state.
type Reading[S any] struct {
	desc *prometheus.Desc
	// read emits the values, with the values of the labels.
	read func(s S, now time.Time, emit func(value float64, labels ...string))
}

// Readings are gauges of one state.
type Readings[S any] []Reading[S]

// Describe sends what prometheus.Collector's Describe is to send.
func (r Readings[S]) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range r {
		ch <- g.desc
	}
}

// Collect sends the values of a state, as prometheus.Collector's Collect does.
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

// Labelled makes a reading with a value for each that emit is called with, under the values of the labels.
func Labelled[S any](part, name, help string, labels []string, read func(s S, emit func(float64, ...string))) Reading[S] {
	return Reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(Namespace, part, name), help, labels, nil),
		read: func(s S, _ time.Time, emit func(float64, ...string)) { read(s, emit) },
	}
}

// Since are the seconds from then to now; 0 for the zero time, and never less.
func Since(now, then time.Time) float64 {
	if then.IsZero() {
		return 0
	}
	return max(now.Sub(then).Seconds(), 0)
}

// Timestamp is a moment as Prometheus takes it; 0 for the zero time.
func Timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Flag is 1 for true.
func Flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Watch reads the gauges from what ask returns, until the returned function is called; when that returns, ask is not at
// work any more. Ask is called at most once in five seconds, by one goroutine at a time, and gets two seconds. If it fails,
// the gauges are left out.
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

// State returns the state, and whether it is known. It is not asked for more often than the gauges are.
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
