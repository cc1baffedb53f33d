package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestACollectorsKeyIsNotLogged: hosted collectors accept a key in their address.
func TestACollectorsKeyIsNotLogged(t *testing.T) {
	t.Parallel()

	for _, address := range []string{"https://s3cret@collector/v1/traces", "https://u:s3cret@collector", "https://collector/v1/traces?api-key=s3cret", "https://collector/s3cret/v1/traces"} {
		var log bytes.Buffer
		c := &exportErrors{log: slog.New(slog.NewTextHandler(&log, nil))}
		c.Handle(fmt.Errorf("traces export: %w", &url.Error{Op: "Post", URL: address, Err: errors.New("connection refused")}))
		require.Contains(t, log.String(), "connection refused")
		require.NotContains(t, log.String(), "s3cret")
	}
}

// TestACollectorThatRefusesIsNamedWithoutItsKey: the exporter puts the address into its error if the collector answers
// but does not accept the spans.
func TestACollectorThatRefusesIsNamedWithoutItsKey(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(collector.Close)
	var mu sync.Mutex
	var log bytes.Buffer
	all := New("dev")
	stop, err := all.Trace(t.Context(), Config{Endpoint: collector.URL + "/s3cret"}, "bobosync-test", "dev", slog.New(slog.NewTextHandler(&lockedWriter{&mu, &log}, nil)))
	require.NoError(t, err)
	all.NoteFile("aa", Work{Name: "read", Began: time.Now(), Ended: time.Now()})
	require.NoError(t, stop())
	mu.Lock()
	defer mu.Unlock()

	require.Contains(t, log.String(), "401 Unauthorized")
	require.NotContains(t, log.String(), "s3cret")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
