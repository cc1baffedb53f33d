package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace begins the names of all metrics of the project.
const namespace = "bobosync"

// How long a state may be used that was asked for during a scrape, and how long asking may take.
const (
	stateLife = 5 * time.Second
	askTime   = 2 * time.Second
)

func counter(part, name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: part, Name: name, Help: help})
}

func counters(part, name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: part, Name: name, Help: help}, labels)
}

func gauge(part, name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: part, Name: name, Help: help})
}

func histogram(part, name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: part, Name: name, Help: help, Buckets: buckets,
	})
}

// watched are gauges that are read off a state S when somebody looks.
type watched[S any] struct {
	gauges []reading[S]

	mu    sync.Mutex
	ask   func(ctx context.Context) (S, error)
	turn  int
	state S
	known bool
	until time.Time
}

// reading is one gauge of a state.
type reading[S any] struct {
	desc *prometheus.Desc
	// read emits the values, with the values of the labels.
	read func(s S, now time.Time, emit func(value float64, labels ...string))
}

// value makes a reading without labels.
func value[S any](part, name, help string, read func(s S) float64) reading[S] {
	return reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, part, name), help, nil, nil),
		read: func(s S, _ time.Time, emit func(float64, ...string)) { emit(read(s)) },
	}
}

// age makes a reading of how long ago something was; 0 for the zero time.
func age[S any](part, name, help string, read func(s S) time.Time) reading[S] {
	return reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, part, name), help, nil, nil),
		read: func(s S, now time.Time, emit func(float64, ...string)) { emit(secondsSince(now, read(s))) },
	}
}

func labelled[S any](part, name, help string, labels []string, read func(s S, emit func(float64, ...string))) reading[S] {
	return reading[S]{
		desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, part, name), help, labels, nil),
		read: func(s S, _ time.Time, emit func(float64, ...string)) { read(s, emit) },
	}
}

func secondsSince(now, then time.Time) float64 {
	if then.IsZero() {
		return 0
	}
	return max(now.Sub(then).Seconds(), 0)
}

// timestamp is a moment as Prometheus takes it; 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// flag is 1 for true.
func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Watch has the gauges read off what ask returns, until the returned function is called; when that returns, ask is not at
// work any more. Ask is called at most once in five seconds, by one goroutine at a time, and gets two seconds. If it fails,
// the gauges are left out.
func (w *watched[S]) Watch(ask func(ctx context.Context) (S, error)) (stop func()) {
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
func (w *watched[S]) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range w.gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (w *watched[S]) Collect(ch chan<- prometheus.Metric) {
	state, known := w.get()
	if !known {
		return
	}
	now := time.Now()
	for _, g := range w.gauges {
		g.read(state, now, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, labels...)
		})
	}
}

func (w *watched[S]) get() (S, bool) {
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
