package resolver_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestABatchThatComesAgainInPartsNeverGoesBack: the updates of a batch are published, and then the work on it fails. If
// only the batch's older message is redelivered, as can happen after a crash of the broker, nothing older may be
// published.
func TestABatchThatComesAgainInPartsNeverGoesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.idle()
	b.stop()
	sent := b.record()
	unblock := b.blockAcks()
	older, newer := booked("00001", 60, true), booked("00001", 30, false)
	older.Row, newer.Row = 2, 2
	b.publish(topology.EntriesSubject("older"), &event.Entries{File: "older", Sequence: 1, Last: true, Settled: true, Entries: []event.Entry{older}})
	b.publish(topology.EntriesSubject("newer"), &event.Entries{File: "newer", Sequence: 2, Last: true, Settled: true, Entries: []event.Entry{newer}})
	b.file("expired", 3, booked("00003", 60*30, true)) // its outcome cannot be stored, so the batch fails
	b.start()

	tries := func(n int) { b.eventually(func() any { return len(sent()) >= n }, true) }
	tries(1)

	entries, err := b.conn.JS.Stream(t.Context(), topology.StreamEntries)
	require.NoError(t, err)
	require.NoError(t, entries.DeleteMsg(t.Context(), 3))
	tries(len(sent()) + 2) // the first of them may still have had both messages
	unblock()
	b.settled("expired", map[int]event.Outcome{2: event.Expired})
	b.idle()

	for _, u := range sent() {
		require.Equal(t, newer.At, u.At, "the newer event was sent before")
	}
}

// record notes all updates that are published from now on.
func (b *bench) record() func() []event.Update {
	b.t.Helper()
	var mu sync.Mutex
	var all []event.Update
	nc := b.server.Connect(b.t).NC
	_, err := nc.Subscribe("bobo.updates.>", func(m *nats.Msg) {
		var u event.Update
		if event.Decode(m.Data, &u) == nil {
			mu.Lock()
			defer mu.Unlock()

			all = append(all, u)
		}
	})
	require.NoError(b.t, err)
	require.NoError(b.t, nc.Flush())

	return func() []event.Update {
		require.NoError(b.t, nc.Flush()) // what was published before has arrived
		mu.Lock()
		defer mu.Unlock()
		return append([]event.Update(nil), all...)
	}
}

// blockAcks makes the stream of outcomes refuse messages until the returned function is called.
func (b *bench) blockAcks() (unblock func()) {
	b.t.Helper()
	b.publish(topology.SubjectAcks, &event.Acks{From: "test"}) // an empty stream cannot be full
	stream, err := b.conn.JS.Stream(b.t.Context(), topology.StreamAcks)
	require.NoError(b.t, err)

	open := stream.CachedInfo().Config
	full := open
	full.MaxMsgs, full.Discard = int64(stream.CachedInfo().State.Msgs), jetstream.DiscardNew
	_, err = b.conn.JS.UpdateStream(b.t.Context(), full)
	require.NoError(b.t, err)

	return func() {
		_, err := b.conn.JS.UpdateStream(b.t.Context(), open)
		require.NoError(b.t, err)
	}
}

// TestAnUpdateThatIsOutIsKnownToBe: an update was published, and then the work on its batch fails, or the resolver
// ends. A newer event that repeats what AtHoc had confirmed before that update must be sent all the same: AtHoc may
// have received the update by now.
func TestAnUpdateThatIsOutIsKnownToBe(t *testing.T) {
	t.Parallel()

	for name, restarts := range map[string]bool{"the work fails": false, "the resolver ends": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			b.recovered("")
			b.mapping("m1", staff)
			b.file("confirmed", 1, booked("00001", 60, false))
			b.wants(map[string]bool{"one@example.org": false})
			b.answered(b.table()["one@example.org"], event.Applied, time.Now())
			b.idle()

			sent, unblock := b.record(), b.blockAcks()
			b.file("published", 2, booked("00001", 30, true), booked("00003", 60*30, true)) // the second row's outcome cannot be stored
			b.eventually(func() any { return len(sent()) > 0 }, true)

			if restarts {
				b.stop()
			}

			newest := booked("00001", 20, false)
			b.file("newest", 3, newest)
			unblock()

			if restarts {
				b.start()
			}

			b.settled("published", map[int]event.Outcome{2: event.Superseded, 3: event.Expired})
			b.eventually(func() any { return b.table()["one@example.org"].At }, newest.At)
		})
	}
}
