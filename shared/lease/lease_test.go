package lease_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/lease"
)

func bucket(t *testing.T, ttl time.Duration) jetstream.KeyValue {
	t.Helper()
	kv, err := bustest.Start(t).Connect(t).JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: ttl})
	require.NoError(t, err)
	return kv
}

func keeper(t *testing.T, kv jetstream.KeyValue, owner string) *lease.Keeper {
	t.Helper()
	k, err := lease.NewKeeper(t.Context(), kv, owner)
	require.NoError(t, err)
	return k
}

func TestOneHolderAtATime(t *testing.T) {
	kv := bucket(t, time.Minute)
	a, b := keeper(t, kv, "a"), keeper(t, kv, "b")
	held, err := a.Take(t.Context(), "lane.1")
	require.NoError(t, err)
	_, err = b.Take(t.Context(), "lane.1")
	require.ErrorIs(t, err, lease.ErrHeld)
	_, err = b.Take(t.Context(), "lane.2")
	require.NoError(t, err, "another lane is free")

	require.NoError(t, held.Release(t.Context()))
	_, err = b.Take(t.Context(), "lane.1")
	require.NoError(t, err)
	require.NoError(t, held.Release(t.Context()), "releasing late is no error")
	_, err = a.Take(t.Context(), "lane.1")
	require.ErrorIs(t, err, lease.ErrHeld, "and does not free the successor's lease")
}

func TestALeaseEndsByItselfAndCannotBeRenewedThen(t *testing.T) {
	kv := bucket(t, 2*time.Second)
	a, b := keeper(t, kv, "a"), keeper(t, kv, "b")
	held, err := a.Take(t.Context(), "lane.1")
	require.NoError(t, err)
	taken := time.Now()
	require.NoError(t, held.Renew(t.Context()))
	var next *lease.Lease
	require.Eventually(t, func() bool {
		next, err = b.Take(t.Context(), "lane.1")
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	require.Greater(t, time.Since(taken), 2*time.Second, "never early")
	require.True(t, held.Until().Before(time.Now()), "the holder knew")
	require.ErrorIs(t, held.Renew(t.Context()), lease.ErrLost)
	require.NoError(t, next.Renew(t.Context()))
}

func TestATooShortLifeIsRefused(t *testing.T) {
	_, err := lease.NewKeeper(t.Context(), bucket(t, time.Second), "a")
	require.ErrorContains(t, err, "too short")
}

// TestManyTakers: whoever holds the lease is alone, with many who try at once.
func TestManyTakers(t *testing.T) {
	kv := bucket(t, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var inside, worst, rounds atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		k := keeper(t, kv, "x")
		wg.Go(func() {
			for rounds.Load() < 200 && ctx.Err() == nil {
				held, err := k.Take(ctx, "lane.1")
				if errors.Is(err, lease.ErrHeld) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				worst.Store(max(worst.Load(), inside.Add(1)))
				rounds.Add(1)
				inside.Add(-1)
				if err := held.Release(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.GreaterOrEqual(t, rounds.Load(), int32(200))
	require.Equal(t, int32(1), worst.Load())
}
