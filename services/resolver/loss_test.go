package resolver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestTheEndOfARecoveryWaitsForAllOfIt: a resolver is killed during a recovery while it has entries in its hands. They
// are redelivered only after a while, whereas the end of the recovery arrives at once.
func TestTheEndOfARecoveryWaitsForAllOfIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.provision()
	sent := b.record()
	b.mapping("m1", staff)

	newer, older := booked("00001", 10, true), booked("00001", 30, false)
	newer.Row, older.Row = 2, 2
	b.publish(topology.EntriesSubject("done"), &event.Entries{File: "done", Sequence: 2, Last: true, Settled: true, Entries: []event.Entry{newer}})
	c, err := b.conn.JS.Consumer(t.Context(), topology.StreamEntries, topology.ConsumerResolverEntries)
	require.NoError(t, err)
	got, err := c.Fetch(1, jetstream.FetchMaxWait(timeout)) // by the resolver that is killed
	require.NoError(t, err)

	held := <-got.Messages()
	require.NotNil(t, held)
	b.publish(topology.EntriesSubject("waiting"), &event.Entries{File: "waiting", Sequence: 1, Last: true, Entries: []event.Entry{older}})
	b.start()
	b.recovered("")
	await.True(t, func() bool { // what arrived at once was learnt, and the end of the recovery was put off
		c, err := b.conn.JS.Consumer(t.Context(), topology.StreamEntries, topology.ConsumerResolverEntries)
		return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 2 && c.CachedInfo().NumRedelivered > 0
	}, timeout)
	require.Empty(t, sent())
	require.NoError(t, held.Nak()) // sooner than AckWait would
	b.eventually(func() any { return len(sent()) > 0 }, true)
	require.Equal(t, newer.At, sent()[0].At, "AtHoc had been sent the newer event before")
}

// TestStaleDutyIsClearedAfterALostStateStore: AtHoc's confirmation is lost with the state store.
func TestStaleDutyIsClearedAfterALostStateStore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.start()
	epoch := b.recovered("")
	b.mapping("m1", staff)

	e := booked("00001", 60*3, true)
	b.file("a", 1, e)
	b.wants(map[string]bool{"one@example.org": true})
	b.confirmed("one@example.org")
	b.stop()
	out := b.published()
	require.NoError(t, os.Remove(filepath.Join(b.cfg.Data.Directory, "resolver.db")))
	b.start()

	e.Row = 2
	b.publish(topology.EntriesSubject("a"), &event.Entries{File: "a", Sequence: 1, Last: true, Settled: true, Entries: []event.Entry{e}})
	b.recovered(epoch)
	b.eventually(func() any { return b.published() }, out+1) // what AtHoc holds is no longer known
	b.confirmed("one@example.org")
	ahead.Store(int64(30 * 24 * time.Hour))

	answer := b.observe(control.Expire, true, control.ObservedUser{User: "one@example.org", On: true, At: e.At})
	require.Equal(t, 1, answer.Published, "duty of a month ago: %+v", answer)
}

// TestATableThatIsLostIsNoticed: another service recreates the table before the resolver checks.
func TestATableThatIsLostIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00002": "Two@example.org"})
	b.file("a", 1, booked("00001", 10, true))
	b.settled("a", map[int]event.Outcome{2: event.Unmapped}) // final: ingest will not read the row again
	b.mapping("m2", staff)
	b.wants(map[string]bool{"one@example.org": true}) // and no publisher has sent it
	b.idle()
	b.server.Down(t)
	require.NoError(t, os.RemoveAll(b.server.Dir()))

	lost := time.Now()

	b.server.Up(t)
	await.True(t, func() bool {
		settings := topology.Settings{Replicas: 1, EntriesMaxBytes: b.cfg.Broker.EntriesMaxBytes, CallTimeout: b.cfg.Calls.Timeout}
		return topology.Provision(t.Context(), b.conn.JS, settings, topology.Everyone) == nil
	}, timeout)
	b.wants(map[string]bool{"one@example.org": true})
	life := topology.From(b.cfg.Broker, b.cfg.Calls).LeaseTTL()
	require.Greater(t, time.Since(lost), life-2*time.Second, "a call that held a lease from the lost store may have been under way")
}

// TestInventedEmployeesDoNotFillTheStore: invented workers are limited in number, and those who turn out to be real are
// found again in the files.
func TestInventedEmployeesDoNotFillTheStore(t *testing.T) {
	t.Parallel()
	const n, kept = 60_000, 50_000
	b := newBench(t)
	b.start()
	epoch := b.recovered("")
	b.mapping("m1", map[string]string{"00001": "one@example.org"})

	real := booked("00002", 600, true)
	b.file("real", 1, real, booked("00001", 600, true))
	b.settled("real", map[int]event.Outcome{2: event.Unmapped})

	for at := 0; at < n; at += 500 {
		m := event.Entries{File: "invented", Sequence: 2, Last: at+500 == n}
		for i := at; i < at+500; i++ {
			e := booked(fmt.Sprintf("x%07d", i), 300, true)
			e.Row = i + 2
			m.Entries = append(m.Entries, e)
		}

		b.publish(topology.EntriesSubject(m.File), &m)
	}

	b.idle()

	state := func() control.ResolverState {
		var all []control.ResolverState
		await.True(t, func() bool {
			var err error
			all, err = control.AskAll[control.ResolverState](t.Context(), b.conn.NC, topology.Resolver, control.State, control.Nothing{})
			return err == nil && len(all) == 1
		}, timeout, "it is missed if it is late")

		return all[0]
	}
	require.LessOrEqual(t, state().Unmapped, kept)
	require.Zero(t, state().Unresolved)
	require.Len(t, b.outcomes()["invented"], n, "their rows are settled")
	b.wants(map[string]bool{"one@example.org": true})
	b.restart()
	require.LessOrEqual(t, state().Unmapped, kept)

	b.mapping("m2", staff)
	b.eventually(func() any { return state().Recovered }, false)

	real.Row = 2
	b.publish(topology.EntriesSubject("real"), &event.Entries{File: "real", Sequence: 1, Last: true, Settled: true, Entries: []event.Entry{real}})
	b.recovered(epoch)
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
}

// TestARepeatMindsWhoHasTheUserNow: a call was given up, and another worker got the user afterwards.
func TestARepeatMindsWhoHasTheUserNow(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00001": "one@example.org"})
	b.file("a", 1, booked("00001", 30, true), booked("00002", 10, false))
	b.wants(map[string]bool{"one@example.org": true})
	b.answered(b.table()["one@example.org"], event.Pending, time.Now())
	b.mapping("m2", map[string]string{"00002": "one@example.org"})
	b.wants(map[string]bool{"one@example.org": false})
	b.confirmed("one@example.org")
	out := b.published()

	ahead.Store(int64(time.Hour)) // far longer than AtHoc may be late
	b.eventually(func() any { return b.published() }, out+1)
	u := b.table()["one@example.org"]
	require.Equal(t, "00002", u.Employee, "the user is worker 00002: %+v", u)
	require.Equal(t, event.ReasonRepeat, u.Reason)
}

// TestARepeatMindsWhoseUserItWas: a call was given up, and then two workers exchanged their users. The call may still
// overwrite what was sent for the worker who has its user now.
func TestARepeatMindsWhoseUserItWas(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00001": "one@example.org", "00002": "Two@example.org"})
	b.file("a", 1, booked("00001", 30, false), booked("00002", 10, true))
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": true})
	b.answered(b.table()["one@example.org"], event.Pending, time.Now())
	b.mapping("m2", map[string]string{"00001": "Two@example.org", "00002": "one@example.org"})
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": false})
	b.confirmed("one@example.org", "Two@example.org")
	ahead.Store(int64(time.Hour)) // far longer than AtHoc may be late
	b.eventually(func() any { return b.table()["one@example.org"].Reason }, event.ReasonRepeat)
	require.True(t, b.table()["one@example.org"].On)
}

// TestARepeatWaitsWhateverThePublishersClockSays: the publisher's clock is wrong by an hour, in either direction. If a
// status is resent too soon, the late call could overwrite it; if too late, it stays wrong for long.
func TestARepeatWaitsWhateverThePublishersClockSays(t *testing.T) {
	t.Parallel()

	for name, wrong := range map[string]time.Duration{"slow": -time.Hour, "fast": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			ahead := b.clock()
			b.ready()
			b.file("a", 1, booked("00001", 30, true))
			b.wants(map[string]bool{"one@example.org": true})
			b.answered(b.table()["one@example.org"], event.Pending, time.Now().Add(wrong))
			time.Sleep(time.Second) // the resolver checks ten times a second what is due
			require.Equal(t, event.ReasonEvent, b.table()["one@example.org"].Reason, "AtHoc may still be working on the call")
			ahead.Store(int64(5 * time.Second)) // a little more than twice the longest that a call takes
			b.eventually(func() any { return b.table()["one@example.org"].Reason }, event.ReasonRepeat)
		})
	}
}

// TestAMappingThereAndBack: a user goes to another worker and back, as after a mistyped id that was fixed.
func TestAMappingThereAndBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00001": "one@example.org"})
	b.file("a", 1, booked("00001", 30, false), booked("00002", 10, true))
	b.wants(map[string]bool{"one@example.org": false})
	b.confirmed("one@example.org")
	b.mapping("m2", map[string]string{"00002": "one@example.org"})
	b.wants(map[string]bool{"one@example.org": true})
	b.confirmed("one@example.org")
	b.mapping("m3", map[string]string{"00001": "one@example.org"})
	b.wants(map[string]bool{"one@example.org": false})
}

// TestAMappingThereAndBackWhileAnswersAreLate: the answer to what was sent before another worker had the user is read
// only after the user is back. It says nothing about what AtHoc holds by then.
func TestAMappingThereAndBackWhileAnswersAreLate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00001": "one@example.org"})
	b.file("a", 1, booked("00001", 30, true), booked("00002", 10, false))
	b.wants(map[string]bool{"one@example.org": true})
	first := b.table()["one@example.org"]
	b.sendUntil(1)
	b.mapping("m2", map[string]string{"00002": "one@example.org"})
	b.wants(map[string]bool{"one@example.org": false})
	b.sendUntil(2)

	b.busy() // so that what follows from the next mapping waits
	b.restart()
	b.mapping("m3", map[string]string{"00001": "one@example.org"})
	b.idle()
	b.answered(first, event.Applied, time.Now())
	defer b.publishers()()

	b.eventually(func() any { return b.table()["one@example.org"].On }, true)
}
