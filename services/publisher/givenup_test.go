package publisher_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// breakerIs sets the circuit breaker's state.
func (b *bench) breakerIs(s breaker.State) {
	b.t.Helper()
	kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
	require.NoError(b.t, err)
	state, err := json.Marshal(s)
	require.NoError(b.t, err)
	_, err = kv.Put(b.t.Context(), breaker.Key, state)
	require.NoError(b.t, err)
}

// putOffSince makes the circuit breaker's state say that the user has made calls fail since then.
func (b *bench) putOffSince(username string, since time.Time, failures int) {
	b.t.Helper()
	b.breakerIs(breaker.State{PutOff: breaker.PutOffs{{User: username, Failures: failures, Since: since, Until: time.Now(), Cause: "outage (500)"}}})
}

// TestAnOutageIsNotAUsersFault: a user who is put off is neither given up nor blamed for calls that never reached
// AtHoc.
func TestAnOutageIsNotAUsersFault(t *testing.T) {
	t.Parallel()

	for name, fault := range map[string]sim.Fault{
		"refused": {Kind: sim.FaultRefuse, For: sim.Duration(4 * time.Second)},
		"token":   {Kind: sim.FaultStatus, Status: 502, Scope: []string{sim.EndpointToken}, For: sim.Duration(4 * time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, nil)
			b.putOffSince(user(1), time.Now().Add(-25*time.Hour), 25)
			b.fault(fault)
			b.wants(user(1), 5, true)
			b.start()
			await.True(t, func() bool { return b.breakerState().Class == breaker.Outage }, timeout)
			b.outcomes(map[string]event.Outcome{user(1): event.Applied})
			require.Empty(t, b.payloads(topology.StreamDead))
		})
	}
}

// TestNobodyIsGivenUpWhileAtHocTakesNobody: as long as AtHoc takes nobody else's update, it may be to blame, however
// long this lasts.
func TestNobodyIsGivenUpWhileAtHocTakesNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	b.putOffSince(user(1), time.Now().Add(-25*time.Hour), 150)
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 503, Scope: []string{sim.EndpointUpdate}})
	b.wants(user(1), 5, true)
	b.start()
	await.True(t, func() bool {
		known, _ := b.breakerState().PutOff.Of(user(1))
		return known.Failures > 150 || len(b.payloads(topology.StreamDead)) > 0
	}, timeout)
	require.Empty(t, b.payloads(topology.StreamDead))
}

// TestWhoWasGivenUpBeginsAnew: the user's next booking is tried for as long as anybody's, and the user is no longer
// reported.
func TestWhoWasGivenUpBeginsAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, nil)
	b.putOffSince(user(1), time.Now().Add(-25*time.Hour), 25)
	b.gateway(func(w http.ResponseWriter, body []byte) bool {
		if bytes.Contains(body, []byte(user(1))) {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}

		return false
	})
	b.wants(user(2), 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{user(2): event.Applied})
	b.wants(user(1), 5, true)
	b.outcomes(map[string]event.Outcome{user(1): event.Dead, user(2): event.Applied})
	await.True(t, func() bool { return len(b.breakerState().PutOff) == 0 }, 5*time.Second)
}
