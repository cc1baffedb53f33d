package check

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheMonitorsPasswordIsNotPrinted: part of a password that is not percent-encoded would be taken for the host.
func TestTheMonitorsPasswordIsNotPrinted(t *testing.T) {
	t.Parallel()

	for _, address := range []string{
		"http://user:pa/ss@localhost:8222", "http://user:pa@ss@localhost:8222", "http://user:pa?ss@localhost:8222", "http://user:pa#ss@localhost:8222", "user:pa/ss@localhost:8222",
	} {
		_, err := fromMonitor(t.Context(), address)
		require.ErrorContains(t, err, "NATS_MONITOR_URL: a user or password in it holds a reserved character", address)
		require.NotContains(t, err.Error(), "pa/")
		require.NotContains(t, err.Error(), "user:")
	}

	_, err := fromMonitor(t.Context(), "ftp://localhost")
	require.ErrorContains(t, err, "NATS_MONITOR_URL: must be an address")
}
