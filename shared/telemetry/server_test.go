package telemetry_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/bustest"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
)

func TestReadyNamesWhatIsNot(t *testing.T) {
	s := teletest.Start(t)
	expect := func(status int, text string) {
		t.Helper()
		gotStatus, gotText := s.Get(t, "/readyz")
		require.Equal(t, text, gotText)
		require.Equal(t, status, gotStatus)
	}
	expect(http.StatusServiceUnavailable, "starting: not connected to the broker\n")
	var connected atomic.Bool
	ingest, resolver := s.Component("ingest", connected.Load), s.Component("resolver", connected.Load)

	expect(http.StatusServiceUnavailable, "ingest: not connected to the broker\nresolver: not connected to the broker\n")
	connected.Store(true)

	endIngest := ingest.InSession()
	const waits = "resolver: has not begun its work with the broker, see its log\n"
	expect(http.StatusServiceUnavailable, waits)

	endResolver := resolver.InSession()

	expect(http.StatusOK, "ready\n")
	endResolver()
	endResolver()
	expect(http.StatusServiceUnavailable, waits)

	defer resolver.InSession()()

	expect(http.StatusOK, "ready\n")
	endIngest()
	s.Component("ingest", connected.Load).InSession() // everything was started again
	expect(http.StatusOK, "ready\n")
}

// TestReadyIsAMetric: an alert can report a process that cannot work, even if it never reached the broker, but never
// one that works without a broker, as the console does.
func TestReadyIsAMetric(t *testing.T) {
	service := teletest.Start(t)
	require.Equal(t, 0.0, service.Scrape(t)["bobosync_ready"])
	var connected atomic.Bool
	connected.Store(true)
	defer service.Component("ingest", connected.Load).InSession()()

	require.Equal(t, 1.0, service.Scrape(t)["bobosync_ready"])
	connected.Store(false)
	require.Equal(t, 0.0, service.Scrape(t)["bobosync_ready"])

	console := teletest.Start(t)
	console.Alone()
	require.Equal(t, 1.0, console.Scrape(t)["bobosync_ready"])
	status, text := console.Get(t, "/readyz")
	require.Equal(t, http.StatusOK, status, text)
}

func TestServesMetricsAndHealth(t *testing.T) {
	s := teletest.Start(t)
	status, text := s.Get(t, "/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "alive\n", text)
	telemetry.NewCalls(s.Telemetry).Observe(athoc.OpUpdate, athoc.Throttled, time.Second)
	values := s.Scrape(t)
	require.Equal(t, 1.0, values[`bobosync_athoc_calls_total{operation="update",result="throttled"}`])
	require.Contains(t, values, "go_goroutines")
	require.Contains(t, values, "process_start_time_seconds")

	found := 0
	for key, value := range values {
		if len(key) > 19 && key[:19] == "bobosync_build_info" {
			require.Contains(t, key, `version="v1.2.3"`)
			require.Equal(t, 1.0, value)

			found++
		}
	}

	require.Equal(t, 1, found)
	status, _ = s.Get(t, "/debug/pprof/")
	require.Equal(t, http.StatusNotFound, status)
}

func TestAnAddressThatIsTaken(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)

	defer l.Close()

	_, err = telemetry.New("dev").Serve(t.Context(), l.Addr().String(), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "HTTP_ADDR")
}

func TestCheckHealth(t *testing.T) {
	s, err := telemetry.New("dev").Serve(t.Context(), ":0", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)

	for _, addr := range []string{":" + port, "0.0.0.0:" + port, "127.0.0.1:" + port} {
		require.NoError(t, telemetry.CheckHealth(t.Context(), addr), addr)
	}

	require.NoError(t, s.Close())
	require.Error(t, telemetry.CheckHealth(t.Context(), ":"+port))
	require.ErrorIs(t, telemetry.CheckHealth(t.Context(), ""), telemetry.ErrOff)
	require.ErrorContains(t, telemetry.CheckHealth(t.Context(), "no-port"), "HTTP_ADDR")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, telemetry.CheckHealth(ended, bustest.FreeAddr(t)), context.Canceled)
}

// TestSomethingElseAnswers: another program on the port is no proof of life.
func TestSomethingElseAnswers(t *testing.T) {
	other := &http.Server{Handler: http.NotFoundHandler()}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)

	done := make(chan error, 1)
	go func() { done <- other.Serve(l) }()

	require.ErrorContains(t, telemetry.CheckHealth(t.Context(), l.Addr().String()), "404")
	require.NoError(t, other.Close())
	require.ErrorIs(t, <-done, http.ErrServerClosed)
}
