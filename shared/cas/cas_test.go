package cas_test

import (
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/cas"
)

func bucket(t *testing.T) jetstream.KeyValue {
	t.Helper()
	kv, err := bustest.Start(t).Connect(t).JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state"})
	require.NoError(t, err)
	return kv
}

// TestNoChangeIsLost: many writers at once each append a letter.
func TestNoChangeIsLost(t *testing.T) {
	t.Parallel()

	kv := bucket(t)
	const writers, letters = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range letters {
				if err := cas.Update(t.Context(), kv, "key", func(old []byte) ([]byte, error) { return append(old, 'x'), nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}

	wg.Wait()

	value, _, err := cas.Load(t.Context(), kv, "key")
	require.NoError(t, err)
	require.Len(t, value, writers*letters)
}

func TestStoreKnowsAConflict(t *testing.T) {
	t.Parallel()
	kv := bucket(t)
	value, revision, err := cas.Load(t.Context(), kv, "key")
	require.NoError(t, err)
	require.Nil(t, value)
	require.Zero(t, revision)
	first, err := cas.Store(t.Context(), kv, "key", []byte("1"), 0)
	require.NoError(t, err)
	_, err = cas.Store(t.Context(), kv, "key", []byte("2"), 0)
	require.ErrorIs(t, err, cas.ErrConflict)
	second, err := cas.Store(t.Context(), kv, "key", []byte("2"), first)
	require.NoError(t, err)
	_, err = cas.Store(t.Context(), kv, "key", []byte("3"), first)
	require.ErrorIs(t, err, cas.ErrConflict)

	require.NoError(t, cas.Update(t.Context(), kv, "key", func([]byte) ([]byte, error) { return nil, nil }), "nothing to store")
	_, revision, err = cas.Load(t.Context(), kv, "key")
	require.NoError(t, err)
	require.Equal(t, second, revision)
}
