package resolver_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// ask sends a request to the resolver once it is there.
func ask[Res, Req any](b *bench, endpoint string, req Req) (res Res, err error) {
	b.t.Helper()
	await.True(b.t, func() bool {
		res, err = control.Ask[Res](b.t.Context(), b.conn.NC, topology.Resolver, endpoint, req)
		return !errors.Is(err, control.ErrNobody)
	}, timeout, "the resolver does not serve operators")

	return res, err
}

func (b *bench) replay(req control.ReplayRequest) control.ReplayState {
	b.t.Helper()

	req.By = "me@here"
	state, err := ask[control.ReplayState](b, control.Replay, req)
	require.NoError(b.t, err)

	return state
}

func (b *bench) replays() []control.ReplayState {
	b.t.Helper()
	all, err := ask[[]control.ReplayState](b, control.Replays, control.Nothing{})
	require.NoError(b.t, err)
	return all
}

// state returns what the resolver reports of one replay.
func (b *bench) state(id string) control.ReplayState {
	b.t.Helper()

	for _, s := range b.replays() {
		if s.ID == id {
			return s
		}
	}

	b.t.Fatalf("replay %s is not in the list", id)

	return control.ReplayState{}
}

// ended waits until all of a replay is published.
func (b *bench) ended(id string) control.ReplayState {
	b.t.Helper()
	await.True(b.t, func() bool { return !b.state(id).Ended.IsZero() }, timeout)
	return b.state(id)
}

// refused expects a refusal with this text.
func refused(t *testing.T, err error, text string) {
	t.Helper()
	var refusal *control.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Contains(t, refusal.Text, text)
}

// answered plays the publisher: AtHoc has given this answer to an update.
func (b *bench) answered(u event.Update, o event.Outcome, when time.Time) {
	b.t.Helper()
	b.publish(topology.SubjectAcks, &event.Acks{From: "publisher", Answers: []event.Answer{{
		User: u.User, Employee: u.Employee, File: u.File, Version: u.Version, Outcome: o, On: u.On, At: u.At,
		Answered: when.Unix(),
	}}})
	b.idle()
}

// published counts the updates that were ever published.
func (b *bench) published() uint64 {
	b.t.Helper()
	s, err := b.conn.JS.Stream(b.t.Context(), topology.StreamUpdates)
	require.NoError(b.t, err)
	return s.CachedInfo().State.LastSeq
}

// waiting counts the updates in the table.
func (b *bench) waiting() uint64 {
	b.t.Helper()
	s, err := b.conn.JS.Stream(b.t.Context(), topology.StreamUpdates)
	require.NoError(b.t, err)
	return s.CachedInfo().State.Msgs
}

// sent plays publishers that have sent everything that waits.
func (b *bench) sent() {
	b.t.Helper()
	s, err := b.conn.JS.Stream(b.t.Context(), topology.StreamUpdates)
	require.NoError(b.t, err)
	require.NoError(b.t, s.Purge(b.t.Context()))
}

// restart stops the resolver, starts it again, and waits until it consumes everything again.
func (b *bench) restart() {
	b.t.Helper()
	b.stop()
	b.start()
	b.publish(topology.SubjectAcks, &event.Acks{From: "nobody"})
	b.publish(topology.EntriesSubject("empty"), &event.Entries{File: "empty", Last: true})
	b.publish(topology.SubjectMapping, &event.MappingChunk{Snapshot: "a part of one", Chunks: 2})
	b.idle()
}

// ready starts a resolver that knows the staff.
func (b *bench) ready() {
	b.t.Helper()
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.idle()
}

func TestReplayChoosesWhomToSend(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()

	now := time.Now()

	b.file("a", 1, booked("00001", 90, false), booked("00002", 60, true), booked("99999", 5, true))
	b.file("b", 2, booked("00001", 10, true), booked("00003", 60, false))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true, "three@example.org": false})
	want := b.table()
	b.answered(want["Two@example.org"], event.Applied, now.Add(-time.Hour))
	b.answered(want["three@example.org"], event.Applied, now)
	entries, err := b.conn.JS.Stream(t.Context(), topology.StreamEntries)
	require.NoError(t, err)

	late := entries.CachedInfo().State.LastTime.Add(time.Nanosecond)

	b.file("c", 3, booked("00003", 70, true), booked("88888", 5, true))
	b.idle()

	for _, c := range []struct {
		name    string
		req     control.ReplayRequest
		what    string
		users   []string
		entries int
	}{
		{"since", control.ReplayRequest{Since: now.Add(-15 * time.Minute)}, "changed since", []string{"one@example.org", "three@example.org"}, 0},
		{"all", control.ReplayRequest{All: true}, "everyone", []string{"Two@example.org", "one@example.org", "three@example.org"}, 0},
		{"workers", control.ReplayRequest{Workers: []string{"00002", "99999", "77777"}}, "3 workers", []string{"Two@example.org"}, 0},
		{"users", control.ReplayRequest{Users: []string{"TWO@example.org", "nobody"}}, "2 users", []string{"Two@example.org"}, 0},
		{"file", control.ReplayRequest{File: "a"}, "file a", []string{"Two@example.org", "one@example.org"}, 3},
		{"entries since", control.ReplayRequest{EntriesSince: late}, "entries since", []string{"three@example.org"}, 2},
		{"nobody", control.ReplayRequest{Workers: []string{"99999"}}, "1 workers", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dry := c.req
			dry.DryRun = true
			known, before := len(b.replays()), b.published()
			told := b.replay(dry)
			require.Equal(t, len(c.users), told.Users)
			require.Equal(t, c.entries, told.Entries)

			b.sent()
			state := b.replay(c.req)
			require.Equal(t, "me@here", state.By)
			require.Contains(t, state.What, c.what)
			require.Equal(t, c.entries, state.Entries)
			require.Equal(t, len(c.users), state.Users)
			state = b.ended(state.ID)
			require.Zero(t, state.Left)
			require.False(t, state.Stopped)
			require.Len(t, b.replays(), known+1, "a dry run leaves no record")
			require.Equal(t, before+uint64(len(c.users)), b.published(), "each once, and a dry run nothing")
			got := b.table()
			require.Len(t, got, len(c.users))

			for _, user := range c.users {
				u := want[user]
				u.Reason = event.ReasonReplay
				require.Equal(t, u, got[user], "the latest event and no other")
			}
		})
	}
}

func TestReplayIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	_, err := ask[control.ReplayState](b, control.Replay, control.ReplayRequest{All: true})
	refused(t, err, "still making good what was lost")
	_, err = ask[control.RequeueAnswer](b, control.Requeue, control.RequeueRequest{Update: event.Update{Employee: "00001", File: "a"}})
	refused(t, err, "still making good what was lost")
	require.Equal(t, []control.ReplayState{}, b.replays())

	b.recovered("")
	b.mapping("m1", staff)
	b.idle()
	_, err = ask[control.ReplayState](b, control.Replay, control.ReplayRequest{})
	refused(t, err, "exactly one way; 0")
	_, err = ask[control.ReplayState](b, control.Replay, control.ReplayRequest{All: true, Workers: []string{"00001"}})
	refused(t, err, "exactly one way; 2")

	for _, id := range []string{"", "0195d3"} {
		_, err = ask[control.ReplayState](b, control.StopReplay, control.StopRequest{ID: id})
		refused(t, err, "under way")
	}

	require.Empty(t, b.replays())
}

// TestReplayOfStaleDuty: duty that began too long ago is replayed as off duty.
func TestReplayOfStaleDuty(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.ready()
	b.file("a", 1, booked("00001", 10, true))
	b.wants(map[string]bool{"one@example.org": true})
	b.answered(b.table()["one@example.org"], event.Applied, time.Now())
	ahead.Store(int64(24 * time.Hour))
	b.ended(b.replay(control.ReplayRequest{All: true}).ID)
	u := b.table()["one@example.org"]
	require.False(t, u.On)
	require.Equal(t, event.ReasonReplay, u.Reason)
}

// crowd maps many workers, gives each an event some minutes old, and sends all of it.
func (b *bench) crowd(n int) {
	b.t.Helper()
	b.start()
	b.recovered("")

	users := map[string]string{}
	entries := make([]event.Entry, 0, n)
	for i := range n {
		employee := fmt.Sprintf("%05d", i)
		users[employee] = "w" + employee + "@example.org"
		entries = append(entries, booked(employee, 60, i%2 == 0))
	}

	b.mapping("m1", users)

	for part := range slices.Chunk(entries, 500) {
		for i := range part {
			part[i].Row = i + 2
		}

		b.publish(topology.EntriesSubject("crowd"), &event.Entries{File: "crowd", Sequence: 1, Last: true, Entries: part})
	}

	b.sendUntil(uint64(n))
}

// sendUntil plays publishers that send whatever waits, until a number of updates were published in all.
func (b *bench) sendUntil(published uint64) {
	b.t.Helper()
	stop := b.publishers()
	await.True(b.t, func() bool { return b.published() == published }, timeout)
	stop()
	b.sent()
}

// publishers plays publishers that send whatever waits, until they are stopped. The table stays as it is.
func (b *bench) publishers() (stop func()) {
	b.t.Helper()

	var stops []func()
	for partition := range topology.Partitions {
		c, err := b.conn.JS.Consumer(b.t.Context(), topology.StreamUpdates, topology.PartitionConsumer(partition))
		require.NoError(b.t, err)
		consuming, err := c.Consume(func(m jetstream.Msg) { _ = m.Ack() })
		require.NoError(b.t, err)

		stops = append(stops, func() {
			consuming.Stop()
			<-consuming.Closed()
		})
	}

	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// busy fills the table of updates with as much as the next call carries, and returns how many updates were published by
// then.
func (b *bench) busy() uint64 {
	b.t.Helper()

	for i := range 1000 {
		u := event.Update{User: fmt.Sprintf("filler %d", i)}
		_, err := b.conn.JS.PublishMsgAsync(&nats.Msg{Subject: topology.UpdatesSubject(u.User), Data: event.Encode(&u)})
		require.NoError(b.t, err)
	}

	<-b.conn.JS.PublishAsyncComplete()
	await.True(b.t, func() bool {
		pending := uint64(0)
		for partition := range topology.Partitions {
			c, err := b.conn.JS.Consumer(b.t.Context(), topology.StreamUpdates, topology.PartitionConsumer(partition))
			require.NoError(b.t, err)

			pending += c.CachedInfo().NumPending
		}

		return pending == 1000
	}, timeout)

	return b.published()
}

// TestReplayGoesOnInParts: the replay waits while AtHoc has enough to do, so that a present event overtakes it; it goes
// on after a restart; and it does not send workers who got a newer event meanwhile.
func TestReplayGoesOnInParts(t *testing.T) {
	t.Parallel()
	const n, part = 2500, 1000
	b := newBench(t)
	b.crowd(n)
	before := b.busy()
	began := time.Now().Add(-time.Second)
	id := b.replay(control.ReplayRequest{All: true}).ID
	require.Equal(t, n, b.state(id).Left)

	b.file("new", 2, booked("00007", 1, true))
	await.True(t, func() bool { return b.published() == before+1 }, timeout)
	require.Equal(t, n-1, b.state(id).Left, "a newer event has sent it, and nothing else is sent")

	b.restart()
	state := b.state(id)
	require.Equal(t, n-1, state.Left)
	require.Equal(t, n, state.Users)
	require.Equal(t, "me@here", state.By)
	require.Equal(t, "everyone", state.What)
	require.WithinRange(t, state.Started, began, time.Now())
	require.Zero(t, state.Ended)

	b.sent()
	await.True(t, func() bool { return n-1-b.state(id).Left >= part }, timeout)
	b.stop()
	out := int(b.published() - before - 1)
	require.Less(t, out, n-1, "not all of it at a time")
	b.restart()
	require.Equal(t, n-1-out, b.state(id).Left)
	require.Equal(t, before+1+uint64(out), b.published())

	defer b.publishers()()

	state = b.ended(id)

	replayed := b.table()
	for _, u := range replayed {
		require.Equal(t, event.ReasonReplay, u.Reason, "%+v", u)
	}

	require.Zero(t, state.Left)
	require.Equal(t, before+n, b.published(), "each once")
	require.Len(t, replayed, n-1)
	require.NotContains(t, replayed, "w00007@example.org")

	b.restart()
	require.Equal(t, []control.ReplayState{state}, b.replays(), "the record stays")
}

func TestReplayIsStopped(t *testing.T) {
	t.Parallel()
	const n = 1200
	b := newBench(t)
	b.crowd(n)
	before := b.busy()
	id := b.replay(control.ReplayRequest{All: true}).ID
	other := b.replay(control.ReplayRequest{Workers: []string{"00001"}}).ID
	require.Equal(t, n-1, b.state(id).Left, "the later replay sends this worker")
	_, err := ask[control.ReplayState](b, control.StopReplay, control.StopRequest{ID: id[:4]})
	refused(t, err, "several replays")

	stopped, err := ask[control.ReplayState](b, control.StopReplay, control.StopRequest{ID: id, By: "you@there"})
	require.NoError(t, err)
	require.True(t, stopped.Stopped)
	require.Equal(t, n-1, stopped.Left)
	require.NotZero(t, stopped.Ended)
	require.Equal(t, stopped, b.state(id))
	_, err = ask[control.ReplayState](b, control.StopReplay, control.StopRequest{ID: id})
	refused(t, err, "under way")

	b.restart()
	require.Equal(t, stopped, b.state(id), "it stays stopped")
	require.Equal(t, 1, b.state(other).Left)
	b.sent()
	b.ended(other)
	require.Equal(t, before+1, b.published(), "only the other replay goes on")
	require.Contains(t, b.table(), "w00001@example.org")
}

// TestAForgottenReplayIsFinished: so many replays followed that its record is gone. Its users are sent all the same,
// and nobody else waits for ever.
func TestAForgottenReplayIsFinished(t *testing.T) {
	t.Parallel()
	const n = 1200
	b := newBench(t)
	b.crowd(n)

	before := b.busy()
	id := b.replay(control.ReplayRequest{All: true}).ID
	for range 102 {
		b.replay(control.ReplayRequest{Workers: []string{"nobody"}})
	}

	require.False(t, slices.ContainsFunc(b.replays(), func(s control.ReplayState) bool { return s.ID == id }))
	b.sendUntil(before + n)
	last := b.replay(control.ReplayRequest{Workers: []string{"00001"}})
	b.ended(last.ID)
	require.Equal(t, before+n+1, b.published())
}

// TestReplayLeavesWhatIsBeingResolved: a worker whose newest event is held back, because its file is not read to the
// end, is sent once, by that event.
func TestReplayLeavesWhatIsBeingResolved(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 60, false), booked("00002", 60, true))
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": true})

	first, second := booked("00001", 10, true), booked("00001", 5, false)
	first.Row, second.Row = 2, 3
	b.publish(topology.EntriesSubject("b"), &event.Entries{File: "b", Sequence: 2, Entries: []event.Entry{first}})
	b.idle()
	id := b.replay(control.ReplayRequest{All: true}).ID
	await.True(t, func() bool { return b.table()["Two@example.org"].Reason == event.ReasonReplay }, timeout)
	require.Equal(t, 1, b.state(id).Left)
	b.publish(topology.EntriesSubject("b"), &event.Entries{File: "b", Sequence: 2, Last: true, Entries: []event.Entry{second}})
	b.ended(id)
	await.NoFailure(t, func(c *await.Try) {
		u := b.table()["one@example.org"]
		assert.Equal(c, "b", u.File)
		assert.Equal(c, 3, u.Version.Row)
		assert.Equal(c, event.ReasonEvent, u.Reason)
	}, timeout)
	require.Equal(t, uint64(2+1+1), b.published())
}

// TestAReplayThatIsLostWithTheBrokersStore: what a replay has published and AtHoc has not answered is published again,
// although AtHoc had confirmed the same value before.
func TestAReplayThatIsLostWithTheBrokersStore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 10, true))
	b.wants(map[string]bool{"one@example.org": true})
	b.answered(b.table()["one@example.org"], event.Applied, time.Now())
	b.idle() // the answer is known before the replay begins
	b.ended(b.replay(control.ReplayRequest{All: true}).ID)
	b.idle()

	for _, stream := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamMapping} {
		require.NoError(t, b.conn.JS.DeleteStream(t.Context(), stream))
	}

	await.True(t, func() bool { return b.table()["one@example.org"].Reason == event.ReasonRecovery }, timeout)
}

func (b *bench) requeue(u event.Update) (control.RequeueAnswer, error) {
	b.t.Helper()
	return ask[control.RequeueAnswer](b, control.Requeue, control.RequeueRequest{Update: u, By: "me@here"})
}

// dead makes dead letters of updates, as a publisher does, and returns their ids.
func (b *bench) dead(updates ...event.Update) (ids []uint64) {
	b.t.Helper()

	for _, u := range updates {
		l := event.DeadLetter{Service: "publisher", Subject: topology.UpdatesSubject(u.User), Payload: event.Encode(&u), Died: time.Now()}
		ack, err := b.conn.JS.Publish(b.t.Context(), topology.DeadSubject(string(topology.Publisher)), event.Encode(&l))
		require.NoError(b.t, err)

		ids = append(ids, ack.Sequence)
	}

	return ids
}

func TestRequeue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ahead := b.clock()
	b.ready()
	b.file("a", 1, booked("00001", 60, true), booked("00002", 60, true), booked("00003", 60*23, true))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true, "three@example.org": true})

	died := b.table()
	for _, u := range died {
		b.answered(u, event.Dead, time.Now())
	}

	t.Run("the latest is sent again", func(t *testing.T) {
		answer, err := b.requeue(died["one@example.org"])
		require.NoError(t, err)
		require.False(t, answer.Superseded)

		want := died["one@example.org"]
		want.Reason = event.ReasonReplay
		require.Equal(t, want, b.table()["one@example.org"])
		require.Empty(t, b.outcomes()["a"], "its outcome comes with AtHoc's answer")
	})
	t.Run("one that a newer event has beaten is settled", func(t *testing.T) {
		b.file("b", 2, booked("00002", 5, false))
		b.wants(map[string]bool{"one@example.org": true, "Two@example.org": false, "three@example.org": true})
		before := b.published()
		would, err := ask[control.RequeueForecast](b, control.DeadForecast, control.DeadRequest{IDs: b.dead(died["one@example.org"], died["Two@example.org"], event.Update{User: "x"})})
		require.NoError(t, err)
		require.Equal(t, []int{1, 1, 0}, []int{would.Sent, would.Overtaken, would.ReadAgain})
		require.Len(t, would.Refused, 1, "it comes from no file")
		require.Equal(t, before, b.published(), "a forecast changes nothing")
		answer, err := b.requeue(died["Two@example.org"])
		require.NoError(t, err)
		require.True(t, answer.Superseded)
		b.settled("a", map[int]event.Outcome{3: event.Superseded})
		require.Equal(t, before, b.published(), "nothing is sent")
	})
	t.Run("duty that has become stale is cleared and its row is expired", func(t *testing.T) {
		ahead.Store(int64(2 * time.Hour))
		defer ahead.Store(0)

		answer, err := b.requeue(died["three@example.org"])
		require.NoError(t, err)
		require.False(t, answer.Superseded)
		require.False(t, b.table()["three@example.org"].On)
		b.settled("a", map[int]event.Outcome{3: event.Superseded, 4: event.Expired})
	})
	t.Run("an unknown worker", func(t *testing.T) {
		u := died["one@example.org"]
		u.Employee = "77777"
		_, err := b.requeue(u)
		refused(t, err, "copy the file")
	})
	t.Run("of no file", func(t *testing.T) {
		u := died["one@example.org"]
		u.File = ""
		_, err := b.requeue(u)
		refused(t, err, "dropped")
	})
	t.Run("nobody has the employee id any more", func(t *testing.T) {
		b.mapping("m2", map[string]string{"00002": "Two@example.org"})
		b.idle()
		before := b.published()
		_, err := b.requeue(died["one@example.org"])
		refused(t, err, "no AtHoc user")
		require.Equal(t, before, b.published())
	})
}
