package telemetry_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/shared/athoc"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
	"bobosync/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMetrics: the metrics that several services share. The services have similar tests for their own metrics.
func TestMetrics(t *testing.T) {
	all := telemetry.New("v1.2.3")
	calls := telemetry.NewCalls(all)
	calls.Observe(athoc.OpUpdate, 0, time.Second)
	calls.Observe(athoc.OpSearch, athoc.Throttled, time.Second)

	circuit := telemetry.NewBreaker(all)
	circuit.WatchState(breaker.State{Class: breaker.Throttled, Slow: 0.5, Since: time.Now().Add(-time.Minute)}, 2)

	backlog := feedBacklog(t, all)
	teletest.Documented(t, "../..", all, []string{"athoc", "brake", "broker"}, calls, circuit, backlog)
	teletest.OnlyOf(t, "../..", "athoc", "brake", "broker", "build", "ready", "ingest", "resolver", "publisher", "janitor")
	teletest.HasValues(t, all, map[string]float64{
		"bobosync_brake_trouble throttled": 1, "bobosync_brake_trouble outage": 0,
		"bobosync_brake_rate_limit_calls_per_second": 1, "bobosync_broker_dead_letters": 1,
		"bobosync_athoc_calls_total update ok": 1, "bobosync_athoc_calls_total search throttled": 1,
	})
	values := teletest.Values(t, all)
	require.InDelta(t, 60, values["bobosync_brake_trouble_age_seconds"], 30)
	// A stream updates its consumers' counts asynchronously to the publishing.
	await.True(t, func() bool {
		values, waiting := teletest.Values(t, all), 0.0
		for partition := range topology.Partitions {
			waiting += values["bobosync_broker_pending_messages "+topology.PartitionConsumer(partition)+" UPDATES"]
		}

		return waiting == 2
	}, 10*time.Second)
}

// feedBacklog makes the backlog metrics read from a broker with one dead letter and two updates.
func feedBacklog(t *testing.T, all *telemetry.Telemetry) *telemetry.Backlog {
	t.Helper()
	conn := bustest.Start(t).Connect(t)
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}
	require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))

	for _, subject := range []string{topology.DeadSubject("ingest"), topology.UpdatesSubject("a"), topology.UpdatesSubject("b")} {
		_, err := conn.JS.Publish(t.Context(), subject, []byte("{}"))
		require.NoError(t, err)
	}

	backlog := telemetry.NewBacklog(all)
	for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor} {
		t.Cleanup(backlog.WatchConsumers(conn.JS, service))
	}

	return backlog
}

// TestOffIsSafe: without telemetry everything works and nothing is reported.
func TestOffIsSafe(t *testing.T) {
	var off *telemetry.Telemetry
	telemetry.NewCalls(off).Observe("an unknown one", athoc.Outage, 0)
	off.Component("x", func() bool { return false }).InSession()()
	ready, _ := off.Ready()
	require.True(t, ready)
	require.False(t, off.Tracing())
	off.NoteRoot("file", telemetry.Work{Name: "x"})
	off.NoteFile("file", telemetry.Work{Name: "x"})
	off.NoteFiles([]string{"file"}, telemetry.Work{Name: "x", Err: errors.New("failed")})
	off.FileHeader("file", func(string, string) { t.Error("a header without a trace") })
	server, err := off.Serve(t.Context(), "127.0.0.1:0", slog.Default())
	require.NoError(t, err)
	require.NoError(t, server.Close())
	stop, err := off.Trace(t.Context(), telemetry.Config{TracesExporter: "otlp"}, "x", "dev", slog.Default())
	require.NoError(t, err)
	require.NoError(t, stop())
}

// TestServicesInOneProcessShare: a second service of the same kind gets the same metrics, and does not panic.
func TestServicesInOneProcessShare(t *testing.T) {
	all := telemetry.New("dev")
	require.Same(t, telemetry.NewCalls(all), telemetry.NewCalls(all))
	require.NotSame(t, telemetry.NewCalls(all), telemetry.NewCalls(telemetry.New("dev")))
}

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  telemetry.Config
		says string
	}{
		"nothing":      {telemetry.Config{}, ""},
		"all of it":    {telemetry.Config{Addr: ":8080", TracesExporter: "otlp", Endpoint: "http://collector:4318", Headers: "a=b,c=d%20e"}, ""},
		"no port":      {telemetry.Config{Addr: "localhost"}, "HTTP_ADDR: must be host:port"},
		"only a colon": {telemetry.Config{Addr: "localhost:"}, "HTTP_ADDR: must be host:port"},
		"exporter":     {telemetry.Config{TracesExporter: "jaeger"}, "OTEL_TRACES_EXPORTER: must be otlp or none"},
		"endpoint":     {telemetry.Config{Endpoint: "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must be an address"},
		"traces":       {telemetry.Config{TracesEndpoint: "collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be an address"},
		"headers":      {telemetry.Config{Headers: "hunter2"}, "OTEL_EXPORTER_OTLP_HEADERS: must be name=value"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if c.says == "" {
				require.NoError(t, err)
				return
			}

			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}

	var read telemetry.Config
	require.NoError(t, config.Load(t.Context(), config.Map(map[string]string{"HTTP_ADDR": ":1", "OTEL_EXPORTER_OTLP_HEADERS": "k=hunter2"}), &read))
	require.Equal(t, ":1", read.Addr)
	require.NotContains(t, fmt.Sprintf("%+v", read), "hunter2")
	require.False(t, telemetry.Config{}.Traces())
	require.False(t, telemetry.Config{Endpoint: "http://c", TracesExporter: "none"}.Traces())
	require.True(t, telemetry.Config{Endpoint: "http://c"}.Traces())
	require.True(t, telemetry.Config{TracesExporter: "OTLP"}.Traces())
}
