package breaker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
)

func bucket(t *testing.T) jetstream.KeyValue {
	t.Helper()
	kv, err := bustest.Start(t).Connect(t).JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state"})
	require.NoError(t, err)
	return kv
}

func open(t *testing.T, kv jetstream.KeyValue, rate float64, log *slog.Logger) *breaker.Breaker {
	t.Helper()
	b, err := breaker.New(t.Context(), kv, breaker.Limits{Rate: rate, CallTimeout: time.Second}, log)
	require.NoError(t, err)
	return b
}

// TestAllTogetherKeepTheRate: four callers share one rate.
func TestAllTogetherKeepTheRate(t *testing.T) {
	kv := bucket(t)
	const callers, calls, rate = 4, 10, 50
	began := time.Now()

	var wg sync.WaitGroup
	for range callers {
		b := open(t, kv, rate, bustest.Logger())
		wg.Go(func() {
			for range calls {
				if _, err := b.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}

	wg.Wait()
	require.GreaterOrEqual(t, time.Since(began), (callers*calls-1)*time.Second/rate)
}

// TestOneOutageStopsAllAndOneProbeEndsIt: what one caller reports holds for all callers.
func TestOneOutageStopsAllAndOneProbeEndsIt(t *testing.T) {
	kv := bucket(t)
	var log bytes.Buffer
	a, b := open(t, kv, 1000, slog.New(slog.NewTextHandler(&log, nil))), open(t, kv, 1000, bustest.Logger())
	permit, err := a.Wait(t.Context())
	require.NoError(t, err)
	require.False(t, permit.Probe)
	require.NoError(t, a.Report(t.Context(), permit, breaker.Outage, "503 from AtHoc", time.Minute))

	_, clear, err := b.Clear(t.Context())
	require.NoError(t, err)
	require.False(t, clear)
	state, err := b.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, breaker.Outage, state.Class)
	require.Equal(t, "503 from AtHoc", state.Cause)

	state.ProbeAt = time.Now() // as if the wait were over
	data, err := json.Marshal(state)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), breaker.Key, data)
	require.NoError(t, err)
	permit, err = b.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, permit.Probe)
	_, clear, err = a.Clear(t.Context())
	require.NoError(t, err)
	require.False(t, clear, "a probe is under way")
	require.NoError(t, b.Release(t.Context(), permit))
	permit, err = a.Wait(t.Context())
	require.NoError(t, err)
	require.True(t, permit.Probe, "a probe given back can be taken by another")
	require.NoError(t, a.Report(t.Context(), permit, breaker.None, "", 0))
	_, clear, err = b.Clear(t.Context())
	require.NoError(t, err)
	require.True(t, clear)
	require.Contains(t, log.String(), "AtHoc is not there")
	require.Contains(t, log.String(), "AtHoc answers again")
}

func TestWaitEndsWithItsContext(t *testing.T) {
	kv := bucket(t)
	b := open(t, kv, 0.001, bustest.Logger())
	_, err := b.Wait(t.Context())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()

	_, err = b.Wait(ctx)
	require.ErrorIs(t, err, ctx.Err())
}

func TestAnUnreadableStateIsBegunAfresh(t *testing.T) {
	kv := bucket(t)
	_, err := kv.PutString(t.Context(), breaker.Key, "nonsense")
	require.NoError(t, err)
	_, err = open(t, kv, 10, bustest.Logger()).Wait(t.Context())
	require.NoError(t, err)
}

// TestAStateFromTheFutureStopsNoCalls: the broker's clock was put back by hours while the state stayed.
func TestAStateFromTheFutureStopsNoCalls(t *testing.T) {
	kv := bucket(t)
	future, err := json.Marshal(breaker.State{Next: time.Now().Add(5 * time.Hour)})
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), breaker.Key, future)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	_, err = open(t, kv, 10, bustest.Logger()).Wait(ctx)
	require.NoError(t, err)
}
