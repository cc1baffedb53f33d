package resolver_test

import (
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/services/resolver"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/topology"
)

// TestMain runs more tests at a time than there are cores: each has a broker and a resolver of its own and mostly waits
// for them.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}

	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(bustest.LeftBehind))
}

const timeout = 2 * time.Minute

// bench is a resolver at work between a real broker and a test that plays all other services.
type bench struct {
	t      *testing.T
	server *bustest.Server
	conn   *bus.Conn
	cfg    resolver.Config
	// now is the resolver's clock; nil for the real one.
	now  func() time.Time
	stop func()
	// hit, if not nil, is called before each step of the resolver that leaves something behind.
	hit func() error
	// crashed is closed when the resolver has reached the step at which it should crash; see crashAt.
	crashed chan struct{}
}

func newBench(t *testing.T) *bench {
	server := bustest.Start(t)
	b := &bench{t: t, server: server, conn: server.Connect(t)}
	require.NoError(t, config.Load(t.Context(), config.Map(map[string]string{
		"DATA_DIRECTORY": t.TempDir(), "NATS_URL": server.ClientURL(), "ATHOC_TIMEOUT": "2s",
	}), &b.cfg))

	return b
}

// clock gives the resolver a clock that stands still, however slow the machine is. The value that is returned puts it
// forward, in nanoseconds.
func (b *bench) clock() *atomic.Int64 {
	began, ahead := time.Now(), &atomic.Int64{}
	b.now = func() time.Time { return began.Add(time.Duration(ahead.Load())) }
	return ahead
}

// start runs the resolver until the end of the test or until stop.
func (b *bench) start() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	conn := b.server.Connect(b.t)
	go func() {
		hit := b.hit
		if hit == nil {
			hit = func() error { return nil }
		}

		done <- resolver.RunHit(ctx, b.cfg, program.Deps{Conn: conn, Log: bustest.Logger(), Now: b.now}, hit)
	}()

	stopped := false
	b.stop = func() {
		if stopped {
			return
		}

		stopped = true

		cancel()
		require.NoError(b.t, <-done)
	}
	b.t.Cleanup(b.stop)
}

// provision creates the streams before the resolver does, so that a test can publish first.
func (b *bench) provision() {
	b.t.Helper()
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: b.cfg.Broker.EntriesMaxBytes, CallTimeout: b.cfg.Calls.Timeout}
	require.NoError(b.t, topology.Provision(b.t.Context(), b.conn.JS, settings, topology.Everyone))
}

func (b *bench) publish(subject string, e event.Versioned) {
	b.t.Helper()
	_, err := b.conn.JS.Publish(b.t.Context(), subject, event.Encode(e))
	require.NoError(b.t, err)
}

// recovered plays ingest: it waits until the resolver's state store is announced, and then says that everything has
// been read again.
func (b *bench) recovered(before string) string {
	b.t.Helper()
	var epoch event.StoreEpoch
	await.True(b.t, func() bool {
		kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
		if err != nil {
			return false
		}

		entry, err := kv.Get(b.t.Context(), topology.KeyResolverEpoch)

		return err == nil && event.Decode(entry.Value(), &epoch) == nil && epoch.Epoch != before
	}, timeout)
	b.publish(topology.SubjectRecovered, &event.Recovered{Epoch: epoch.Epoch})

	return epoch.Epoch
}

func (b *bench) mapping(snapshot string, users map[string]string) {
	b.t.Helper()
	b.publish(topology.SubjectMapping, &event.MappingChunk{Snapshot: snapshot, Taken: time.Now(), Chunks: 1, Users: users})
}

// file publishes the entries of one file; the name of a file serves as its id.
func (b *bench) file(name string, order int64, entries ...event.Entry) {
	b.t.Helper()

	for i := range entries {
		entries[i].Row = i + 2
	}

	b.publish(topology.EntriesSubject(name), &event.Entries{File: name, Sequence: order, Last: true, Entries: entries})
}

// booked returns an entry from some minutes ago.
func booked(employee string, minutesAgo int, on bool) event.Entry {
	return event.Entry{Employee: employee, At: time.Now().Add(-time.Duration(minutesAgo) * time.Minute).Unix(), On: on}
}

// table reads what the resolver wants AtHoc to say.
func (b *bench) table() map[string]event.Update {
	out := map[string]event.Update{}
	for _, data := range b.messages(topology.StreamUpdates) {
		var u event.Update
		require.NoError(b.t, event.Decode(data, &u))
		out[u.User] = u
	}

	return out
}

// outcomes reads the outcomes of rows, by file.
func (b *bench) outcomes() map[string]map[int]event.Outcome {
	out := map[string]map[int]event.Outcome{}
	for _, data := range b.messages(topology.StreamAcks) {
		var a event.Acks
		require.NoError(b.t, event.Decode(data, &a))

		for _, rows := range a.Rows {
			if out[rows.File] == nil {
				out[rows.File] = map[int]event.Outcome{}
			}

			for first, last := range rows.Rows.Runs() {
				for row := first; row <= last; row++ {
					if _, settled := out[rows.File][row]; !settled {
						out[rows.File][row] = rows.Settled()
					}
				}
			}
		}
	}

	return out
}

func (b *bench) messages(stream string) [][]byte {
	var out [][]byte

	s, err := b.conn.JS.Stream(b.t.Context(), stream)
	if err != nil {
		return nil
	}

	state := s.CachedInfo().State
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(b.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}

		require.NoError(b.t, err)

		out = append(out, m.Data)
	}

	return out
}

// wants waits until AtHoc should show on duty for the users given as true, off duty for those given as false, and
// nothing for any others.
func (b *bench) wants(want map[string]bool) {
	b.t.Helper()
	b.eventually(func() any {
		got := map[string]bool{}
		for user, u := range b.table() {
			got[user] = u.On
		}

		return got
	}, want)
}

func (b *bench) settled(file string, want map[int]event.Outcome) {
	b.t.Helper()
	b.eventually(func() any { return b.outcomes()[file] }, want)
}

// eventually polls until got equals want, and shows the last difference if it never does.
func (b *bench) eventually(got func() any, want any) {
	b.t.Helper()
	await.Equal(b.t, want, got, timeout)
}

// idle waits until everything that was published has been handled.
func (b *bench) idle() {
	b.t.Helper()

	for stream, consumer := range map[string]string{
		topology.StreamEntries: topology.ConsumerResolverEntries, topology.StreamAcks: topology.ConsumerResolverAcks,
		topology.StreamMapping: topology.ConsumerResolverMapping,
	} {
		await.True(b.t, func() bool {
			drained, err := bustest.Drained(b.t.Context(), b.conn.JS, stream, consumer)
			return err == nil && drained
		}, timeout, consumer)
	}
}

var staff = map[string]string{"00001": "one@example.org", "00002": "Two@example.org", "00003": "three@example.org"}

func TestTheLatestEventWinsOverAllFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.file("a", 1, booked("00001", 10, true), booked("00002", 9, true), booked("00001", 8, false), booked("99999", 5, true))
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": true})
	b.settled("a", map[int]event.Outcome{2: event.Superseded, 5: event.Unmapped})

	b.file("late", 2, booked("00002", 30, false), booked("00003", 60*25, true))
	b.settled("late", map[int]event.Outcome{2: event.Superseded, 3: event.Expired})
	b.file("new", 3, booked("00002", 1, false))
	b.wants(map[string]bool{"one@example.org": false, "Two@example.org": false})
	b.settled("a", map[int]event.Outcome{2: event.Superseded, 3: event.Superseded, 5: event.Unmapped})

	u := b.table()["Two@example.org"]
	require.Equal(t, "new", u.File)
	require.Equal(t, 2, u.Version.Row)
	require.Equal(t, "00002", u.Employee)
}

func TestEntriesWaitForTheFirstMapping(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.file("a", 1, booked("00001", 10, true))
	b.mapping("m1", staff)
	b.wants(map[string]bool{"one@example.org": true})
	require.Empty(t, b.outcomes(), "nobody was taken for unmapped")
}

func TestALateMappingBringsTheStatus(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00001": "one@example.org"})
	b.file("a", 1, booked("00002", 10, true), booked("00001", 60*30, true))
	b.settled("a", map[int]event.Outcome{2: event.Unmapped, 3: event.Expired})
	b.mapping("m2", staff)
	b.wants(map[string]bool{"Two@example.org": true})

	b.mapping("m3", map[string]string{"00001": "one@example.org", "00002": "renamed@example.org"})
	b.wants(map[string]bool{"Two@example.org": true, "renamed@example.org": true})
}

// TestAMappingComesWholeOrNotAtAll: a snapshot with a missing chunk changes nothing.
func TestAMappingComesWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.publish(topology.SubjectMapping, &event.MappingChunk{Snapshot: "m2", Index: 0, Chunks: 2, Users: map[string]string{"00001": "half@example.org"}})
	b.idle()
	b.file("a", 1, booked("00001", 10, true), booked("00002", 10, true))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	b.publish(topology.SubjectMapping, &event.MappingChunk{Snapshot: "m2", Index: 1, Chunks: 2, Users: map[string]string{"00002": "half2@example.org"}})
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true, "half@example.org": true, "half2@example.org": true})
}

// TestAConfirmedValueIsNotSentAgain: a worker who is known to be off duty and books off once more causes no update.
func TestAConfirmedValueIsNotSentAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.file("a", 1, booked("00001", 10, false))
	b.wants(map[string]bool{"one@example.org": false})
	u := b.table()["one@example.org"]
	b.publish(topology.SubjectAcks, &event.Acks{From: "publisher", Answers: []event.Answer{{
		User: u.User, Employee: u.Employee, File: u.File, Version: u.Version, Outcome: event.Applied, At: u.At,
	}}})
	b.idle()
	b.file("b", 2, booked("00001", 5, false))
	b.settled("b", map[int]event.Outcome{2: event.Applied})
	require.Equal(t, "a", b.table()["one@example.org"].File)
}

func TestAFileReadInPartIsHeldUntilItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.idle()

	first, second := booked("00001", 10, true), booked("00001", 5, false)
	first.Row, second.Row = 2, 3
	b.publish(topology.EntriesSubject("a"), &event.Entries{File: "a", Sequence: 1, Entries: []event.Entry{first}})
	b.idle()
	require.Empty(t, b.table(), "the rest of the file may change it")
	b.publish(topology.EntriesSubject("a"), &event.Entries{File: "a", Sequence: 1, Last: true, Entries: []event.Entry{second}})
	b.wants(map[string]bool{"one@example.org": false})
	s, err := b.conn.JS.Stream(t.Context(), topology.StreamUpdates)
	require.NoError(t, err)
	require.Equal(t, uint64(1), s.CachedInfo().State.LastSeq, "one update for two entries")
}

func TestWhatCannotBeReadIsDeadLettered(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.provision()

	for _, subject := range []string{topology.EntriesSubject("a"), topology.SubjectAcks, topology.SubjectMapping} {
		_, err := b.conn.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte(`{"v":99,"secret":"x"}`)})
		require.NoError(t, err)
	}

	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.file("a", 1, booked("00001", 10, true))
	b.wants(map[string]bool{"one@example.org": true})
	b.eventually(func() any { return len(b.messages(topology.StreamDead)) }, 3)

	for _, data := range b.messages(topology.StreamDead) {
		var d event.DeadLetter
		require.NoError(t, event.Decode(data, &d))
		require.Contains(t, d.Reason, "version 99")
		require.JSONEq(t, `{"v":99,"secret":"x"}`, string(d.Payload))
	}

	b.idle()
}

// TestAFreshStateStorePublishesNothingUntilItIsComplete: the state store is deleted. An older event from a file that
// still waits must not win over a newer one from a file that is done.
func TestAFreshStateStorePublishesNothingUntilItIsComplete(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	epoch := b.recovered("")
	b.mapping("m1", staff)

	first := booked("00001", 10, true)
	b.file("done", 2, first, booked("00002", 60, true))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	before := b.table()
	b.stop()
	require.NoError(t, os.Remove(filepath.Join(b.cfg.Data.Directory, "resolver.db")))

	b.file("waiting", 1, booked("00001", 30, false), booked("00002", 50, false), booked("00003", 20, true))
	b.start()
	b.idle()
	require.Equal(t, before, b.table(), "nothing is published before the recovery is complete")
	// What ingest does then: it publishes the files that are done, the files that wait, and the end.
	again := []event.Entry{first, booked("00002", 40, false)}
	again[0].Row, again[1].Row = 2, 7
	b.publish(topology.EntriesSubject("done"), &event.Entries{File: "done", Sequence: 2, Last: true, Settled: true, Entries: again})
	b.file("waiting", 1, booked("00001", 30, false), booked("00002", 50, false), booked("00003", 20, true))
	b.recovered(epoch)
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": false, "three@example.org": true})
	b.settled("waiting", map[int]event.Outcome{2: event.Superseded, 3: event.Superseded})
	require.Equal(t, before["one@example.org"], b.table()["one@example.org"], "what is known to be published is not published again")
}

// TestTheBrokersStoreIsLost: what was not confirmed is published again from the state store.
func TestTheBrokersStoreIsLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)
	b.file("a", 1, booked("00001", 10, true), booked("00002", 60, true))
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	u := b.table()["one@example.org"]
	b.publish(topology.SubjectAcks, &event.Acks{From: "publisher", Answers: []event.Answer{{
		User: u.User, Employee: u.Employee, File: u.File, Version: u.Version, Outcome: event.Applied, On: u.On, At: u.At,
	}}})
	b.idle()

	for _, stream := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamMapping} {
		require.NoError(t, b.conn.JS.DeleteStream(t.Context(), stream))
	}

	b.wants(map[string]bool{"Two@example.org": true})
	require.Equal(t, event.ReasonRecovery, b.table()["Two@example.org"].Reason)
	b.file("b", 2, booked("00003", 1, true))
	b.wants(map[string]bool{"Two@example.org": true, "three@example.org": true})
}

// TestTheBrokersAnswersAreLost: the stream of answers is recreated while the resolver is at work, so answers may be in
// no history; and what arrives in the new stream is read at once.
func TestTheBrokersAnswersAreLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ready()
	b.file("a", 1, booked("00001", 10, true))
	b.wants(map[string]bool{"one@example.org": true})
	acks, err := b.conn.JS.Stream(t.Context(), topology.StreamAcks)
	require.NoError(t, err)
	consumer, err := acks.Consumer(t.Context(), topology.ConsumerResolverAcks)
	require.NoError(t, err)
	require.NoError(t, b.conn.JS.DeleteStream(t.Context(), topology.StreamAcks))
	again, err := b.conn.JS.CreateStream(t.Context(), acks.CachedInfo().Config)
	require.NoError(t, err)
	_, err = again.CreateConsumer(t.Context(), consumer.CachedInfo().Config)
	require.NoError(t, err)
	var info event.HistoryInfo
	await.True(t, func() bool {
		stream, err := b.conn.JS.Stream(t.Context(), topology.StreamHistory)
		require.NoError(t, err)
		m, err := stream.GetLastMsgForSubject(t.Context(), topology.SubjectHistoryInfo)
		return err == nil && event.Decode(m.Data, &info) == nil && len(info.Gaps) == 1
	}, timeout)
	require.Less(t, info.Gaps[0].From, info.Gaps[0].To)
	b.confirmed("one@example.org")
	b.idle()
}

// TestWhatWasNotAnsweredIsSentAgainIfTheAnswersAreLost: otherwise it would count as under way for ever, and stale duty
// would never be cleared.
func TestWhatWasNotAnsweredIsSentAgainIfTheAnswersAreLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", map[string]string{"00002": "Two@example.org"})
	b.file("a", 1, booked("00001", 10, true), booked("00002", 10, true))
	b.settled("a", map[int]event.Outcome{2: event.Unmapped}) // final: ingest will not read the row again
	b.wants(map[string]bool{"Two@example.org": true})
	b.confirmed("Two@example.org")
	b.mapping("m2", staff)
	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": true})
	b.idle()
	out := b.published()
	b.stop()
	require.NoError(t, b.conn.JS.DeleteStream(t.Context(), topology.StreamAcks)) // the answer is lost with it
	b.start()
	b.eventually(func() any { return b.published() }, out+1)
	b.confirmed("one@example.org")
	b.idle()
	require.Equal(t, out+1, b.published(), "what was answered is known")
}

// TestRestartsAndRedeliveryChangeNothing: the resolver is stopped again and again in the middle of a backlog, and
// entries are delivered twice.
func TestRestartsAndRedeliveryChangeNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.start()
	b.recovered("")
	b.mapping("m1", staff)

	employees := slices.Sorted(maps.Keys(staff))
	for i := range 200 {
		e := booked(employees[i%3], 1000-i, i%2 == 0)
		for range 2 {
			b.file("f"+string(rune('a'+i%26))+string(rune('a'+i/26)), int64(i+1), e)
		}

		if i%50 == 25 {
			b.stop()
			b.start()
		}
	}

	b.wants(map[string]bool{"one@example.org": true, "Two@example.org": false, "three@example.org": false})
	b.idle()

	superseded := 0
	for _, rows := range b.outcomes() {
		for _, o := range rows {
			require.Equal(t, event.Superseded, o)

			superseded++
		}
	}

	require.Equal(t, 197, superseded, "all but each worker's last")
}
