package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestACollectorsKeyIsNotLogged: collectors of others take a key in their address.
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
