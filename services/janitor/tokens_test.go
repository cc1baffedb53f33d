package janitor

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/athoc"
	"bobosync/shared/athocconf"
	"bobosync/shared/bustest"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// TestReplicasDoNotDriveEachOtherOut has four clients, each with its own connection and store, call an AtHoc that
// accepts one token at a time, while tokens expire and are revoked. It is here because shared must not import the
// simulator.
func TestReplicasDoNotDriveEachOtherOut(t *testing.T) {
	t.Parallel()
	const replicas, calls = 4, 80
	lifetime := time.Second
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(replicas, sim.DefaultCollar), Settings: sim.Settings{
		TokenLifetime: sim.Duration(lifetime), Latency: sim.Latency{Fixed: sim.Duration(25 * time.Millisecond)},
	}})
	cfg := w.config()
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: cfg.Calls.Timeout}
	require.NoError(t, topology.Provision(t.Context(), w.js, settings, topology.Everyone))

	began := time.Now()

	var wg sync.WaitGroup
	var made, revocations atomic.Int64
	for i := range replicas {
		store, err := tokens.New(w.broker.Connect(t).JS, cfg.AtHoc, bustest.Logger())
		require.NoError(t, err)
		client, err := athocconf.Client(cfg.AtHoc, cfg.Calls, store, "", bustest.Logger())
		require.NoError(t, err)
		wg.Go(func() {
			defer client.Close()

			for range calls {
				if !assert.NoError(t, call(t.Context(), client, w.athoc, i)) {
					return
				}

				if made.Add(1) == replicas*calls/2 {
					revocations.Add(int64(w.athoc.RevokeTokens()))
				}
			}
		})
	}

	wg.Wait()

	took := time.Since(began)

	assert.EqualValues(t, replicas*calls, made.Load())
	assert.EqualValues(t, 1, revocations.Load())

	got := w.athoc.Stats().Endpoints[sim.EndpointToken].Calls
	// A token is replaced when a fifth of its life is left. Two more calls are allowed: for the first token, and for
	// the replacement of the revoked one.
	most := 2 + int(took/(lifetime*8/10))
	t.Logf("%d token calls in %s", got, took)
	assert.GreaterOrEqual(t, got, 3, "the test is to see a token expire")
	assert.LessOrEqual(t, got, most)
	// Each replica meets a revoked token once, and a call that was under way when a token was replaced is repeated
	// once.
	assert.LessOrEqual(t, w.athoc.Stats().Endpoints[sim.EndpointUpdate].ByStatus[401], replicas*most)
}

func call(ctx context.Context, client *athoc.Client, at *sim.Simulator, i int) error {
	_, err := client.UpdateDutyStatus(ctx, []athoc.DutyStatus{{Username: at.Users()[i].LoginID, Since: time.Now()}})
	return err
}
