package breaker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

func TestClassifySortsEveryKind(t *testing.T) {
	for kind, want := range map[athoc.Kind]breaker.FailureClass{
		athoc.BadRequest:   breaker.None,
		athoc.TooLarge:     breaker.None,
		athoc.Canceled:     breaker.None,
		athoc.Unauthorized: breaker.Refused,
		athoc.Forbidden:    breaker.Refused,
		athoc.NotFound:     breaker.Refused,
		athoc.Throttled:    breaker.Throttled,
		athoc.Outage:       breaker.Outage,
		athoc.Kind(99):     breaker.Outage,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			err := fmt.Errorf("fetch: %w", &athoc.CallError{Kind: kind, Op: athoc.OpSearch, Detail: "look there", RetryAfter: time.Minute})
			got, cause, wait := breaker.Classify(err)
			assert.Equal(t, want, got)

			if want != breaker.None {
				assert.Contains(t, cause, "look there")
				assert.Equal(t, time.Minute, wait)
			}
		})
	}
}

func TestClassifyQuotesNoForeignError(t *testing.T) {
	got, cause, _ := breaker.Classify(errors.New("john.doe@example.org"))
	assert.Equal(t, breaker.Outage, got)
	assert.NotContains(t, cause, "john.doe")

	got, _, _ = breaker.Classify(nil)
	assert.Equal(t, breaker.None, got)
}

func TestSettleGivesACancelledProbeBack(t *testing.T) {
	js := bustest.Start(t).Connect(t).JS
	require.NoError(t, topology.Provision(t.Context(), js, topology.Settings{EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}, topology.Everyone))
	kv, err := js.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	b, err := breaker.New(t.Context(), kv, breaker.Limits{Rate: 1000, CallTimeout: time.Hour}, bustest.Logger())
	require.NoError(t, err)

	permit, err := b.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.Settle(t.Context(), permit, &athoc.CallError{Kind: athoc.Outage, Op: athoc.OpSearch}))
	state, err := b.State(t.Context())
	require.NoError(t, err)
	require.True(t, state.Open())

	// Callers would wait an hour for the probe's outcome. A probe that was cancelled neither closes the circuit breaker
	// nor holds anybody up.
	for range 2 {
		permit, err = b.Wait(t.Context())
		require.NoError(t, err)
		require.True(t, permit.Probe)
		require.NoError(t, b.Settle(t.Context(), permit, &athoc.CallError{Kind: athoc.Canceled, Op: athoc.OpSearch}))
		state, err = b.State(t.Context())
		require.NoError(t, err)
		require.True(t, state.Open())
	}

	permit, err = b.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.Settle(t.Context(), permit, nil))
	state, err = b.State(t.Context())
	require.NoError(t, err)
	assert.False(t, state.Open())
}
