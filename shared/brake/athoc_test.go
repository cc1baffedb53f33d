package brake_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/brake"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

func TestTroubleOfSortsEveryKind(t *testing.T) {
	for kind, want := range map[athoc.Kind]brake.Trouble{
		athoc.BadRequest:   brake.None,
		athoc.TooLarge:     brake.None,
		athoc.Canceled:     brake.None,
		athoc.Unauthorized: brake.Refused,
		athoc.Forbidden:    brake.Refused,
		athoc.NotFound:     brake.Refused,
		athoc.Throttled:    brake.Throttled,
		athoc.Outage:       brake.Outage,
		athoc.Kind(99):     brake.Outage,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			err := fmt.Errorf("fetch: %w", &athoc.CallError{Kind: kind, Op: athoc.OpSearch, Detail: "look there", RetryAfter: time.Minute})
			got, cause, wait := brake.TroubleOf(err)
			assert.Equal(t, want, got)
			if want != brake.None {
				assert.Contains(t, cause, "look there")
				assert.Equal(t, time.Minute, wait)
			}
		})
	}
}

func TestTroubleOfQuotesNoForeignError(t *testing.T) {
	got, cause, _ := brake.TroubleOf(errors.New("john.doe@example.org"))
	assert.Equal(t, brake.Outage, got)
	assert.NotContains(t, cause, "john.doe")
	got, _, _ = brake.TroubleOf(nil)
	assert.Equal(t, brake.None, got)
}

func TestSettleGivesACancelledProbeBack(t *testing.T) {
	js := bustest.Start(t).Connect(t).JS
	require.NoError(t, topology.Provision(t.Context(), js, topology.Settings{EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}, topology.Everyone))
	kv, err := js.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	b, err := brake.New(t.Context(), kv, brake.Limits{Rate: 1000, CallTimeout: time.Hour}, bustest.Logger())
	require.NoError(t, err)

	permit, err := b.Wait(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.Settle(t.Context(), permit, &athoc.CallError{Kind: athoc.Outage, Op: athoc.OpSearch}))
	state, err := b.State(t.Context())
	require.NoError(t, err)
	require.True(t, state.Open())

	// The probe's outcome would be waited for during an hour; that it was cancelled closes nothing and holds up nobody.
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
