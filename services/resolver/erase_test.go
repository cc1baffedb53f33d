package resolver_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// consumed plays ingest, which takes in all outcomes.
func (b *bench) consumed() {
	b.t.Helper()
	consumer, err := b.conn.JS.Consumer(b.t.Context(), topology.StreamAcks, topology.ConsumerIngestAcks)
	require.NoError(b.t, err)
	await.True(b.t, func() bool { // a pull that does not wait may return nothing although something is there
		msgs, err := consumer.FetchNoWait(1000)
		require.NoError(b.t, err)

		for m := range msgs.Messages() {
			require.NoError(b.t, m.DoubleAck(b.t.Context()))
		}

		drained, err := bustest.Drained(b.t.Context(), b.conn.JS, topology.StreamAcks, topology.ConsumerIngestAcks)

		return err == nil && drained
	}, timeout)
}

// TestAWorkerIsErasedWhenNothingIsUnderWay: an erasure is refused as long as something would bring the worker back or
// be lost. Then it takes that worker and nobody else.
func TestAWorkerIsErasedWhenNothingIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()

	forgotten := 0
	stop, err := control.Serve(t.Context(), b.conn.NC, topology.Janitor, "test", control.On(control.Forget,
		func(_ context.Context, req control.ForgetRequest) (control.ForgetAnswer, error) {
			require.Equal(t, erase.Names{Employee: "00001", Users: []string{"one@example.org"}}, req.Names)

			forgotten++
			return control.ForgetAnswer{Entries: 3, Through: 9}, nil
		}))
	require.NoError(t, err)

	defer stop()

	req := control.EraseRequest{Names: erase.Names{Employee: "00001"}, Reason: "asked for"}
	refused := func(why string) {
		t.Helper()

		f, err := ask[control.EraseForecast](b, control.EraseShow, req)
		require.NoError(t, err)
		require.Contains(t, f.Refused, why)

		_, err = ask[control.EraseAnswer](b, control.Erase, req)
		require.ErrorContains(t, err, why)
	}

	b.file("a", 1, booked("00001", 10, true), booked("00002", 10, true))
	b.file("b", 2, booked("00002", 9, true))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	refused("AtHoc still has a user")

	table := b.table()
	b.mapping("m2", map[string]string{"00002": "Two@example.org"})
	b.idle()
	mapping, err := b.conn.JS.Stream(t.Context(), topology.StreamMapping)
	require.NoError(t, err)
	require.NoError(t, mapping.Purge(t.Context(), jetstream.WithPurgeKeep(1)))
	refused("still under way")

	for _, user := range []string{"one@example.org", "Two@example.org"} {
		b.answered(table[user], event.Applied, time.Now())
	}

	b.idle()
	refused("still under way") // ingest has not read the outcomes yet
	b.consumed()

	calls, err := b.conn.JS.KeyValue(t.Context(), topology.BucketCalls)
	require.NoError(t, err)
	_, err = calls.Put(t.Context(), topology.CallsKey("p"), event.Encode(&event.Calling{Calls: []event.Attempt{{
		Call: event.Call{ID: "c", Sent: time.Now().UnixMilli()}, Whom: []event.Sent{{User: "one@example.org", Employee: "00001"}},
	}}}))
	require.NoError(t, err)
	refused("still under way")
	require.NoError(t, calls.Delete(t.Context(), topology.CallsKey("p")))

	letter := func(e event.Versioned) *event.DeadLetter {
		return &event.DeadLetter{Service: "x", Payload: event.Encode(e)}
	}
	b.publish(topology.DeadSubject("resolver"), letter(&event.Entries{File: "c", Entries: []event.Entry{booked("00001", 1, true), booked("00002", 1, true)}}))
	refused("a dead letter is about this worker")

	dead, err := b.conn.JS.Stream(t.Context(), topology.StreamDead)
	require.NoError(t, err)
	require.NoError(t, dead.DeleteMsg(t.Context(), 1))

	update := table["one@example.org"]
	b.publish(topology.DeadSubject("publisher"), letter(&update))
	// 00001 once had the username that is 00002's now. What was sent for it at that time is 00001's; what was cleared
	// since for the username is 00002's.
	once := event.Delivery{User: "Two@example.org", Employee: "00001", On: true, At: 7, Outcome: event.Applied, Call: event.Call{ID: "once"}}
	b.publish(topology.HistorySubject("00001", ""), &once)
	b.publish(topology.HistorySubject("", "Two@example.org"), &event.Delivery{User: "Two@example.org", At: 8, Outcome: event.Applied, Call: event.Call{ID: "cleared"}})
	require.Zero(t, forgotten)

	f, err := ask[control.EraseForecast](b, control.EraseShow, req)
	require.NoError(t, err)
	require.Empty(t, f.Refused)
	require.Equal(t, []string{"a"}, f.Files)

	answer, err := ask[control.EraseAnswer](b, control.Erase, req)
	require.NoError(t, err)
	require.Equal(t, 1, forgotten)
	require.Positive(t, answer.Redacted)
	delete(f.Found, topology.StreamAudit)

	for store, n := range f.Found {
		require.Positive(t, n, store)
		require.Equal(t, n, answer.Removed[store], store)
	}

	for _, stream := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamHistory, topology.StreamDead} {
		for _, data := range b.messages(stream) {
			require.False(t, f.In(data), "%s: %s", stream, data)
		}
	}

	require.Len(t, b.messages(topology.StreamEntries), 2, "the other file's, and the end of the rebuild")
	require.Contains(t, b.table(), "Two@example.org")
	kept := bytes.Join(b.messages(topology.StreamHistory), nil)
	require.Contains(t, string(kept), `"cleared"`)
	require.NotContains(t, string(kept), `"once"`)

	_, err = b.worker("00001")
	require.ErrorContains(t, err, "neither")
	_, err = b.worker("00002")
	require.NoError(t, err)
	stored, err := os.ReadFile(filepath.Join(b.cfg.Data.Directory, "resolver.db"))
	require.NoError(t, err)
	require.Contains(t, string(stored), "00002")
	require.False(t, bytes.Contains(stored, []byte("00001")) || bytes.Contains(stored, []byte("one@example.org")))

	req.Users = []string{"one@example.org"}
	_, err = ask[control.EraseAnswer](b, control.Erase, req)
	require.NoError(t, err, "once more, should something have been left")
}
