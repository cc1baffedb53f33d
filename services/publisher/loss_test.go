package publisher_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// loseStore loses all that the broker holds, and recreates it empty at once, as the services do between them.
func (b *bench) loseStore() {
	b.t.Helper()

	var all []string
	names := b.conn.JS.StreamNames(b.t.Context())
	for stream := range names.Name() {
		all = append(all, stream)
	}

	require.NoError(b.t, names.Err())
	require.Contains(b.t, all, "KV_"+topology.BucketLeases)

	for _, stream := range all {
		require.NoError(b.t, b.conn.JS.DeleteStream(b.t.Context(), stream))
	}

	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 30, CallTimeout: b.cfg.Calls.Timeout}
	require.NoError(b.t, topology.Provision(b.t.Context(), b.conn.JS, settings, topology.Everyone))
}

// states returns what the publishers report of themselves.
func (b *bench) states() []control.PublisherState {
	b.t.Helper()
	all, err := control.AskAll[control.PublisherState](b.t.Context(), b.conn.NC, topology.Publisher, control.State, control.Nothing{})
	require.NoError(b.t, err)
	return all
}

// state returns what the only publisher reports of itself.
func (b *bench) state() control.PublisherState {
	b.t.Helper()
	var all []control.PublisherState
	await.True(b.t, func() bool { // a late answer is missed
		all = b.states()
		return len(all) == 1
	}, timeout)

	return all[0]
}

// calling reports whether a publisher is making a call.
func (b *bench) calling() bool {
	return slices.ContainsFunc(b.states(), func(s control.PublisherState) bool { return !s.Calling.IsZero() })
}

// TestStoreLostDuringACall: the broker forgets who holds which partition while AtHoc is working on a call. The other
// publisher must not send a newer status of the same user meanwhile: AtHoc could apply the older one last.
func TestStoreLostDuringACall(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, map[string]string{"ATHOC_TIMEOUT": "4s"})
	settings := b.athoc.Settings()
	settings.Latency = sim.Latency{PerUser: sim.Duration(3 * time.Second)}
	require.NoError(t, b.athoc.SetSettings(settings))
	b.start()
	b.start()
	await.True(t, func() bool { return len(b.states()) == 2 }, timeout)
	b.wants(user(1), 50, true)
	await.True(t, b.calling, timeout)
	b.loseStore()
	last := b.wants(user(1), 5, true)
	await.True(t, func() bool { return len(b.updateCalls()) >= 2 }, timeout)
	b.idle()

	calls := b.updateCalls()
	for i := 1; i < len(calls); i++ {
		require.LessOrEqual(t, calls[i-1].Finished, calls[i].Arrived, "two calls with one user at once")
	}

	require.Equal(t, time.Unix(last.At, 0).UTC().Format(sim.DateLayout), b.athoc.DutyState()[user(1)])
}

// TestABucketIsLost: one bucket alone is gone. It is recreated, and the calls go on.
func TestABucketIsLost(t *testing.T) {
	t.Parallel()

	for _, bucket := range []string{topology.BucketLeases, topology.BucketState} {
		t.Run(bucket, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 2, map[string]string{"ATHOC_TIMEOUT": "1s"})
			b.start()
			b.wants(user(1), 5, true)
			b.outcomes(map[string]event.Outcome{user(1): event.Applied})
			b.idle()
			require.NoError(t, b.conn.JS.DeleteKeyValue(t.Context(), bucket))
			b.wants(user(2), 5, true)
			b.outcomes(map[string]event.Outcome{user(1): event.Applied, user(2): event.Applied})
			_, err := b.conn.JS.KeyValue(t.Context(), bucket)
			require.NoError(t, err)
		})
	}
}
