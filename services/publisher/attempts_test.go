package publisher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// acks returns all messages of answers so far.
func (b *bench) acks() []event.Acks {
	b.t.Helper()

	var out []event.Acks
	for _, data := range b.payloads(topology.StreamAcks) {
		var a event.Acks
		require.NoError(b.t, event.Decode(data, &a))
		out = append(out, a)
	}

	return out
}

// writtenDown returns the calls that publishers have recorded, without those whose records were deleted again.
func (b *bench) writtenDown() []event.Attempt {
	b.t.Helper()
	var out []event.Attempt
	require.NoError(b.t, bus.Read(b.t.Context(), b.conn.JS, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, _ string) {
		var c event.Calling
		if len(data) > 0 {
			require.NoError(b.t, event.Decode(data, &c))
			out = append(out, c.Calls...)
		}
	}))

	return out
}

// TestAnswersTellOfTheirCalls: each call has an id of its own, the times when it was sent and answered, and a status.
// The answers also name the users of whom it is not known whether AtHoc took the value.
func TestAnswersTellOfTheirCalls(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		fault   sim.Fault
		status  int
		inDoubt bool
	}{
		"applied, though it answers 503":  {sim.Fault{Kind: sim.FaultStatus, Status: 503, Apply: true}, 503, true},
		"refused before it was worked on": {sim.Fault{Kind: sim.FaultStatus, Status: 429, RetryAfter: "1"}, 429, false},
		"left out of the answer":          {sim.Fault{Kind: sim.FaultOmitUser, Apply: true}, 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, nil)
			c.fault.Calls, c.fault.Scope = 1, []string{sim.EndpointUpdate}
			b.fault(c.fault)
			u := b.wants(user(1), 5, true)
			b.start()
			b.outcomes(map[string]event.Outcome{user(1): event.Applied})
			b.idle()

			ids := map[string]bool{}
			var inDoubt, sure []event.Call
			for _, acks := range b.acks() {
				for _, call := range acks.Calls {
					id, err := uuid.Parse(call.ID)
					require.NoError(t, err)
					require.EqualValues(t, 7, id.Version())
					require.NotEmpty(t, call.Publisher)
					require.Equal(t, 1, call.Users)
					require.WithinDuration(t, time.Now(), time.UnixMilli(call.Sent), time.Hour)
					require.LessOrEqual(t, call.Sent, call.Answered)
					ids[call.ID] = true
				}

				for _, a := range acks.InDoubt {
					require.Equal(t, u.Version, a.Version)
					inDoubt = append(inDoubt, *acks.CallOf(a))
				}

				for _, a := range acks.Answers {
					sure = append(sure, *acks.CallOf(a))
				}
			}

			require.Len(t, sure, 1)
			require.Equal(t, 200, sure[0].Status)
			require.Equal(t, c.inDoubt, len(inDoubt) == 1)

			if c.inDoubt {
				require.Equal(t, c.status, inDoubt[0].Status)
				require.Len(t, ids, 2)
				require.Less(t, inDoubt[0].ID, sure[0].ID, "ids are in the order of the calls")
			}

			require.Empty(t, b.writtenDown(), "all answers are stored")
		})
	}
}

// TestACallIsWrittenDownBeforeItIsMade: with everything that it sends to AtHoc, in case its publisher does not live to
// store the answer.
func TestACallIsWrittenDownBeforeItIsMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, map[string]string{"ATHOC_TIMEOUT": "20s"})
	b.fault(sim.Fault{Kind: sim.FaultHang, Calls: 1, Scope: []string{sim.EndpointUpdate}})
	u := b.wants(user(1), 5, true)
	b.start()
	await.True(t, func() bool { return b.calling() }, timeout)

	written := b.writtenDown()
	require.Len(t, written, 1)
	require.Zero(t, written[0].Answered)
	require.Equal(t, []string{b.file}, written[0].Files)
	require.Equal(t, []event.Sent{{User: u.User, Employee: u.Employee, On: true, At: u.At, File: 1, Row: u.Version.Row}}, written[0].Whom)
}

// TestNoCallIsMadeThatIsNotWrittenDown: without the bucket nothing is sent; once the bucket is recreated, sending goes
// on.
func TestNoCallIsMadeThatIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, nil)
	b.start()
	b.wants(user(1), 5, true)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	require.NoError(t, b.conn.JS.DeleteKeyValue(t.Context(), topology.BucketCalls))
	b.wants(user(2), 5, true)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied, user(2): event.Applied})
	b.idle()
	require.Empty(t, b.writtenDown(), "the bucket was made anew")
}

// TestACallThatIsTooLargeToBeRecorded: the largest BATCH_SIZE, and users with long names. The record of a call must fit
// into a message of the broker before the call is made, so the batch is sent in parts.
func TestACallThatIsTooLargeToBeRecorded(t *testing.T) {
	t.Parallel()
	const users = 4000
	b := newBench(t, 1, map[string]string{"BATCH_SIZE": "5000"})
	b.breakerIs(breaker.State{Size: breaker.Size{Most: users}})

	want := map[string]event.Outcome{}
	for n := range users {
		name := fmt.Sprintf("%05d.%s@example.org", n, strings.Repeat("x", 240))
		b.wants(name, 5, true)
		want[name] = event.UnknownUser
	}

	b.start()
	b.idle() // so that the many outcomes are compared only once
	b.outcomes(want)
	require.Empty(t, b.writtenDown())
	require.Less(t, len(b.updateCalls()), users/40, "in parts that are as large as they may be, or as were there to be taken")
}
