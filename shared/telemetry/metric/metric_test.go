package metric

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// workers returns a gauge that is read from a number, and its registry.
func workers(t *testing.T) (*Watched[int], *prometheus.Registry) {
	t.Helper()

	w := &Watched[int]{Gauges: Readings[int]{Value("resolver", "workers", "Workers.", func(n int) float64 { return float64(n) })}}
	r := prometheus.NewRegistry()
	require.NoError(t, r.Register(w))

	return w, r
}

// TestAStateIsAskedSeldom: two servers that scrape do not ask twice; what cannot be read is left out, and returns
// later.
func TestAStateIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, registry := workers(t)
		var asked int
		fails := false
		stop := w.Watch(func(ctx context.Context) (int, error) {
			asked++
			_, bounded := ctx.Deadline()
			require.True(t, bounded)

			if fails {
				return 0, errors.New("the disk is gone")
			}

			return asked, nil
		})
		count := func() int {
			n, err := testutil.GatherAndCount(registry, "bobosync_resolver_workers")
			require.NoError(t, err)
			return n
		}
		require.Equal(t, 1, count())
		require.Equal(t, 1, count())
		require.Equal(t, 1, asked)

		fails = true

		time.Sleep(stateLife + time.Second)
		require.Zero(t, count())
		require.Zero(t, count())
		require.Equal(t, 2, asked, "a failure is not repeated with each look")

		fails = false

		time.Sleep(stateLife + time.Second)
		require.Equal(t, 1, count())
		stop()
		require.Zero(t, count())
		require.Equal(t, 3, asked)
	})
}

// TestStopWaitsForTheLook: once stop has returned, the source of a state may be closed; the stop of an earlier watch
// does not end a later one.
func TestStopWaitsForTheLook(t *testing.T) {
	w, registry := workers(t)
	looking, proceed := make(chan struct{}), make(chan struct{})
	var over atomic.Bool
	old := w.Watch(func(context.Context) (int, error) {
		close(looking)
		<-proceed
		over.Store(true)
		return 0, nil
	})

	gathered := make(chan struct{})
	go func() {
		defer close(gathered)

		_, _ = registry.Gather()
	}()

	<-looking

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)

		old()
	}()

	close(proceed)
	<-stopped
	require.True(t, over.Load())
	<-gathered
	w.Watch(func(context.Context) (int, error) { return 1, nil })
	old()

	n, err := testutil.GatherAndCount(registry, "bobosync_resolver_workers")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
