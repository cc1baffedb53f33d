// Package telemetry is what operators' monitoring can see of a service: metrics for Prometheus, health, and traces.
//
// A service's metrics are in the service's own package metrics, and are built from package metric; those that several
// services share are here. docs/metrics.md lists all of them.
package telemetry

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"bobosync/shared/config"
	"bobosync/shared/telemetry/metric"
)

// Config holds the settings of everything that a process reports about itself.
type Config struct {
	// Addr is the host:port of /metrics, /healthz and /readyz; if it is empty, nothing is served.
	Addr string `env:"HTTP_ADDR"`
	// TracesExporter is otlp or none. If it is empty, traces are sent when an endpoint is set.
	TracesExporter string `env:"OTEL_TRACES_EXPORTER"`
	// Endpoint is the base address of an OTLP collector; traces go to its /v1/traces.
	Endpoint string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	// TracesEndpoint is the whole address for traces, and takes precedence over Endpoint.
	TracesEndpoint string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"`
	// Headers are sent with each request to the collector, as name=value, separated by commas. They may hold a secret.
	Headers config.Secret `env:"OTEL_EXPORTER_OTLP_HEADERS"`
}

// Validate reports what is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if c.Addr != "" {
		if _, port, err := net.SplitHostPort(c.Addr); err != nil || port == "" {
			errs = append(errs, errors.New("HTTP_ADDR: must be host:port, such as :8080 or 127.0.0.1:8080"))
		}
	}

	errs = append(errs, c.validateTraces())

	return errors.Join(errs...)
}

// Telemetry holds the metrics, health and traces of one process, shared by all services in it. A nil *Telemetry is off:
// all of its methods work and do nothing. It is safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry
	tracing  tracing

	mu         sync.Mutex
	sets       map[string]any
	components []*Component
	// alone reports that the process works even without the broker.
	alone bool
}

// New returns the telemetry of a process of the given version.
func New(version string) *Telemetry {
	t := &Telemetry{registry: prometheus.NewRegistry(), sets: map[string]any{}}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: metric.Namespace, Name: "build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)

	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: metric.Namespace, Name: "ready", Help: "1 if each part of the process can do its work, as /readyz says; 0 otherwise.",
	}, func() float64 {
		ready, _ := t.Ready()
		return metric.Flag(ready)
	})
	t.registry.MustRegister(build, ready, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	return t
}

// Gatherer returns the metrics, for tests and for serving them elsewhere; it is never nil.
func (t *Telemetry) Gatherer() prometheus.Gatherer {
	if t == nil {
		return prometheus.NewRegistry()
	}
	return t.registry
}

// Set is a set of metrics.
type Set interface {
	// Collectors returns all metrics of the set.
	Collectors() []prometheus.Collector
}

// Once makes the named set of metrics, or returns the set that t already has: several services in one process share it,
// as does a service that starts again. With a nil t the set works, but nobody sees it.
func Once[S Set](t *Telemetry, name string, create func() S) S {
	if t == nil {
		return create()
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	if set, there := t.sets[name].(S); there {
		return set
	}

	set := create()
	for _, c := range set.Collectors() {
		if err := t.registry.Register(c); err != nil {
			panic(fmt.Sprintf("metrics of %s: %v", name, err)) // two metrics have the same name: a bug in a metrics package
		}
	}

	t.sets[name] = set

	return set
}
