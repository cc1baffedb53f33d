package leader

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/lease"
)

// TestALeaseThatEndsBeforeItIsKeptIsLost checks a lease that has ended by the time the broker's answer to its
// acquisition arrives.
func TestALeaseThatEndsBeforeItIsKeptIsLost(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	kv, err := server.Connect(t).JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
		Bucket: "leases", TTL: 1100 * time.Millisecond, Storage: jetstream.MemoryStorage,
	})
	require.NoError(t, err)
	keeper, err := lease.NewKeeper(t.Context(), kv, "test")
	require.NoError(t, err)
	l, err := keeper.Take(t.Context(), Key)
	require.NoError(t, err)
	await.True(t, func() bool { return time.Since(l.Until()) > time.Second }, time.Minute)
	require.ErrorIs(t, New(bustest.Logger()).renewUntilLost(t.Context(), l), lease.ErrLost)
}
