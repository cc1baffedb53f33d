package publisher

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestCallsWhoseAnswersCouldNotBeStoredStayWrittenDown: that the answers of the next delivery are stored says nothing of them.
func TestCallsWhoseAnswersCouldNotBeStoredStayWrittenDown(t *testing.T) {
	t.Parallel()
	js := bustest.Start(t).Connect(t).JS
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: topology.BucketCalls})
	require.NoError(t, err)
	written := func() (ids []string) {
		require.NoError(t, bus.Read(t.Context(), js, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, _ string) {
			var c event.Calling
			if len(data) > 0 {
				require.NoError(t, event.Decode(data, &c))
				for _, call := range c.Calls {
					ids = append(ids, call.ID)
				}
			}
		}))
		return ids
	}
	call := func(id string) event.Attempt { return event.Attempt{Call: event.Call{ID: id, Sent: 1, Users: 1}} }

	a := attempts{kv: kv}
	require.NoError(t, a.begin(t.Context(), call("lost"), true))
	require.NoError(t, a.begin(t.Context(), call("lost too"), false))
	require.NoError(t, a.begin(t.Context(), call("answered"), true))
	require.ElementsMatch(t, []string{"lost", "lost too", "answered"}, written())
	require.NoError(t, a.stored(t.Context()))
	require.Equal(t, []string{"lost", "lost too"}, written())
	require.NoError(t, a.begin(t.Context(), call("answered as well"), true))
	require.NoError(t, a.stored(t.Context()))
	require.Equal(t, []string{"lost", "lost too"}, written())
}
