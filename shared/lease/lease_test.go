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

	"bobosync/shared/await"
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
	await.True(t, func() bool {
		next, err = b.Take(t.Context(), "lane.1")
		return err == nil
	}, 10*time.Second)
	require.Greater(t, time.Since(taken), 2*time.Second, "never early")
	require.True(t, held.Until().Before(time.Now()), "the holder knew")
	require.ErrorIs(t, held.Renew(t.Context()), lease.ErrLost)
	require.NoError(t, next.Renew(t.Context()))
}

func TestATooShortLifeIsRefused(t *testing.T) {
	_, err := lease.NewKeeper(t.Context(), bucket(t, time.Second), "a")
	require.ErrorContains(t, err, "too short")
}

// TestManyTakers: the lease has only one holder, however many try to take it at once.
func TestManyTakers(t *testing.T) {
	kv := bucket(t, time.Minute)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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

// lose deletes a bucket with everything in it, and recreates it.
func lose(t *testing.T, js jetstream.JetStream, ttl time.Duration) jetstream.KeyValue {
	t.Helper()
	require.NoError(t, js.DeleteKeyValue(t.Context(), "leases"))
	var kv jetstream.KeyValue
	bustest.Recreate(t, func() (err error) {
		kv, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: ttl})
		return err
	})

	return kv
}

// TestABucketThatWasLostRestsForALease: the holder of a lease from the previous bucket may still count on it.
func TestABucketThatWasLostRestsForALease(t *testing.T) {
	const ttl = 2 * time.Second
	js := bustest.Start(t).Connect(t).JS
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: ttl})
	require.NoError(t, err)

	a, b, late := lease.BucketHistory{}, lease.BucketHistory{}, lease.BucketHistory{}
	keeperA, keeperB := keeper(t, kv, "a"), keeper(t, kv, "b")
	require.NoError(t, keeperA.Settled(t.Context(), &a), "the first one is used at once")
	require.NoError(t, keeperB.Settled(t.Context(), &b))
	held, err := keeperA.Take(t.Context(), "lane.1")
	require.NoError(t, err)

	kv = lose(t, js, ttl)
	require.ErrorIs(t, keeperB.Settled(t.Context(), &b), lease.ErrUnsettled)
	next := keeper(t, kv, "b")
	require.ErrorIs(t, next.Settled(t.Context(), &b), lease.ErrUnsettled, "nor with a new keeper")
	require.NoError(t, keeper(t, kv, "late").Settled(t.Context(), &late), "who begins after the loss knows of nothing")
	await.True(t, func() bool { return next.Settled(t.Context(), &b) == nil }, 10*time.Second)
	require.False(t, time.Now().Before(held.Until()), "the lease of before has ended")
}

// TestABucketYoungerThanWhatItServesRestsToo: a process that starts after the loss recognises it by what was not lost.
func TestABucketYoungerThanWhatItServesRestsToo(t *testing.T) {
	const ttl = 2 * time.Second
	kv := bucket(t, ttl)
	young := lease.BucketHistory{Since: time.Now().Add(-time.Hour)}
	k := keeper(t, kv, "a")
	require.ErrorIs(t, k.Settled(t.Context(), &young), lease.ErrUnsettled)
	await.True(t, func() bool { return k.Settled(t.Context(), &young) == nil }, 10*time.Second)
	require.NoError(t, k.Settled(t.Context(), &lease.BucketHistory{Since: time.Now().Add(-time.Second)}), "made together")
}

func TestABucketThatIsGone(t *testing.T) {
	js := bustest.Start(t).Connect(t).JS
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: time.Minute})
	require.NoError(t, err)
	k := keeper(t, kv, "a")
	require.NoError(t, js.DeleteKeyValue(t.Context(), "leases"))
	require.ErrorIs(t, k.Settled(t.Context(), &lease.BucketHistory{}), jetstream.ErrStreamNotFound)
}

// TestALeaseThatHasEndedTouchesNoOthers: revisions repeat in a bucket that was recreated.
func TestALeaseThatHasEndedTouchesNoOthers(t *testing.T) {
	const ttl = 2 * time.Second
	for name, use := range map[string]func(*testing.T, *lease.Lease){
		"renew":   func(t *testing.T, l *lease.Lease) { require.ErrorIs(t, l.Renew(t.Context()), lease.ErrLost) },
		"release": func(t *testing.T, l *lease.Lease) { require.NoError(t, l.Release(t.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := bustest.Start(t).Connect(t).JS
			kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: ttl})
			require.NoError(t, err)
			var history lease.BucketHistory
			require.NoError(t, keeper(t, kv, "b").Settled(t.Context(), &history))
			held, err := keeper(t, kv, "a").Take(t.Context(), "lane.1")
			require.NoError(t, err)

			b := keeper(t, lose(t, js, ttl), "b")
			await.True(t, func() bool { return b.Settled(t.Context(), &history) == nil }, 10*time.Second)
			successor, err := b.Take(t.Context(), "lane.1")
			require.NoError(t, err)
			use(t, held)
			require.NoError(t, successor.Renew(t.Context()), "it has the revision that the other one had")
		})
	}
}

// TestTheBucketsTimeIsReadAgain: others who share the bucket may, with other settings, have given leases a shorter
// life.
func TestTheBucketsTimeIsReadAgain(t *testing.T) {
	js := bustest.Start(t).Connect(t).JS
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: time.Hour})
	require.NoError(t, err)
	var history lease.BucketHistory
	k := keeper(t, kv, "a")
	require.NoError(t, k.Settled(t.Context(), &history))
	_, err = js.UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: time.Minute})
	require.NoError(t, err)
	require.ErrorIs(t, k.Settled(t.Context(), &history), lease.ErrUnsettled, "what was taken counts on an hour")
	require.NoError(t, k.Settled(t.Context(), &history))
	held, err := k.Take(t.Context(), "lane.1")
	require.NoError(t, err)
	require.LessOrEqual(t, time.Until(held.Until()), time.Minute)
	_, err = js.UpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases", TTL: time.Second})
	require.NoError(t, err)
	require.ErrorContains(t, k.Settled(t.Context(), &history), "too short")
}
