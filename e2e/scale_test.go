//go:build unix

package e2e_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/await"
	"bobosync/shared/boborow"
)

// staff returns a plan of ordinary workers, without files.
func staff(n int) workload.Plan {
	var p workload.Plan
	for i := range n {
		p.Workers = append(p.Workers, workload.Worker{
			Employee: fmt.Sprintf("%05d", i), Login: fmt.Sprintf("worker%05d@example.org", i),
		})
	}

	return p
}

// bookings returns a file of random bookings of the given age, and records in latest each worker's latest booking.
func bookings(rng *rand.Rand, name string, rows, workers int, age span, latest map[string]booking) workload.File {
	zone, err := time.LoadLocation(harness.BoboZone)
	if err != nil {
		panic(err)
	}

	var text strings.Builder
	now := time.Now().In(zone).Truncate(time.Second)
	for range rows {
		employee := fmt.Sprintf("%05d", rng.IntN(workers))
		b := booking{now.Add(-time.Duration(rng.Int64N(int64(age.most-age.least))) - age.least).Truncate(time.Second), rng.IntN(2) == 0}
		fmt.Fprintln(&text, boborow.New(b.on, employee, b.at))

		if !b.at.Before(latest[employee].at) { // at the same second, the row that is read later wins
			latest[employee] = b
		}
	}

	return workload.File{Name: name, Content: []byte(text.String())}
}

// span is a range of ages.
type span struct{ least, most time.Duration }

var today = span{0, 10 * time.Hour}

type booking struct {
	at time.Time
	on bool
}

// requireStatuses compares AtHoc's end state with the latest bookings.
func requireStatuses(t *testing.T, s *harness.Stack, latest map[string]booking) {
	t.Helper()

	zone, err := time.LoadLocation(harness.AtHocZone)
	require.NoError(t, err)
	users, err := s.Sim.Users(t.Context())
	require.NoError(t, err)

	wrong := 0
	for employee, b := range latest {
		want := ""
		if b.on {
			want = b.at.In(zone).Format(sim.DateLayout)
		}

		if got := users["worker"+employee+"@example.org"][sim.DefaultDutyAttribute]; got != want {
			if wrong++; wrong < 5 {
				t.Errorf("worker %s is %q, wanted %q", employee, got, want)
			}
		}
	}

	require.Zero(t, wrong, "of %d workers", len(latest))
}

// updatesWaiting counts the messages in the table of updates that no publisher has settled, and returns the state of
// the table. read reports whether the resolver has read all entries.
func updatesWaiting(t *testing.T, s *harness.Stack) (waiting uint64, table jetstream.StreamState, read bool) {
	t.Helper()

	conn, err := nats.Connect(s.BrokerURL())
	require.NoError(t, err)

	defer conn.Close()

	js, err := jetstream.New(conn)
	require.NoError(t, err)
	entries, err := js.Consumer(t.Context(), "ENTRIES", "resolver")
	require.NoError(t, err)

	for partition := range 8 {
		c, err := js.Consumer(t.Context(), "UPDATES", fmt.Sprintf("publisher-%d", partition))
		require.NoError(t, err)

		waiting += c.CachedInfo().NumPending + uint64(c.CachedInfo().NumAckPending)
	}

	updates, err := js.Stream(t.Context(), "UPDATES")
	require.NoError(t, err)

	info := entries.CachedInfo()

	return waiting, updates.CachedInfo().State, info.NumPending == 0 && info.NumAckPending == 0
}

// TestOutageCostsNothingButTime has AtHoc answer 503 while 500,000 rows of 20,000 workers arrive. It checks that only
// what the next calls carry is published, that the publishers' memory stays bounded, that AtHoc gets one probe at a
// time, and that afterwards each user is sent once.
func TestOutageCostsNothingButTime(t *testing.T) {
	long(t)

	if runtime.GOOS != "linux" {
		t.Skip("it reads /proc")
	}

	const workers, files, rows, batch, publishers = 20_000, 10, 50_000, 1000, 3
	s := start(t, harness.Config{Publishers: publishers, Plan: staff(workers), Settings: map[string]string{
		"BATCH_SIZE": fmt.Sprint(batch), "ATHOC_RATE_LIMIT": "20", "ATHOC_TIMEOUT": "10s", "LOG_LEVEL": "INFO", "BATCH_WAIT": "100ms",
		"ENTRIES_MAX_BYTES": fmt.Sprint(1 << 30),
	}})
	require.NoError(t, s.Idle(idleWithin))
	before, err := s.Sim.Stats(t.Context())
	require.NoError(t, err)
	outage, err := s.Sim.Fault(t.Context(), sim.Fault{Kind: sim.FaultStatus, Status: 503})
	require.NoError(t, err)
	require.NotZero(t, outage)

	began := time.Now()

	rng := rand.New(rand.NewPCG(1, 2))
	latest := map[string]booking{}
	for i := range files {
		require.NoError(t, s.In.Drop(bookings(rng, fmt.Sprintf("part %d.csv", i), rows, workers, today, latest)))
	}

	var waiting, last uint64
	var table jetstream.StreamState
	since := time.Now()
	await.True(t, func() bool {
		var read bool
		if waiting, table, read = updatesWaiting(t, s); !read || table.LastSeq != last {
			last, since = table.LastSeq, time.Now()
		}

		return waiting >= batch && time.Since(since) > 2*time.Second
	}, 3*time.Minute, "all rows are read, and what the next call carries is published")
	// A probe takes some of the waiting updates out. An update that was replaced while a publisher had it in a probe
	// is counted twice until the publisher gives it back.
	require.LessOrEqual(t, waiting, uint64(5*batch), "the rest stays with the resolver")
	during, err := s.Sim.Stats(t.Context())
	require.NoError(t, err)

	probes := during.Endpoints[sim.EndpointUpdate].Calls - before.Endpoints[sim.EndpointUpdate].Calls
	require.LessOrEqual(t, probes, 10+int(time.Since(began).Seconds()), "a probe at a time, ever more rarely")

	names, err := s.In.Names()
	require.NoError(t, err)
	require.Len(t, names, files, "no file is let go of")

	require.NoError(t, s.Sim.Calm(t.Context()))
	require.NoError(t, s.Idle(3*time.Minute))
	requireStatuses(t, s, latest)

	calls, users := 0, 0
	log, err := sim.ReadCallLog(s.Path("calls.jsonl"))
	require.NoError(t, err)

	sent := map[string]int{}
	for _, c := range log {
		if c.Endpoint != sim.EndpointUpdate || c.Status != 200 || c.Arrived < began.UnixNano() {
			continue
		}

		calls++

		for _, u := range c.Users {
			sent[u.LoginID]++
			users++
		}
	}

	var memory []string
	for _, name := range append(s.Publishers(), harness.Ingest, harness.Resolver) {
		peak, err := s.Process(name).PeakMemory()
		require.NoError(t, err)

		if strings.HasPrefix(name, "publisher-") { // make bench measures the memory of the others
			require.Less(t, peak, int64(100<<20), name)
		}

		memory = append(memory, fmt.Sprintf("%s %d MiB", name, peak>>20))
	}

	t.Logf("%d rows of %d workers in an outage: backlog %d updates, %d probes; then %d calls with %d users; peak memory %s",
		files*rows, workers, table.Msgs, probes, calls, users, strings.Join(memory, ", "))
	require.Len(t, sent, len(latest))
	require.Equal(t, 1, slices.Max(slices.Collect(maps.Values(sent))), "each user is sent once")
	// The backlog is published in parts, so that a new booking never waits behind all of it. Three publishers share
	// each part, so their calls are not full.
	require.LessOrEqual(t, calls, 3*workers/batch)
}

// TestMorePublishersSendMore checks that, if AtHoc's latency is the limit, four publishers send at least three times
// as many users a second as one does, and that all of them share one token.
func TestMorePublishersSendMore(t *testing.T) {
	long(t)
	const workers, batch = 4000, 100
	s := start(t, harness.Config{Publishers: 1, Plan: staff(workers), Settings: map[string]string{
		"BATCH_SIZE": fmt.Sprint(batch), "ATHOC_RATE_LIMIT": "1000", "ATHOC_TIMEOUT": "10s", "LOG_LEVEL": "INFO", "BATCH_WAIT": "100ms",
	}})
	require.NoError(t, s.Idle(idleWithin))
	// The delays of a busy machine must be small compared with this.
	require.NoError(t, s.Sim.Set(t.Context(), map[string]any{"latency": map[string]any{"fixed": "700ms"}}))

	latest := map[string]booking{}
	rng := rand.New(rand.NewPCG(3, 4))
	age := span{8 * time.Hour, 10 * time.Hour}
	rate := func(name string) float64 {
		began := time.Now()

		require.NoError(t, s.In.Drop(bookings(rng, name, 4*workers, workers, age, latest)))
		age.least, age.most = age.least-2*time.Hour, age.least // otherwise there would be little to send the next time

		require.NoError(t, s.Idle(3*time.Minute))
		log, err := sim.ReadCallLog(s.Path("calls.jsonl"))
		require.NoError(t, err)

		var first, last int64
		users := 0
		for _, c := range log {
			if c.Endpoint == sim.EndpointUpdate && c.Status == 200 && c.Arrived > began.UnixNano() {
				if first == 0 {
					first = c.Arrived
				}

				last = max(last, c.Finished)
				users += len(c.Users)
			}
		}

		return float64(users) / time.Duration(last-first).Seconds()
	}
	one := rate("one.csv")

	for range 3 {
		_, err := s.AddPublisher()
		require.NoError(t, err)
	}

	require.NoError(t, s.Ready(readyWithin))

	var four float64
	for try := 1; four < 3*one && try <= 3; try++ { // anything else that runs on the machine can only slow a measurement down
		four = max(four, rate(fmt.Sprintf("four %d.csv", try)))
	}

	requireStatuses(t, s, latest)
	stats, err := s.Sim.Stats(t.Context())
	require.NoError(t, err)

	tokens := stats.Endpoints[sim.EndpointToken].Calls
	t.Logf("one publisher %.0f users a second, four %.0f: %.1f times as many; %d token calls", one, four, four/one, tokens)
	require.GreaterOrEqual(t, four/one, 3.0)
	require.LessOrEqual(t, tokens, 2, "all replicas share one token")
}

// TestTakeOver kills a publisher in the middle of a call that hangs. It checks that others take over the users of
// that call within ATHOC_TIMEOUT and 5 seconds, and everything else at once.
func TestTakeOver(t *testing.T) {
	long(t)
	const timeout = 6 * time.Second
	s := start(t, harness.Config{Publishers: 1, Plan: staff(40), Settings: map[string]string{
		"BATCH_SIZE": "100", "ATHOC_RATE_LIMIT": "100", "ATHOC_TIMEOUT": timeout.String(), "LOG_LEVEL": "INFO",
	}})
	require.NoError(t, s.Idle(idleWithin))
	_, err := s.Sim.Fault(t.Context(), sim.Fault{Kind: sim.FaultHang, Scope: []string{sim.EndpointUpdate}, Calls: 1})
	require.NoError(t, err)

	latest := map[string]booking{}
	rng := rand.New(rand.NewPCG(5, 6))
	require.NoError(t, s.In.Drop(bookings(rng, "held.csv", 1, 1, today, latest))) // one worker, so that one partition is held
	await.True(t, func() bool {
		st, err := s.Sim.Stats(t.Context())
		return err == nil && st.Endpoints[sim.EndpointUpdate].InFlight > 0 // the janitor makes calls too
	}, readyWithin)

	killed := time.Now()

	require.NoError(t, s.RemovePublisher(s.Publishers()[0], true))
	_, err = s.AddPublisher()
	require.NoError(t, err)
	require.NoError(t, s.In.Drop(bookings(rng, "other.csv", 400, 40, today, latest)))
	require.NoError(t, s.Idle(idleWithin))
	requireStatuses(t, s, latest)

	log, err := sim.ReadCallLog(s.Path("calls.jsonl"))
	require.NoError(t, err)

	var held, others time.Duration
	for _, c := range log {
		if c.Endpoint != sim.EndpointUpdate || c.Status != 200 || c.Arrived < killed.UnixNano() {
			continue
		}

		after := time.Unix(0, c.Arrived).Sub(killed)
		for _, u := range c.Users {
			switch {
			case u.LoginID != "worker00000@example.org" && others == 0:
				others = after
			case u.LoginID == "worker00000@example.org" && held == 0:
				held = after
			}
		}
	}

	t.Logf("the user in the call was sent by another publisher %s after the kill, others %s after it", held.Round(time.Millisecond), others.Round(time.Millisecond))
	require.NotZero(t, held)
	require.Less(t, held, timeout+5*time.Second)
	require.NotZero(t, others)
	require.Less(t, others, timeout/2)
}

// spokenOf returns the users whom files mention. A replay cannot restore a status that was written by hand.
func spokenOf(p workload.Plan) []string {
	var logins []string
	for _, w := range p.Workers {
		if w.Role == workload.Plain && w.Login != "" {
			logins = append(logins, w.Login)
		}
	}

	return logins
}

// TestReplayAfterAtHocLostEverything checks that a replay restores all statuses after AtHoc has lost them, while new
// files arrive.
func TestReplayAfterAtHocLostEverything(t *testing.T) {
	slow(t)

	for _, allInOne := range []bool{false, true} {
		t.Run(fmt.Sprintf("all in one %t", allInOne), func(t *testing.T) {
			t.Parallel()

			p := plan(6, 60)
			s := start(t, harness.Config{Publishers: 3, AllInOne: allInOne, Plan: p})
			require.NoError(t, s.DropAll(t.Context(), p.Files[:40]))
			require.NoError(t, s.Idle(idleWithin))
			require.NoError(t, s.Sim.Forget(t.Context(), spokenOf(p)...))
			said, err := s.Operate(t.Context(), "replay", "--all", "--dry-run")
			require.NoError(t, err)
			require.Contains(t, said, "It would be ")
			said, err = s.Operate(t.Context(), "replay", "--all")
			require.NoError(t, err)
			require.Contains(t, said, "Replaying ")
			require.NoError(t, s.DropAll(t.Context(), rebased(p.Files[40:])))
			finish(t, s)
			said, err = s.Operate(t.Context(), "replay", "list")
			require.NoError(t, err)
			require.Contains(t, said, "everyone")
		})
	}
}
