package publisher_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/event"
	"bobosync/shared/logging/logtest"
	"bobosync/shared/telemetry"
	"bobosync/shared/telemetry/teletest"
	"bobosync/shared/topology"
)

// lines counts the log lines by level and message. It leaves out what the client logs once about the simulator's
// address.
func lines(t *testing.T, log *logtest.Log) map[string]int {
	t.Helper()

	count := map[string]int{}
	decoder := json.NewDecoder(strings.NewReader(log.String()))
	for decoder.More() {
		var line struct{ Level, Msg string }
		require.NoError(t, decoder.Decode(&line))

		if !strings.HasPrefix(line.Msg, "AtHoc is called without TLS") {
			count[line.Level+" "+line.Msg]++
		}
	}

	return count
}

// TestAnOutageIsTwoLines: however many probes fail, a publisher's log says once that AtHoc is gone and once that it is
// back. The only other lines are one for each batch that AtHoc took.
func TestAnOutageIsTwoLines(t *testing.T) {
	t.Parallel()

	for name, fault := range map[string]sim.Fault{
		"503":   {Kind: sim.FaultStatus, Status: 503},
		"reset": {Kind: sim.FaultReset},
		"hang":  {Kind: sim.FaultHang},
		"token": {Kind: sim.FaultStatus, Status: 503, Scope: []string{sim.EndpointToken}},
		"calls": {Kind: sim.FaultStatus, Status: 500, Scope: []string{sim.EndpointUpdate}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			callTimeout := "5s" // a busy machine is no fault
			if fault.Kind == sim.FaultHang {
				callTimeout = "1s"
			}

			b := newBench(t, 20, map[string]string{"ATHOC_TIMEOUT": callTimeout})
			var log logtest.Log
			b.log = log.Logger(slog.LevelInfo)
			b.fault(fault)

			want := map[string]event.Outcome{}
			for n := 1; n <= 20; n++ {
				b.wants(user(n), 5, true)
				want[user(n)] = event.Applied
			}

			b.start()
			await.True(t, func() bool { return len(b.athoc.Calls(sim.CallFilter{})) >= 4 }, timeout)
			b.athoc.ClearFaults()
			b.outcomes(want)
			b.idle()

			lines := lines(t, &log)
			batches := lines["INFO batch sent to AtHoc"]
			require.Positive(t, batches)

			taken := 0
			for _, call := range b.updateCalls() {
				if call.Status == http.StatusOK {
					taken++
				}
			}

			require.LessOrEqual(t, batches, taken, "a line for each batch that AtHoc took")
			delete(lines, "INFO batch sent to AtHoc")
			require.Equal(t, map[string]int{
				"WARN AtHoc is not there; nothing is lost, and sending goes on by itself when it is back": 1,
				"INFO AtHoc answers again": 1,
			}, lines)
		})
	}
}

// TestAQuietDayIsAQuietLog: there is one line for each batch and nothing else, and none while there is nothing to do.
func TestAQuietDayIsAQuietLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3, nil)
	var log logtest.Log
	b.log = log.Logger(slog.LevelInfo)
	b.start()

	for n := 1; n <= 3; n++ {
		b.wants(user(n), 5, true)
		b.idle()
	}

	await.NoFailure(t, func(c *await.Try) {
		assert.Equal(c, map[string]int{"INFO batch sent to AtHoc": 3}, lines(t, &log))
	}, timeout)
}

// TestMetricsTellOfTheWork: Prometheus reads what was really done.
func TestMetricsTellOfTheWork(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4, nil)
	seen := teletest.Start(t)
	b.seen = seen.Telemetry
	b.fault(sim.Fault{Kind: sim.FaultDenyUser, Users: []string{user(2)}})
	b.fault(sim.Fault{Kind: sim.FaultPartial, Users: []string{user(3)}, Calls: 1})

	for n := 1; n <= 3; n++ {
		b.wants(user(n), 5, true)
	}

	b.wants("nobody@example.org", 5, true)
	b.start()
	b.outcomes(map[string]event.Outcome{
		user(1): event.Applied, user(2): event.ForbiddenUser, user(3): event.Applied, "nobody@example.org": event.UnknownUser,
	})
	b.idle()

	values := seen.Scrape(t)
	users := func(outcome string) float64 { return values[`bobosync_publisher_users_total{outcome="`+outcome+`"}`] }
	require.Equal(t, 2.0, users("applied"))
	require.Equal(t, 1.0, users("forbidden_user"))
	require.Equal(t, 1.0, users("unknown_user"))
	require.Equal(t, 1.0, users("again"))
	require.Zero(t, users("dead"))
	require.Equal(t, 2.0, values["bobosync_publisher_freshness_seconds_count"])
	require.InDelta(t, 600, values["bobosync_publisher_freshness_seconds_sum"], 120, "two bookings, five minutes ago")

	calls := float64(len(b.updateCalls()))
	require.GreaterOrEqual(t, calls, 2.0)
	require.Equal(t, calls, values["bobosync_publisher_batch_users_count"])
	require.Equal(t, 5.0, values["bobosync_publisher_batch_users_sum"])
	require.Equal(t, calls, values[`bobosync_athoc_calls_total{operation="update",result="ok"}`])
	require.Equal(t, 1.0, values[`bobosync_athoc_calls_total{operation="token",result="ok"}`])
	require.Equal(t, calls, values[`bobosync_athoc_call_seconds_count{operation="update"}`])
	require.Equal(t, 1000.0, values["bobosync_brake_rate_limit_calls_per_second"])
	require.Equal(t, 1000.0, values["bobosync_publisher_batch_limit_users"])
	require.InDelta(t, float64(time.Now().Unix()), values["bobosync_publisher_last_success_timestamp_seconds"], 60)

	for partition := range topology.Partitions {
		labels := `{consumer="` + topology.PartitionConsumer(partition) + `",stream="UPDATES"}`
		require.Contains(t, values, "bobosync_broker_pending_messages"+labels)
		require.Contains(t, values, "bobosync_broker_unacknowledged_messages"+labels)
	}

	_, text := seen.Get(t, "/metrics")
	require.NotContains(t, text, user(1))
	require.NotContains(t, text, "nobody@example.org")
}

// TestAnOutageShowsAndDoesNotUnready: the metrics name the trouble and the backlog, but the publisher stays ready,
// since restarting it would fix nothing. Without the broker it is not ready, and says so.
func TestAnOutageShowsAndDoesNotUnready(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, nil)
	seen := teletest.Start(t)
	b.seen = seen.Telemetry
	ready := func(want int, says string) {
		t.Helper()
		await.NoFailure(t, func(c *await.Try) {
			status, text := seen.Get(t, "/readyz")
			assert.Equal(c, want, status)
			assert.Equal(c, says, text)
		}, timeout)
	}
	ready(http.StatusServiceUnavailable, "starting: not connected to the broker\n")
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 503})
	b.wants(user(1), 5, true)
	b.start()
	await.NoFailure(t, func(c *await.Try) {
		values := seen.Scrape(t)
		assert.Equal(c, 1.0, values[`bobosync_brake_trouble{trouble="outage"}`])
		assert.Equal(c, 0.0, values[`bobosync_brake_trouble{trouble="refused"}`])
		assert.Zero(c, values["bobosync_brake_rate_limit_calls_per_second"])
		assert.Positive(c, values["bobosync_brake_trouble_age_seconds"])
		assert.Positive(c, values["bobosync_brake_trouble_failed_calls"])
		assert.Positive(c, values[`bobosync_athoc_calls_total{operation="token",result="outage"}`]+
			values[`bobosync_athoc_calls_total{operation="update",result="outage"}`])

		waiting := 0.0
		for partition := range topology.Partitions {
			labels := `{consumer="` + topology.PartitionConsumer(partition) + `",stream="UPDATES"}`
			waiting += values["bobosync_broker_pending_messages"+labels] + values["bobosync_broker_unacknowledged_messages"+labels]
		}

		assert.Equal(c, 1.0, waiting)
	}, timeout)
	ready(http.StatusOK, "ready\n")
	b.server.Down(t)
	ready(http.StatusServiceUnavailable, "publisher: not connected to the broker\n")

	status, _ := seen.Get(t, "/healthz")
	require.Equal(t, http.StatusOK, status, "a broker that is away is no reason to be restarted")
	b.athoc.ClearFaults()
	b.server.Up(t)
	ready(http.StatusOK, "ready\n")

	b.conn = b.server.Connect(t)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
}

// TestEveryPublisherTellsItsState: each publisher answers with its own state and that of the circuit breaker that they
// share.
func TestEveryPublisherTellsItsState(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2, map[string]string{"BATCH_SIZE": "7", "ATHOC_TIMEOUT": "5s"})
	b.start()
	b.start()
	await.True(t, func() bool { return len(b.states()) == 2 }, timeout)

	for _, s := range b.states() {
		require.NotEmpty(t, s.Name)
		require.WithinDuration(t, time.Now(), s.Started, time.Minute)
		require.Equal(t, 7, s.BatchSize)
		require.Equal(t, 1000.0, s.RateLimit)
		require.Zero(t, s.Calls)
		require.Empty(t, s.Partitions)
		require.True(t, s.LastSuccess.IsZero())
	}

	b.fault(sim.Fault{Kind: sim.FaultHang, Scope: []string{sim.EndpointUpdate}, Calls: 1})
	b.wants(user(1), 5, true)
	await.NoFailure(t, func(c *await.Try) { // while the call hangs
		for _, s := range b.states() {
			if !s.Calling.IsZero() {
				assert.Equal(c, []int{topology.Partition(user(1))}, s.Partitions)
				return
			}
		}

		assert.Fail(c, "nobody calls")
	}, timeout)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	b.idle()
	await.NoFailure(t, func(c *await.Try) {
		var calls, users int64
		var succeeded, failed int
		for _, s := range b.states() {
			calls, users = calls+s.Calls, users+s.Users
			assert.Empty(c, s.Partitions)
			assert.True(c, s.Calling.IsZero())
			assert.False(c, s.Breaker.Open())

			if !s.LastSuccess.IsZero() {
				succeeded++
			}

			if !s.LastFailure.IsZero() {
				failed++

				assert.Contains(c, s.Failure, "no complete answer")
				assert.NotContains(c, s.Failure, user(1))
			}
		}

		assert.Equal(c, int64(2), calls)
		assert.Equal(c, int64(2), users)
		assert.Equal(c, 1, succeeded)
		assert.Equal(c, 1, failed)
	}, timeout)
}

// TestCallsAreInTheTracesOfTheirFiles: a call, even a failed one, shows up in the trace of each file whose events it
// carries.
func TestCallsAreInTheTracesOfTheirFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	collector := teletest.StartCollector(t)
	b.seen = telemetry.New("dev")
	flush, err := b.seen.Trace(t.Context(), telemetry.Config{Endpoint: collector.URL}, "bobosync-publisher", "dev", bustest.Logger())
	require.NoError(t, err)
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 400, Scope: []string{sim.EndpointUpdate}, Calls: 1})
	b.file = strings.Repeat("ab", 32)
	b.wants(user(1), 5, true)
	stop := b.start()
	b.outcomes(map[string]event.Outcome{user(1): event.Dead})
	b.file = strings.Repeat("cd", 32)
	b.wants(user(1), 4, true)
	b.outcomes(map[string]event.Outcome{user(1): event.Applied})
	stop()
	require.NoError(t, flush())

	calls := collector.Named("call AtHoc")
	require.Len(t, calls, 4, "two calls, each with a trace of its own and in that of its file")
	failed, passed := calls[strings.Repeat("ab", 16)], calls[strings.Repeat("cd", 16)]
	require.NotNil(t, failed)
	require.NotNil(t, passed)
	require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, failed.GetStatus().GetCode())
	require.Equal(t, tracepb.Status_STATUS_CODE_UNSET, passed.GetStatus().GetCode())
	require.NotContains(t, failed.String()+passed.String(), user(1))
}
