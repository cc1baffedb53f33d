package audit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/audit"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

// TestOrdersWhileItIsVerified: records that are written while the chains are read do not look removed or inserted.
func TestOrdersWhileItIsVerified(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20}, topology.Everyone))
	log := audit.NewLog(conn.JS, topology.Resolver)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)

		for {
			select {
			case <-stop:
				return
			default:
				_, err := log.Append(t.Context(), audit.Record{Endpoint: "replay", Kind: audit.Order}, audit.Detail{})
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()

	defer func() {
		close(stop)
		<-ended
	}()

	for range 50 {
		chains, err := audit.Load(t.Context(), conn.JS)
		require.NoError(t, err)
		require.Empty(t, audit.Verify(chains, nil, time.Now()))
	}
}
