package topology_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

var settings = topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: 30 * time.Second}

func TestProvisionMakesEverythingOnce(t *testing.T) {
	t.Parallel()

	conn := bustest.Start(t).Connect(t)
	for range 2 { // the second time it finds everything as it should be
		require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))
	}

	for _, want := range settings.Streams() {
		stream, err := conn.JS.Stream(t.Context(), want.Name)
		require.NoError(t, err)
		require.Empty(t, topology.Differences(want, stream.CachedInfo().Config))
	}

	for stream, consumers := range settings.Consumers() {
		for _, want := range consumers {
			c, err := conn.JS.Consumer(t.Context(), stream, want.Durable)
			require.NoError(t, err)
			require.Equal(t, want.MaxAckPending, c.CachedInfo().Config.MaxAckPending)
			require.Equal(t, -1, c.CachedInfo().Config.MaxDeliver)
		}
	}
}

// TestOnlyTheOwnerChangesSettings: a service with different variables must not undo what the owner has set.
func TestOnlyTheOwnerChangesSettings(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))
	other := settings
	other.CallTimeout = time.Minute

	leaseTTL := func() time.Duration {
		kv, err := conn.JS.KeyValue(t.Context(), topology.BucketLeases)
		require.NoError(t, err)
		status, err := kv.Status(t.Context())
		require.NoError(t, err)

		return status.TTL()
	}

	require.NoError(t, topology.Provision(t.Context(), conn.JS, other, topology.Ingest))
	require.Equal(t, settings.LeaseTTL(), leaseTTL())
	require.NoError(t, topology.Provision(t.Context(), conn.JS, other, topology.Publisher))
	require.Equal(t, other.LeaseTTL(), leaseTTL())
}

func TestIdentityChangesWithTheStore(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))
	before, err := topology.Identity(t.Context(), conn.JS, topology.StreamUpdates)
	require.NoError(t, err)
	require.NoError(t, conn.JS.DeleteStream(t.Context(), topology.StreamUpdates))
	require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Ingest))
	after, err := topology.Identity(t.Context(), conn.JS, topology.StreamUpdates)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
}

func TestDifferencesAreNamed(t *testing.T) {
	t.Parallel()

	want := settings.Streams()[1]
	have := want
	require.Empty(t, topology.Differences(want, have))
	have.AllowAtomicPublish, have.MaxMsgsPerSubject, have.Retention = false, -1, jetstream.WorkQueuePolicy
	require.Len(t, topology.Differences(want, have), 3)
}

func TestPartitionsAndKeys(t *testing.T) {
	t.Parallel()
	require.Equal(t, topology.UpdatesSubject("John.Doe@Example.org "), topology.UpdatesSubject("john.doe@example.org"),
		"AtHoc compares usernames without regard to case")
	// These must never change: updates lie under these subjects in running systems.
	require.Equal(t, "bobo.updates.7.b8352aa3b4496fd4ce2ca11b04c262d7", topology.UpdatesSubject("john.doe@example.org"))

	used := map[int]int{}
	for i := range 8000 {
		user := fmt.Sprintf("w%05d@example.org", i)
		partition := topology.Partition(user)
		require.Contains(t, topology.UpdatesSubject(user), fmt.Sprintf("bobo.updates.%d.", partition))
		used[partition]++
	}

	require.Len(t, used, topology.Partitions)

	for partition, n := range used {
		require.InDelta(t, 1000, n, 150, "lane %d", partition)
	}
}
