package publisher_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/cmd/athocsim/sim"
	"bobosync/services/publisher"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/cas"
	"bobosync/shared/config"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(bustest.LeftBehind)) }

const timeout = 60 * time.Second

// bench is publishers at work between a real broker and a simulated AtHoc.
type bench struct {
	t        *testing.T
	server   *bustest.Server
	conn     *bus.Conn
	athoc    *sim.Simulator
	cfg      publisher.Config
	sequence int64
	// file is the file that the updates come from.
	file string
	// log is the publishers' logger, and seen their telemetry, if they are set before start.
	log  *slog.Logger
	seen *telemetry.Telemetry
	// refusals counts the answers of refuseCallsWith, and first is how many users were in the first call that it saw.
	refusals, first atomic.Int32
}

// newBench returns a bench whose AtHoc has the given number of users. Vars change the publisher's settings.
func newBench(t *testing.T, users int, vars map[string]string) *bench {
	t.Helper()

	athoc, err := sim.New(sim.Options{Users: sim.GenerateUsers(users, "Collar-Number")})
	require.NoError(t, err)
	require.NoError(t, athoc.Start(t.Context(), "127.0.0.1:0"))
	t.Cleanup(func() { require.NoError(t, athoc.Close()) })
	server := bustest.Start(t)

	b := &bench{t: t, server: server, conn: server.Connect(t), athoc: athoc, file: "file"}
	all := map[string]string{"ATHOC_RATE_LIMIT": "1000", "ATHOC_TIMEOUT": "2s", "BATCH_WAIT": "10ms", "ATHOC_TIMEZONE": "UTC"}
	for _, field := range athoc.Env() {
		all[field.Name] = field.Value
	}

	maps.Copy(all, vars)
	require.NoError(t, config.Load(t.Context(), config.Map(all), &b.cfg))
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 30, CallTimeout: b.cfg.Calls.Timeout}
	require.NoError(t, topology.Provision(t.Context(), b.conn.JS, settings, topology.Everyone))

	return b
}

// start runs a publisher until the end of the test or until the returned function is called.
func (b *bench) start() (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	conn := b.server.Connect(b.t)
	logger := cmp.Or(b.log, bustest.Logger())
	go func() { done <- publisher.Run(ctx, b.cfg, program.Deps{Conn: conn, Log: logger, Telemetry: b.seen}) }()

	stopped := false
	stop = func() {
		if stopped {
			return
		}

		stopped = true

		cancel()
		require.NoError(b.t, <-done)
	}
	b.t.Cleanup(stop)

	return stop
}

func user(n int) string { return sim.GenerateUsers(n, "Collar-Number")[n-1].LoginID }

// wants publishes the status that a user should have had for some minutes, as the resolver does.
func (b *bench) wants(username string, minutesAgo int, on bool) event.Update {
	b.t.Helper()
	b.sequence++
	at := time.Now().Add(-time.Duration(minutesAgo) * time.Minute).Unix()
	u := event.Update{
		User: username, Employee: "e-" + username, On: on, At: at, File: b.file, Reason: event.ReasonEvent,
		Version: event.Version{Rank: at, Sequence: b.sequence, Row: int(b.sequence)},
	}
	_, err := b.conn.JS.Publish(b.t.Context(), topology.UpdatesSubject(username), event.Encode(&u))
	require.NoError(b.t, err)
	require.NoError(b.t, b.conn.NC.Publish(topology.SubjectWake, nil))

	return u
}

func (b *bench) payloads(stream string) [][]byte {
	b.t.Helper()
	s, err := b.conn.JS.Stream(b.t.Context(), stream)
	require.NoError(b.t, err)

	var out [][]byte
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

// answers returns all final answers so far, by user.
func (b *bench) answers() map[string][]event.Answer {
	out := map[string][]event.Answer{}
	for _, data := range b.payloads(topology.StreamAcks) {
		var a event.Acks
		require.NoError(b.t, event.Decode(data, &a))

		for _, answer := range a.Answers {
			if answer.Outcome != event.Pending {
				out[answer.User] = append(out[answer.User], answer)
			}
		}
	}

	return out
}

// outcomes waits until exactly these users have outcomes, and the latest one of each is as given.
func (b *bench) outcomes(want map[string]event.Outcome) {
	b.t.Helper()
	await.Equal(b.t, want, func() any {
		got := map[string]event.Outcome{}
		for user, answers := range b.answers() {
			got[user] = answers[len(answers)-1].Outcome
		}

		return got
	}, timeout)
}

// idle waits until no update is waiting.
func (b *bench) idle() {
	b.t.Helper()
	await.True(b.t, func() bool {
		for partition := range topology.Partitions {
			drained, err := bustest.Drained(b.t.Context(), b.conn.JS, topology.StreamUpdates, topology.PartitionConsumer(partition))
			require.NoError(b.t, err)

			if !drained {
				return false
			}
		}

		return true
	}, timeout)
}

func (b *bench) fault(f sim.Fault) {
	b.t.Helper()
	_, err := b.athoc.AddFault(f)
	require.NoError(b.t, err)
}

// updateCalls returns the calls that tried to write.
func (b *bench) updateCalls() []sim.Call {
	return b.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointUpdate})
}

func TestStatusesAreWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3, nil)
	b.start()
	on := b.wants(user(1), 5, true)
	b.wants(user(2), 5, false)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied, user(2): event.Applied})
	require.Equal(t, time.Unix(on.At, 0).UTC().Format(sim.DateLayout), b.athoc.DutyState()[user(1)])
	require.Empty(t, b.athoc.DutyState()[user(2)])
	answer := b.answers()[user(1)][0]
	require.Equal(t, on.Version, answer.Version)
	require.Equal(t, on.Employee, answer.Employee)
	require.True(t, answer.On)
	b.idle()
}

func TestDutyThatExpiredWhileItWaitedIsNotShown(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	b.wants(user(1), 60*25, true)
	b.start()
	b.outcomes(map[string]event.Outcome{user(1): event.Expired})
	require.Empty(t, b.athoc.DutyState()[user(1)])
	require.False(t, b.answers()[user(1)][0].On)

	for _, change := range b.athoc.History(user(1)) {
		require.Empty(t, change.New, "it never flashed up")
	}
}

// TestDutyThatAPersonWantsToStayIsShown: it is shown however old it is.
func TestDutyThatAPersonWantsToStayIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	u := b.wants(user(1), 60*25, true)
	u.Keep = true
	_, err := b.conn.JS.Publish(t.Context(), topology.UpdatesSubject(u.User), event.Encode(&u))
	require.NoError(t, err)
	b.start()
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	require.Equal(t, time.Unix(u.At, 0).UTC().Format(sim.DateLayout), b.athoc.DutyState()[user(1)])
	require.True(t, b.answers()[user(1)][0].On)
}

// TestEachUsersOwnOutcome is the table of outcomes for one user: each user of a batch gets their own.
func TestEachUsersOwnOutcome(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5, nil)
	b.fault(sim.Fault{Kind: sim.FaultDenyUser, Users: []string{user(2)}})
	b.fault(sim.Fault{Kind: sim.FaultPartial, Users: []string{user(3)}, Calls: 1})
	b.fault(sim.Fault{Kind: sim.FaultUserError, Users: []string{user(4)}, Calls: 1})
	b.fault(sim.Fault{Kind: sim.FaultOmitUser, Users: []string{user(5)}, Calls: 1})

	for n := 1; n <= 5; n++ {
		b.wants(user(n), 5, true)
	}

	b.wants("nobody@example.org", 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{
		user(1): event.Applied, user(2): event.ForbiddenUser, user(3): event.Applied, user(4): event.Applied,
		user(5): event.Applied, "nobody@example.org": event.UnknownUser,
	})
	b.idle()

	for username, answers := range b.answers() {
		require.Len(t, answers, 1, username)
	}

	sent := map[string]int{}
	for _, call := range b.updateCalls() {
		for _, u := range call.Users {
			sent[u.LoginID]++
		}
	}

	require.Equal(t, map[string]int{
		user(1): 1, user(2): 1, user(3): 2, user(4): 2, user(5): 2, "nobody@example.org": 1,
	}, sent, "what passed is sent again alone")
}

func TestAnUnknownAttributeIsDead(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, map[string]string{"DUTY_STATUS_FIELD": "No-Such-Field"})
	b.wants(user(1), 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{user(1): event.Dead})
	b.idle()
	letters := b.payloads(topology.StreamDead)
	require.Len(t, letters, 1)
	var d event.DeadLetter
	require.NoError(t, event.Decode(letters[0], &d))
	require.Equal(t, "file", d.File)
	require.Equal(t, 1, d.Row)
	require.NotEmpty(t, d.Reason)
	require.NotContains(t, d.Reason, user(1))
	var original event.Update
	require.NoError(t, event.Decode(d.Payload, &original))
	require.Equal(t, user(1), original.User)
}

func TestLettersCaseInTheAnswerDoesNotMatter(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, nil)
	settings := b.athoc.Settings()
	settings.EchoCase = "upper"
	require.NoError(t, b.athoc.SetSettings(settings))
	b.wants(user(1), 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	require.Len(t, b.updateCalls(), 1)
}

// TestWholeRequestFailures is the table of temporary failures of a whole request. Whatever happens, the end result is
// right, each user has one answer, and no call is made while the circuit breaker holds.
func TestWholeRequestFailures(t *testing.T) {
	t.Parallel()

	for name, fault := range map[string]sim.Fault{
		"500":            {Kind: sim.FaultStatus, Status: 500},
		"502":            {Kind: sim.FaultStatus, Status: 502},
		"503":            {Kind: sim.FaultStatus, Status: 503, RetryAfter: "1"},
		"504 applied":    {Kind: sim.FaultStatus, Status: 504, Apply: true},
		"429 seconds":    {Kind: sim.FaultStatus, Status: 429, RetryAfter: "1"},
		"429 date":       {Kind: sim.FaultStatus, Status: 429, RetryAfter: "date+1s"},
		"429 silent":     {Kind: sim.FaultStatus, Status: 429},
		"401":            {Kind: sim.FaultStatus, Status: 401},
		"reset":          {Kind: sim.FaultReset},
		"hang":           {Kind: sim.FaultHang},
		"not JSON":       {Kind: sim.FaultBrokenJSON},
		"half an answer": {Kind: sim.FaultTruncated},
		"answer lost":    {Kind: sim.FaultLostAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			timeout := "5s" // a busy machine is no fault
			if fault.Kind == sim.FaultHang {
				timeout = "1s"
			}

			b := newBench(t, 10, map[string]string{"ATHOC_TIMEOUT": timeout})
			fault.Calls, fault.Scope = 1, []string{sim.EndpointUpdate}
			b.fault(fault)

			want := map[string]event.Outcome{}
			for n := 1; n <= 10; n++ {
				b.wants(user(n), 5, true)
				want[user(n)] = event.Applied
			}

			b.start()
			b.outcomes(want)
			b.idle()

			for username, answers := range b.answers() {
				require.Len(t, answers, 1, username)
				require.NotEmpty(t, b.athoc.DutyState()[username])
			}

			// The first call failed. The others, of which there may be several if the broker is busy, hold each user
			// once.
			calls := b.updateCalls()
			require.GreaterOrEqual(t, len(calls), 2)

			sent := map[string]int{}
			for _, call := range calls[1:] {
				for _, u := range call.Users {
					sent[u.LoginID]++
				}
			}

			require.Len(t, sent, 10)

			for username, times := range sent {
				require.Equal(t, 1, times, username)
			}
		})
	}
}

// TestARefusalIsNoStorm: 403, 404 and wrong credentials stop the calls, and nothing is lost. When the cause is fixed,
// sending goes on by itself.
func TestARefusalIsNoStorm(t *testing.T) {
	t.Parallel()

	forbid := func(why string) func(*bench) {
		return func(b *bench) {
			settings := b.athoc.Settings()
			settings.Forbidden = why
			require.NoError(b.t, b.athoc.SetSettings(settings))
		}
	}
	for name, c := range map[string]struct {
		vars  map[string]string
		wrong func(*bench)
	}{
		"403: password expired":  {wrong: forbid("password")},
		"403: role is missing":   {wrong: forbid("role")},
		"404":                    {wrong: func(b *bench) { b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 404}) }},
		"400: wrong password":    {vars: map[string]string{"PASSWORD": "wrong"}},
		"400: unknown client":    {vars: map[string]string{"CLIENT_ID": "wrong"}},
		"400: not this org code": {vars: map[string]string{"ORG_CODE": "WRONG"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			b := newBench(t, 2, c.vars)
			if c.wrong != nil {
				c.wrong(b)
			}

			b.wants(user(1), 5, true)
			b.start()

			calls := func() int { return len(b.athoc.Calls(sim.CallFilter{})) }
			var refused breaker.State
			await.True(t, func() bool {
				refused = b.breakerState()
				return refused.Class == breaker.Refused
			}, timeout)

			before := calls()

			b.wants(user(2), 5, true) // wakes it up: it must not call
			require.Never(t, func() bool { return calls() > before }, 3*time.Second, 50*time.Millisecond)
			require.LessOrEqual(t, before, 3)
			require.Empty(t, b.answers())
			require.Empty(t, b.payloads(topology.StreamDead))
			cause := b.breakerState().Cause
			require.NotContains(t, cause, "athocsim-password")
			require.NotContains(t, cause, user(1))

			if c.wrong == nil || testing.Short() {
				return // the settings of a running publisher cannot be fixed
			}

			wait := refused.ProbeAt.Sub(refused.Since)
			require.Greater(t, wait, 18*time.Second, "an account could be locked by more")
			require.LessOrEqual(t, wait, 30*time.Second)

			settings := b.athoc.Settings()
			settings.Forbidden = ""
			require.NoError(t, b.athoc.SetSettings(settings))
			b.athoc.ClearFaults()
			b.probeNow()
			b.outcomes(map[string]event.Outcome{user(1): event.Applied, user(2): event.Applied})
		})
	}
}

// breakerState returns the state of the circuit breaker that all callers share.
func (b *bench) breakerState() breaker.State {
	b.t.Helper()
	kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
	require.NoError(b.t, err)

	var s breaker.State
	if entry, err := kv.Get(b.t.Context(), breaker.Key); err == nil {
		require.NoError(b.t, json.Unmarshal(entry.Value(), &s))
	}

	return s
}

// TestACulpritIsFoundByHalving: AtHoc refuses the batch as a whole because of one user.
func TestACulpritIsFoundByHalving(t *testing.T) {
	t.Parallel()

	b := newBench(t, 64, nil)
	want := map[string]event.Outcome{}
	for n := 1; n <= 64; n++ {
		b.wants(user(n), 5, true)
		want[user(n)] = event.Applied
	}

	culprit := "culprit@example.org"
	b.refuseCallsWith(culprit)
	b.wants(culprit, 5, true)
	want[culprit] = event.Dead

	b.start()
	b.outcomes(want)
	b.idle()
	require.LessOrEqual(t, b.refusals.Load(), int32(8), "65 users are halved seven times")
	others := 65 - int(b.first.Load()) // a busy broker delivers these later: they go with calls of their own
	require.LessOrEqual(t, len(b.updateCalls()), 8+others)
	require.Len(t, b.payloads(topology.StreamDead), 1)
}

// TestACulpritIsFoundWhateverTheRate: calls are further apart than leases last, and every half of a call needs a call
// of its own.
func TestACulpritIsFoundWhateverTheRate(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, map[string]string{"ATHOC_RATE_LIMIT": "0.3", "ATHOC_TIMEOUT": "1s"})
	culprit := "culprit@example.org"
	b.refuseCallsWith(culprit)

	for _, username := range []string{culprit, user(1), user(2)} {
		b.wants(username, 5, true)
	}

	b.start()
	b.outcomes(map[string]event.Outcome{culprit: event.Dead, user(1): event.Applied, user(2): event.Applied})
}

// refuseCallsWith puts a gateway before AtHoc that answers 400 to any update with the given username in it. Call it
// before start.
func (b *bench) refuseCallsWith(username string) {
	b.gateway(func(w http.ResponseWriter, body []byte) bool {
		b.first.CompareAndSwap(0, int32(bytes.Count(body, []byte("LOGIN_ID"))))

		if !bytes.Contains(body, []byte(username)) {
			return false
		}

		b.refusals.Add(1)
		http.Error(w, "a value is not acceptable", http.StatusBadRequest)

		return true
	})
}

// gateway puts a gateway before AtHoc. If play returns true, it has answered the request itself; otherwise the gateway
// passes the request on. Call it before start.
func (b *bench) gateway(play func(w http.ResponseWriter, body []byte) bool) {
	b.t.Helper()
	target, err := url.Parse(b.athoc.URL())
	require.NoError(b.t, err)

	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || play(w, body) {
			return
		}

		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	b.t.Cleanup(gateway.Close)
	b.cfg.AtHoc.ServerURL = gateway.URL
}

// TestEverybodyRefusedIsTheSettingsFault: nobody is dead-lettered if AtHoc refuses all users alike.
func TestEverybodyRefusedIsTheSettingsFault(t *testing.T) {
	t.Parallel()
	b := newBench(t, 32, nil)
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 400, Scope: []string{sim.EndpointUpdate}})

	for n := 1; n <= 32; n++ {
		b.wants(user(n), 5, true)
	}

	b.start()
	await.True(t, func() bool { return len(b.updateCalls()) >= 8 }, timeout)
	require.Never(t, func() bool { return len(b.updateCalls()) > 40 }, 2*time.Second, 50*time.Millisecond)
	require.Empty(t, b.payloads(topology.StreamDead))
	require.Empty(t, b.answers())
}

// TestAWrongAttributeIsTheSettingsFault: AtHoc's answers refuse each user because of the attribute's name, a few users
// at a time. Once there are enough of them, nobody is dead-lettered any more.
func TestAWrongAttributeIsTheSettingsFault(t *testing.T) {
	t.Parallel()
	const enough = 8

	b := newBench(t, 32, map[string]string{"BATCH_SIZE": "3", "DUTY_STATUS_FIELD": "On-Duty"})
	for n := 1; n <= 32; n++ {
		b.wants(user(n), 5, true)
	}

	b.start()
	await.True(t, func() bool {
		s := b.breakerState()
		return s.Class == breaker.Refused
	}, timeout)
	require.Less(t, len(b.payloads(topology.StreamDead)), enough)
	require.Contains(t, b.breakerState().Cause, "check DUTY_STATUS_FIELD")
}

// TestABodyTooLargeMayBe400: some gateways answer 400 to a body that is too large.
func TestABodyTooLargeMayBe400(t *testing.T) {
	t.Parallel()
	b := newBench(t, 100, nil)
	settings := b.athoc.Settings()
	settings.MaxUsers, settings.TooLargeStatus = 30, 400
	require.NoError(t, b.athoc.SetSettings(settings))

	want := map[string]event.Outcome{}
	for n := 1; n <= 100; n++ {
		b.wants(user(n), 5, true)
		want[user(n)] = event.Applied
	}

	b.start()
	b.outcomes(want)
	require.Empty(t, b.payloads(topology.StreamDead))
}

func TestTooLargeShrinksTheBatchAndRemembers(t *testing.T) {
	t.Parallel()
	b := newBench(t, 200, nil)
	settings := b.athoc.Settings()
	settings.MaxUsers = 30
	require.NoError(t, b.athoc.SetSettings(settings))

	want := map[string]event.Outcome{}
	for n := 1; n <= 200; n++ {
		b.wants(user(n), 5, true)
		want[user(n)] = event.Applied
	}

	b.start()
	b.outcomes(want)
	b.idle()

	tooLarge := 0
	for _, call := range b.updateCalls() {
		if call.Status == 413 {
			tooLarge++
		}
	}

	require.Equal(t, 2, tooLarge, "the first call of all has 100 users, then 50; 25 are taken and remembered")
}

// TestANewerUpdateOvertakes: while AtHoc is away the same users change again and again. Afterwards each is sent once,
// with the latest status.
func TestANewerUpdateOvertakes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10, nil)
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 503})
	b.start()

	var last [11]event.Update
	for round := range 5 {
		for n := 1; n <= 10; n++ {
			last[n] = b.wants(user(n), 50-round, round%2 == 0)
		}
	}

	await.True(t, func() bool { return len(b.athoc.Calls(sim.CallFilter{})) > 0 }, timeout)
	b.athoc.ClearFaults()

	want := map[string]event.Outcome{}
	for n := 1; n <= 10; n++ {
		want[user(n)] = event.Applied
	}

	b.outcomes(want)
	b.idle()

	sent := 0
	for _, call := range b.updateCalls() {
		if call.Status == 200 {
			sent += len(call.Users)
		}
	}

	require.Equal(t, 10, sent)

	for n := 1; n <= 10; n++ {
		require.Equal(t, last[n].Version, b.answers()[user(n)][0].Version)
	}
}

func TestWhatCannotBeReadIsDeadLettered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, nil)
	_, err := b.conn.JS.Publish(t.Context(), topology.UpdatesSubject(user(1)), []byte(`{"v":99}`))
	require.NoError(t, err)
	b.wants(user(2), 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{user(2): event.Applied})
	b.idle()
	require.Len(t, b.payloads(topology.StreamDead), 1)
}

// TestPublishersShareTheWork: several publishers work at once while users change all the time. No user is ever in two
// calls at once, and no status ever steps back.
func TestPublishersShareTheWork(t *testing.T) {
	t.Parallel()
	b := newBench(t, 40, map[string]string{"BATCH_SIZE": "7", "BATCH_WAIT": "0s"})
	settings := b.athoc.Settings()
	settings.Latency = sim.Latency{Fixed: sim.Duration(5 * time.Millisecond), Jitter: sim.Duration(20 * time.Millisecond)}
	require.NoError(t, b.athoc.SetSettings(settings))

	for range 4 {
		b.start()
	}

	for round := range 20 {
		for n := 1; n <= 40; n++ {
			b.wants(user(n), 100-round, true)
		}
	}

	b.idle()
	type span struct {
		from, to int64
		value    string
	}

	spans := map[string][]span{}
	for _, call := range b.updateCalls() {
		for _, u := range call.Users {
			spans[u.LoginID] = append(spans[u.LoginID], span{call.Arrived, call.Finished, fmt.Sprint(u)})
		}
	}

	require.Len(t, spans, 40)

	remotes := map[string]bool{}
	for _, call := range b.updateCalls() {
		remotes[call.Remote] = true
	}

	require.GreaterOrEqual(t, len(remotes), 2, "one publisher did all the work")

	for username, all := range spans {
		for i := 1; i < len(all); i++ {
			require.LessOrEqual(t, all[i-1].to, all[i].from, "%s was in two calls at once", username)
		}

		history := b.athoc.History(username)
		for i := 1; i < len(history); i++ {
			before, err1 := time.Parse(sim.DateLayout, history[i-1].New)
			after, err2 := time.Parse(sim.DateLayout, history[i].New)
			require.NoError(t, errors.Join(err1, err2))
			require.False(t, after.Before(before), "%s went back", username)
		}
	}
}

// TestAnswersDoNotWaitForTheNextCall: AtHoc takes part of a batch, and asks for fewer calls before the rest may go. Its
// answers so far are stored at once, and the rest is given back before the leases end.
func TestAnswersDoNotWaitForTheNextCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, 60, map[string]string{"ATHOC_RATE_LIMIT": "1", "ATHOC_TIMEOUT": "2s"})
	arrived, throttled := make(chan struct{}, 60), make(chan struct{})
	b.gateway(func(_ http.ResponseWriter, body []byte) bool {
		if bytes.Count(body, []byte("LOGIN_ID")) == 30 {
			arrived <- struct{}{}

			<-throttled
		}

		return false
	})
	settings := b.athoc.Settings()
	settings.MaxUsers = 30
	require.NoError(t, b.athoc.SetSettings(settings))

	for n := 1; n <= 60; n++ {
		b.wants(user(n), 5, true)
	}

	b.start()
	<-arrived // 60 were refused, and 30 are about to be taken
	b.throttle(15 * time.Minute)
	close(throttled)
	await.True(t, func() bool { return len(b.answers()) == 30 }, timeout)
	await.True(t, func() bool {
		states := b.states()
		return len(states) == 1 && len(states[0].Partitions) == 0
	}, 15*time.Second, "the lanes are free")
	require.Len(t, b.updateCalls(), 2)
}

// probeNow makes the circuit breaker stop waiting, so that it probes at once.
func (b *bench) probeNow() {
	b.t.Helper()
	kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
	require.NoError(b.t, err)
	require.NoError(b.t, cas.Update(b.t.Context(), kv, breaker.Key, func(old []byte) ([]byte, error) {
		var s breaker.State
		if err := json.Unmarshal(old, &s); err != nil {
			return nil, err
		}

		s.ProbeAt = time.Time{}

		return json.Marshal(s)
	}))
}

// throttle reports to the circuit breaker that AtHoc asks all callers to wait.
func (b *bench) throttle(wait time.Duration) {
	b.t.Helper()
	kv, err := b.conn.JS.KeyValue(b.t.Context(), topology.BucketState)
	require.NoError(b.t, err)
	other, err := breaker.New(b.t.Context(), kv, breaker.Limits{Rate: 1, CallTimeout: b.cfg.Calls.Timeout}, bustest.Logger())
	require.NoError(b.t, err)
	require.NoError(b.t, other.Report(b.t.Context(), breaker.Permit{}, breaker.Throttled, "another publisher got a 429", wait))
}

// TestAnswersThatCannotBeStored: while the broker has no room, AtHoc is not sent the same again and again at full rate.
func TestAnswersThatCannotBeStored(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	room := func(bytes int64) {
		s, err := b.conn.JS.Stream(t.Context(), topology.StreamAcks)
		require.NoError(t, err)

		c := s.CachedInfo().Config
		c.MaxBytes, c.Discard = bytes, jetstream.DiscardNew
		_, err = b.conn.JS.UpdateStream(t.Context(), c)
		require.NoError(t, err)
	}
	room(1)
	b.wants(user(1), 5, true)
	b.start()
	await.True(t, func() bool { return len(b.updateCalls()) >= 3 }, timeout)

	calls := b.updateCalls()
	for i, least := range []time.Duration{time.Second, 2 * time.Second} {
		require.GreaterOrEqual(t, time.Duration(calls[i+1].Arrived-calls[i].Finished), least)
	}

	room(-1)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
}

// TestATokensTimeoutIsNoUpdate: no update was under way when the gateway gave up, so none can arrive late.
func TestATokensTimeoutIsNoUpdate(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: http.StatusGatewayTimeout, Scope: []string{sim.EndpointToken}, Calls: 1})
	b.wants(user(1), 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	require.Len(t, b.payloads(topology.StreamAcks), 1, "nothing was told to be pending")
}

// TestAPartitionRestsAfterACallOfUnknownEnd: the partition rests for the whole grace time, however long the batch was
// gathered before the call.
func TestAPartitionRestsAfterACallOfUnknownEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, map[string]string{"ATHOC_TIMEOUT": "1s", "BATCH_WAIT": "950ms"})
	b.fault(sim.Fault{Kind: sim.FaultHang, Scope: []string{sim.EndpointUpdate}, Calls: 1})
	b.start()

	asked := time.Now()

	b.wants(user(1), 50, true)
	await.True(t, func() bool { return b.breakerState().Class == breaker.Outage }, timeout)
	kv, err := b.conn.JS.KeyValue(t.Context(), topology.BucketLeases)
	require.NoError(t, err)

	partition := topology.PartitionLease(topology.Partition(user(1)))
	_, err = kv.Get(t.Context(), partition)
	require.NoError(t, err)
	await.True(t, func() bool {
		_, err := kv.Get(t.Context(), partition)
		return errors.Is(err, jetstream.ErrKeyNotFound)
	}, timeout)
	require.GreaterOrEqual(t, time.Since(asked), (950+1000+2900)*time.Millisecond, "gathered, called and rested")
}

// TestWhoComesWhileACallWaitsGoesWithIt: an update that arrives while a call waits goes with that call, whatever its
// partition, instead of waiting for the next one.
func TestWhoComesWhileACallWaitsGoesWithIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 40, map[string]string{"BATCH_WAIT": "8s", "ATHOC_TIMEOUT": "8s"})
	b.start()
	b.wants(user(1), 5, true)
	kv, err := b.conn.JS.KeyValue(t.Context(), topology.BucketLeases)
	require.NoError(t, err)
	await.True(t, func() bool {
		_, err := kv.Get(t.Context(), topology.PartitionLease(topology.Partition(user(1))))
		return err == nil
	}, timeout)

	want := map[string]event.Outcome{user(1): event.Applied}
	partitions := map[int]bool{}
	for n := 2; n <= 40; n++ {
		b.wants(user(n), 5, true)
		want[user(n)] = event.Applied
		partitions[topology.Partition(user(n))] = true
	}

	require.Len(t, partitions, topology.Partitions)
	b.outcomes(want)
	b.idle()
	// On a busy machine a fetch returns nothing now and then, and the updates in its partition go with the next call.
	require.Greater(t, len(b.updateCalls()[0].Users), 20)
}
