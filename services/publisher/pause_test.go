package publisher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// pause orders a pause as an operator does.
func (b *bench) pause(req control.PauseRequest) (breaker.Pause, error) {
	req.By = "jo@desk"
	return control.Ask[breaker.Pause](b.t.Context(), b.conn.NC, topology.Publisher, control.Pause, req)
}

// TestNoCallDuringAPause: three publishers have updates waiting all the while, and one of them is restarted meanwhile.
// The pause ends by itself, and then each user is sent once, with the latest status.
func TestNoCallDuringAPause(t *testing.T) {
	t.Parallel()
	b := newBench(t, 30, nil)
	b.start()
	b.start()
	stop := b.start()
	await.True(t, func() bool { return len(b.states()) == 3 }, timeout)

	_, err := b.pause(control.PauseRequest{Reason: "upgrade", Seconds: 600})
	require.NoError(t, err)
	b.wantAll(30, 50)
	b.wantAll(30, 40)
	stop()
	b.start()
	want := b.wantAll(30, 5)
	paused, err := b.pause(control.PauseRequest{Reason: "upgrade", Seconds: 4}) // replaces the other one
	require.NoError(t, err)
	b.outcomes(want)
	b.idle()
	calls := b.athoc.Calls(sim.CallFilter{}) // including those for a token
	require.NotEmpty(t, calls)

	for _, call := range calls {
		require.GreaterOrEqual(t, call.Arrived, paused.Until.Add(-time.Second).UnixNano(), "%s during the pause", call.Endpoint) // the broker's clock
	}

	for user, answers := range b.answers() {
		require.Len(t, answers, 1, user)
	}
}

// TestPauseAndResume: an order without a reason or an end is refused; resuming ends the pause for all publishers.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, nil)
	b.start()
	b.start()

	for _, req := range []control.PauseRequest{
		{Seconds: 60}, {Reason: " ", Seconds: 60}, {Reason: strings.Repeat("x", 501), Seconds: 60}, {Reason: "upgrade"}, {Reason: "upgrade", Seconds: 86401},
	} {
		var refusal *control.Refusal
		await.NoFailure(t, func(c *await.Try) {
			_, err := b.pause(req)
			assert.ErrorAs(c, err, &refusal)
		}, timeout)
	}

	paused, err := b.pause(control.PauseRequest{Reason: "upgrade", Seconds: 86400})
	require.NoError(t, err)
	require.Equal(t, "jo@desk", paused.By)
	b.wants(user(1), 5, true)
	ended, err := control.Ask[control.ResumeAnswer](t.Context(), b.conn.NC, topology.Publisher, control.Resume, control.RunRequest{By: "al@desk"})
	require.NoError(t, err)
	require.Equal(t, "upgrade", ended.Ended.Reason)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})

	for _, call := range b.athoc.Calls(sim.CallFilter{}) {
		require.GreaterOrEqual(t, call.Arrived, ended.Ended.Resumed.Add(-time.Second).UnixNano())
	}

	ended, err = control.Ask[control.ResumeAnswer](t.Context(), b.conn.NC, topology.Publisher, control.Resume, control.RunRequest{By: "al@desk"})
	require.NoError(t, err)
	require.Nil(t, ended.Ended)
}

// TestThePauseIsLostWithTheBucket: updates go out again, and the publishers say why.
func TestThePauseIsLostWithTheBucket(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, map[string]string{"ATHOC_TIMEOUT": "1s"})
	b.start()
	await.True(t, func() bool { return len(b.states()) == 1 }, timeout)

	_, err := b.pause(control.PauseRequest{Reason: "upgrade", Seconds: 3600})
	require.NoError(t, err)
	b.wants(user(1), 5, true)
	require.NoError(t, b.conn.JS.DeleteKeyValue(t.Context(), topology.BucketState))
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	await.True(t, func() bool {
		states := b.states()
		return len(states) == 1 && states[0].PauseLost != nil && states[0].PauseLost.Reason == "upgrade"
	}, timeout)
}
