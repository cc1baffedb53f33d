package janitor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/services/janitor/internal/leader"
	"bobosync/services/janitor/internal/mapping"
	"bobosync/services/janitor/internal/state"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/logging/logtest"
	"bobosync/shared/program"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

const wait, pollInterval, remakeInterval = 2 * time.Minute, 20 * time.Millisecond, time.Second

// soon is longer than the wait before a mapping is fetched that seems never to have been fetched.
const soon = 10 * time.Second

// world is a broker, an AtHoc, and a clock that can be advanced.
type world struct {
	t      *testing.T
	broker *bustest.Server
	conn   *bus.Conn
	js     jetstream.JetStream
	athoc  *sim.Simulator
	ahead  atomic.Int64
	logs   *logtest.Log
	seen   *telemetry.Telemetry
}

func newWorld(t *testing.T, o sim.Options) *world {
	t.Helper()
	w := &world{t: t, broker: bustest.Start(t), logs: &logtest.Log{}, seen: telemetry.New("test")}
	w.conn = w.broker.Connect(t)
	w.js = w.conn.JS
	var err error
	w.athoc, err = sim.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.athoc.Close()) })
	require.NoError(t, w.athoc.Start(t.Context(), "127.0.0.1:0"))

	return w
}

func (w *world) config() Config {
	var cfg Config
	require.NoError(w.t, config.Load(w.t.Context(), config.Map(map[string]string{
		"ATHOC_SERVER_URL": w.athoc.URL(), "CLIENT_ID": sim.DefaultClientID, "CLIENT_SECRET": sim.DefaultClientSecret,
		"APIUSER": sim.DefaultUsername, "PASSWORD": sim.DefaultPassword, "ORG_CODE": sim.DefaultOrgCode,
		"ATHOC_RATE_LIMIT": "1000", "ATHOC_TIMEOUT": "5s",
		// Each test switches on what it checks.
		"AUTO_CLEANUP_HOURS": "0", "RECONCILE": "off", "PROCESSED_FILES_PURGE_DAYS": "0", "JOURNAL_DAYS": "0",
	}), &cfg))

	return cfg
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// run starts a janitor. stop ends it and waits for its end; the end of the test does so in any case.
func (w *world) run(cfg Config) (stop func()) {
	w.t.Helper()
	conn := w.broker.Connect(w.t)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	log := w.logs.Logger(slog.LevelInfo)
	go func() {
		done <- run(ctx, cfg, program.Deps{Conn: conn, Log: log, Now: w.now, Version: "test", Telemetry: w.seen}, tuning{pollInterval: pollInterval, countInterval: pollInterval, remakeInterval: remakeInterval})
	}()

	stop = sync.OnceFunc(func() {
		cancel()

		select {
		case err := <-done:
			assert.NoError(w.t, err)
		case <-time.After(wait):
			w.t.Error("the janitor does not stop")
		}
	})
	w.t.Cleanup(stop)

	return stop
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	await.True(w.t, ok, wait, what)
}

// state returns the state of the mapping's stream.
func (w *world) state() (s jetstream.StreamState) {
	if stream, err := w.js.Stream(w.t.Context(), topology.StreamMapping); err == nil {
		s = stream.CachedInfo().State
	}
	return s
}

// mapping reads all messages of the stream, which must be the chunks of one snapshot.
func (w *world) mapping() map[string]string {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), topology.StreamMapping)
	require.NoError(w.t, err)

	s, all := stream.CachedInfo().State, map[string]string{}
	var snapshot string
	for seq := s.FirstSeq; seq <= s.LastSeq; seq++ {
		msg, err := stream.GetMsg(w.t.Context(), seq)
		require.NoError(w.t, err)
		var chunk event.MappingChunk
		require.NoError(w.t, event.Decode(msg.Data, &chunk))

		if seq == s.FirstSeq {
			snapshot = chunk.Snapshot
		}

		require.Equal(w.t, snapshot, chunk.Snapshot, "an older snapshot is still there")
		require.Equal(w.t, int(seq-s.FirstSeq), chunk.Index)
		require.Equal(w.t, int(s.Msgs), chunk.Chunks)
		maps.Copy(all, chunk.Users)
	}

	return all
}

// mapped waits until the stream holds one whole snapshot and nothing else, and returns its mapping.
func (w *world) mapped(users int) map[string]string {
	w.t.Helper()
	w.eventually(fmt.Sprintf("a mapping of %d", users), func() bool {
		rec := w.record()
		s := w.state()
		return rec.Users == users && s.LastSeq == rec.Last && s.FirstSeq == rec.First
	})

	return w.mapping()
}

func (w *world) record() (rec mapping.Record) {
	kv, err := w.js.KeyValue(w.t.Context(), topology.BucketState)
	if err != nil {
		return rec
	}

	if entry, err := kv.Get(w.t.Context(), mapping.RecordKey); err == nil {
		require.NoError(w.t, json.Unmarshal(entry.Value(), &rec))
	}

	return rec
}

func (w *world) searches() int { return w.athoc.Stats().Endpoints[sim.EndpointSearch].Calls }

// ask sends a request to the leading janitor.
func ask[Res, Req any](w *world, endpoint string, req Req) (Res, error) {
	return control.Ask[Res](w.t.Context(), w.conn.NC, topology.Janitor, endpoint, req)
}

// answerOf returns the leading janitor's answer.
func answerOf[Res, Req any](w *world, endpoint string, req Req) Res {
	w.t.Helper()
	res, err := ask[Res](w, endpoint, req)
	require.NoError(w.t, err)
	return res
}

// ended returns the journal's entries of a kind that have ended, newest first; none if no janitor leads.
func (w *world) ended(kind string) (ended []control.JournalEntry) {
	answer, err := ask[control.JournalAnswer](w, control.Journal, control.JournalRequest{Kind: kind})
	if err != nil {
		return nil
	}

	for _, e := range answer.Entries {
		if !e.Ended.IsZero() {
			ended = append(ended, e)
		}
	}

	return ended
}

// end waits until an order has ended, and returns its journal entry.
func (w *world) end(begun control.Begun) (entry control.JournalEntry) {
	w.t.Helper()
	w.eventually("the end of what was ordered", func() bool {
		got := answerOf[control.JournalAnswer](w, control.Journal, control.JournalRequest{ID: begun.Entry}).Entries
		require.Len(w.t, got, 1)
		entry = got[0]
		return !entry.Ended.IsZero()
	})

	return entry
}

// refreshed waits until a mapping is in force and nothing is being refreshed.
func (w *world) refreshed(users int) {
	w.t.Helper()
	w.mapped(users)
	w.eventually("the end of the refresh", func() bool { return w.leading().Jobs[0].Running.IsZero() })
}

// states returns the states of all instances.
func (w *world) states() []control.JanitorState {
	all, err := control.AskAll[control.JanitorState](w.t.Context(), w.conn.NC, topology.Janitor, control.State, control.Nothing{})
	require.NoError(w.t, err)
	return all
}

// leading returns the state of the leading instance.
func (w *world) leading() (state control.JanitorState) {
	w.t.Helper()
	w.eventually("a janitor at work", func() bool {
		for _, s := range w.states() {
			if s.Leads {
				state = s
				return true
			}
		}

		return false
	})

	return state
}

func wanted(users []sim.User) map[string]string {
	out := map[string]string{}
	for _, u := range users {
		out[u.Attributes[sim.DefaultCollar]] = u.LoginID
	}

	return out
}

func TestRefreshOf25000Users(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(25_000, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	require.Equal(t, wanted(users), w.mapped(25_000))
	assert.EqualValues(t, 5, w.state().Msgs)
	assert.Equal(t, 25, w.searches())
	assert.Equal(t, 1, w.athoc.Stats().Endpoints[sim.EndpointToken].Calls)
	assert.Equal(t, w.searches(), w.athoc.Stats().Endpoints[sim.EndpointSearch].ByStatus[200])
	assert.NotContains(t, w.logs.String(), "@example.org", "usernames are logged at DEBUG only")
	assert.NotContains(t, w.logs.String(), sim.DefaultPassword)

	// Days later, two users have exchanged their ids: the new mapping differs for these two.
	before := w.mapping()
	require.NoError(t, w.athoc.PutUsers(
		sim.User{LoginID: users[0].LoginID, Attributes: users[1].Attributes}, sim.User{LoginID: users[1].LoginID, Attributes: users[0].Attributes}))
	w.pass(3 * 24 * time.Hour)
	w.eventually("the other mapping", func() bool { s := w.state(); return s.LastSeq == 10 && s.Msgs == 5 })
	exchanged := w.mapping()
	assert.Len(t, exchanged, 25_000)
	maps.DeleteFunc(exchanged, func(id, user string) bool { return before[id] == user })
	assert.Len(t, exchanged, 2)
	assert.Equal(t, users[1].LoginID, w.mapping()[users[0].Attributes[sim.DefaultCollar]])
	w.eventually("the journal", func() bool { return len(w.ended(control.JobMapping)) == 2 })
	assert.Equal(t, map[string]int{
		"users": 25_000, "mapped": 25_000, "without_id": 0, "ambiguous_ids": 0, "added": 0, "changed": 2, "removed": 0,
	}, w.ended(control.JobMapping)[0].Counts)

	// Then one user was added and two were removed: the new mapping replaces the old one.
	require.NoError(t, w.athoc.PutUsers(sim.User{LoginID: "new@example.org", Attributes: map[string]string{sim.DefaultCollar: " 99999"}}))
	_, err := w.athoc.RemoveUsers(users[0].LoginID, users[1].LoginID)
	require.NoError(t, err)
	w.pass(3 * 24 * time.Hour)
	got := w.mapped(24_999)
	assert.Equal(t, "new@example.org", got["99999"])
	assert.NotContains(t, got, users[0].Attributes[sim.DefaultCollar])
	assert.EqualValues(t, 5, w.state().Msgs)
}

func TestUsersRemovedBetweenPages(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(3000, sim.DefaultCollar)
	var athoc atomic.Pointer[sim.Simulator]
	var once sync.Once
	w := newWorld(t, sim.Options{Users: users, OnCall: func(c sim.Call) {
		if c.Endpoint == sim.EndpointSearch && athoc.Load() != nil {
			once.Do(func() {
				for _, u := range users[10:20] { // ten others move onto the page that has just been read
					_, err := athoc.Load().RemoveUsers(u.LoginID)
					assert.NoError(t, err)
				}
			})
		}
	}})
	athoc.Store(w.athoc)
	w.run(w.config())
	got := w.mapped(2990)
	assert.Equal(t, wanted(append(users[:10:10], users[20:]...)), got)
	assert.EqualValues(t, 1, w.state().LastSeq, "nothing was published of the reading that missed ten users")
}

func TestAmbiguousAndAlikeIDsAreReportedWithoutNames(t *testing.T) {
	t.Parallel()

	collar := func(user, id string) sim.User {
		return sim.User{LoginID: user, Attributes: map[string]string{sim.DefaultCollar: id}}
	}
	w := newWorld(t, sim.Options{Users: []sim.User{
		collar("a@example.org", "1"), collar("b@example.org", "1 "), collar("c@example.org", "0777"), collar("d@example.org", "777"),
		{LoginID: "e@example.org"},
	}})
	w.run(w.config())
	assert.Equal(t, map[string]string{"0777": "c@example.org", "777": "d@example.org"}, w.mapped(2))
	w.eventually("the end of the refresh", func() bool { return w.logs.Has("INFO", `"without_id":1`) })
	assert.True(t, w.logs.Has("WARN", `"ids":1`))
	assert.True(t, w.logs.Has("WARN", `"groups":1`))
	assert.NotContains(t, w.logs.String(), "@example.org")
	assert.NotContains(t, w.logs.String(), "0777")
}

func TestOutageInTheMiddleThenRecovery(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(3000, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	// The first page is returned, then AtHoc is down for two calls.
	_, err := w.athoc.AddFault(sim.Fault{Kind: sim.FaultSlowBody, Hold: sim.Duration(20 * time.Millisecond), Scope: []string{sim.EndpointSearch}, Calls: 1})
	require.NoError(t, err)
	_, err = w.athoc.AddFault(sim.Fault{Kind: sim.FaultStatus, Status: 503, Scope: []string{sim.EndpointSearch}, Calls: 2})
	require.NoError(t, err)
	w.run(w.config())

	for failures := 1; failures <= 2; failures++ {
		w.eventually("a failure", func() bool { return w.logs.Has("WARN", fmt.Sprintf(`"failures":%d`, failures)) })
		assert.Zero(t, w.state().Msgs, "a refresh that fails half-way changes nothing")
		w.pass(2 * time.Minute)
	}

	assert.Equal(t, wanted(users), w.mapped(3000))
	assert.Equal(t, 2, w.athoc.Stats().Endpoints[sim.EndpointSearch].ByStatus[503])
}

func TestRestartAndRefreshWithNothingChangedPublishNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(100, sim.DefaultCollar)})
	stop := w.run(w.config())
	plans := func() int { return w.logs.Count(`"next run of a job"`) }

	w.refreshed(100)
	w.eventually("a plan", func() bool { return plans() == 1 })
	first := w.record()

	stop()

	searched := w.searches()

	stop = w.run(w.config())
	w.eventually("a plan", func() bool { return plans() == 2 })
	assert.Equal(t, searched, w.searches(), "a fresh mapping is not fetched again")
	w.pass(3 * 24 * time.Hour)
	w.eventually("a refresh", func() bool { return w.record().Refreshed.After(first.Refreshed) })
	stop()
	assert.Greater(t, w.searches(), searched)
	again := w.record()
	assert.Equal(t, first.Snapshot, again.Snapshot)
	assert.Equal(t, first.Last, w.state().LastSeq)
	assert.EqualValues(t, 1, w.state().Msgs)
}

func TestDeletedStreamGetsTheMappingAgain(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.mapped(100)
	first := w.record()
	require.NoError(t, w.js.DeleteStream(t.Context(), topology.StreamMapping))
	w.pass(soon)
	w.eventually("another snapshot", func() bool { return w.record().Snapshot != first.Snapshot })
	assert.Equal(t, wanted(users), w.mapped(100))

	// The record alone is no proof, either.
	second := w.record()
	stream, err := w.js.Stream(t.Context(), topology.StreamMapping)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	w.pass(soon)
	w.eventually("a third snapshot", func() bool { return w.record().Snapshot != second.Snapshot })
	assert.Equal(t, wanted(users), w.mapped(100))

	// And without the record nobody knows what the stream holds.
	third := w.record()
	kv, err := w.js.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), mapping.RecordKey))
	w.pass(soon)
	w.eventually("a fourth snapshot", func() bool { s := w.record().Snapshot; return s != "" && s != third.Snapshot })
	assert.Equal(t, wanted(users), w.mapped(100))
}

func TestLostStoreIsMadeAgain(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.mapped(100)
	first := w.record()
	require.NoError(t, w.js.DeleteStream(t.Context(), topology.StreamMapping))
	require.NoError(t, w.js.DeleteKeyValue(t.Context(), topology.BucketLeases))
	require.NoError(t, w.js.DeleteKeyValue(t.Context(), topology.BucketState))
	w.pass(soon)
	w.eventually("another snapshot", func() bool { s := w.record().Snapshot; return s != "" && s != first.Snapshot })
	assert.Equal(t, wanted(users), w.mapped(100))
	assert.Equal(t, 1, w.athoc.Stats().Endpoints[sim.EndpointToken].Calls, "the token is remembered")
}

// TestWhatNoSessionMissesIsMadeAgain checks that parts are recreated whose loss ends no session. Formerly, all orders
// were refused after the loss of the audit alone, and the history stood still.
func TestWhatNoSessionMissesIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(10, sim.DefaultCollar)})
	w.run(w.config())
	w.mapped(10)

	lost := []string{topology.StreamDead, topology.StreamJournal, topology.StreamAudit, topology.StreamHistory, "KV_" + topology.BucketAudit}
	for _, stream := range lost {
		require.NoError(t, w.js.DeleteStream(t.Context(), stream))
	}

	for _, stream := range lost {
		w.eventually(stream, func() bool { _, err := w.js.Stream(t.Context(), stream); return err == nil })
	}
}

func TestOneJanitorAtATime(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(2000, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	stopFirst := w.run(w.config())
	w.mapped(2000)
	w.run(w.config())
	w.eventually("the second to stand by", func() bool { return w.logs.Has("INFO", "this one is a follower") })
	assert.Equal(t, 2, w.searches())

	stopFirst()
	w.eventually("the second to take over", func() bool { return w.logs.Count("this instance is the leader\"") == 2 })
	assert.Equal(t, 2, w.searches(), "whoever takes over goes on where the other was")
	w.pass(3 * 24 * time.Hour)
	w.eventually("a refresh by the second", func() bool { return w.searches() == 4 })
}

func TestStandbyTakesOverFromOneThatDied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(10, sim.DefaultCollar)})
	cfg := w.config()
	cfg.Calls.Timeout = time.Second // leases last 4 s
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: cfg.Broker.EntriesMaxBytes, CallTimeout: cfg.Calls.Timeout}
	require.NoError(t, topology.Provision(t.Context(), w.js, settings, topology.Everyone))
	kv, err := w.js.KeyValue(t.Context(), topology.BucketLeases)
	require.NoError(t, err)

	renew := func() {
		_, err := kv.Put(t.Context(), leader.Key, nil)
		require.NoError(t, err)
	}
	renew()
	w.run(cfg)
	w.eventually("the janitor to stand by", func() bool {
		if w.logs.Has("INFO", "this one is a follower") {
			return true // from now on, nobody renews it
		}

		renew()

		return false
	})
	w.mapped(10)
}

func TestLeaseIsRenewedForAsLongAsTheJanitorWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(10, sim.DefaultCollar)})
	cfg := w.config()
	cfg.Calls.Timeout = time.Second
	stop := w.run(cfg)
	w.mapped(10)
	kv, err := w.js.KeyValue(t.Context(), topology.BucketLeases)
	require.NoError(t, err)
	entry, err := kv.Get(t.Context(), leader.Key)
	require.NoError(t, err)
	w.eventually("renewals past the first end", func() bool {
		now, err := kv.Get(t.Context(), leader.Key)
		require.NoError(t, err, "the lease ended under the janitor at work")
		return now.Created().Sub(entry.Created()) > 5*time.Second
	})
	assert.NotContains(t, w.logs.String(), "start over")
	stop()

	_, err = kv.Get(t.Context(), leader.Key)
	require.ErrorIs(t, err, jetstream.ErrKeyNotFound, "the lease is given back")
}

func TestSyncSwitchedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(10, sim.DefaultCollar)})
	cfg := w.config()
	cfg.Sync.Mappings = false
	stop := w.run(cfg)
	w.eventually("a word about it", func() bool { return w.logs.Has("WARN", "SYNC_MAPPINGS is false") })
	w.pass(100 * 24 * time.Hour)
	stop()
	assert.Zero(t, w.searches())
	assert.Zero(t, w.state().Msgs)
}

func TestConfig(t *testing.T) {
	t.Parallel()
	var cfg Config

	wrong := map[string]string{
		"SYNC_HOUR": "24", "SYNC_RETRY_DAYS": "0", "COLLAR_ID_FIELD": "login_id", "MAPPING_MAX_REMOVAL_PERCENT": "101",
		"CLEANUP_INTERVAL": "1ms", "AUTO_CLEANUP_HOURS": "-1", "RECONCILE": "perhaps", "RECONCILE_HOUR": "-1",
		"RECONCILE_MAX_CHANGE_PERCENT": "-1", "PROCESSED_FILES_PURGE_DAYS": "-1", "JOURNAL_DAYS": "-1",
	}
	err := config.Load(t.Context(), config.Map(wrong), &cfg)
	for name := range wrong {
		require.ErrorContains(t, err, name)
	}

	require.ErrorContains(t, err, "ATHOC_SERVER_URL")
	require.ErrorContains(t, err, "PASSWORD")

	cfg = Config{}

	err = config.Load(t.Context(), config.Map(nil), &cfg)
	for name := range wrong {
		require.NotContains(t, err.Error(), name, "the default is good")
	}

	assert.Equal(t, Sync{Mappings: true, Hour: 20, RetryDays: 2, CollarField: "Collar-Number", MaxRemovalPercent: 10}, cfg.Sync)
	assert.Equal(t, Reconcile{Mode: "report", Hour: 4, MaxChangePercent: 10}, cfg.Reconcile)
	assert.Equal(t, Cleanup{Interval: 5 * time.Minute}, cfg.Cleanup)
	assert.Equal(t, Retention{Files: 30, Journal: 90}, cfg.Retention)

	w := newWorld(t, sim.Options{})
	cfg = w.config()
	cfg.AtHoc.SSLCertPath = "no-such-file.pem"
	err = Run(t.Context(), cfg, program.Deps{Conn: w.broker.Connect(t), Log: bustest.Logger()})
	require.ErrorContains(t, err, "SSL_CERT_PATH")
}

// metric returns the sum of the janitor's metric with this name over the series that have all the given label values.
func (w *world) metric(name string, labels ...string) (sum float64) {
	w.t.Helper()
	families, err := w.seen.Gatherer().Gather()
	require.NoError(w.t, err)

	for _, f := range families {
		if !strings.HasSuffix(f.GetName(), "_janitor_"+name) {
			continue
		}

		for _, m := range f.GetMetric() {
			var values []string
			for _, pair := range m.GetLabel() {
				values = append(values, pair.GetValue())
			}

			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(values, l) }) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}

	return sum
}

// notes returns the state that the broker holds.
func (w *world) notes() (n state.State) {
	kv, err := w.js.KeyValue(w.t.Context(), topology.BucketState)
	if err != nil {
		return n
	}

	if entry, err := kv.Get(w.t.Context(), state.Key); err == nil {
		require.NoError(w.t, json.Unmarshal(entry.Value(), &n))
	}

	return n
}
