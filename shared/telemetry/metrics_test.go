package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func always[S any](s S) func(context.Context) (S, error) {
	return func(context.Context) (S, error) { return s, nil }
}

// fed returns a telemetry with every metric of the project in it.
func fed(t *testing.T) *Telemetry {
	t.Helper()
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	all := New("v1.2.3")
	ingest := NewIngest(all)
	ingest.FileFinished(false)
	ingest.FileFinished(true)
	ingest.RowsSettled(event.Applied, 3)
	ingest.RowsRejected("columns", 2)
	ingest.EntriesPublished(5)
	ingest.FileRead(time.Second)
	ingest.Watch(always(control.IngestState{
		Feeds:   []control.FeedState{{Name: "default"}},
		Waiting: 2, Rows: 40, Oldest: ago(time.Minute), LastFile: ago(time.Hour), FreeBytes: 1 << 30,
		Unsettled: map[string]time.Time{"secret-name.csv": ago(0)}, Problems: map[string]control.Problem{"secret-name.csv": {}},
	}))
	resolver := NewResolver(all)
	resolver.Batch(500, time.Millisecond)
	resolver.UpdatesPublished(4)
	resolver.RowsSettled(event.Superseded, 2)
	resolver.Watch(always(control.ResolverState{Recovered: true, Workers: 20, OnDuty: 5, Unmapped: 1, Oldest: ago(time.Second)}))
	publisher := NewPublisher(all)
	publisher.Called(20)
	publisher.Settled(event.Applied)
	publisher.Again(1)
	publisher.Confirmed(time.Second)
	publisher.Watch(always(control.PublisherState{Lanes: []int{1, 4}, BatchSize: 1000, LastSuccess: ago(time.Second)}))
	janitor := NewJanitor(all)
	janitor.Run(control.DutyMapping, control.OutcomeOK)
	janitor.StaleCleared(1)
	janitor.FilesPurged(1)
	janitor.Reconciled(control.ReconcileAnswer{Compared: 10, Differing: 2, Applied: 1})
	janitor.Mapping(control.MappingReport{Refreshed: ago(time.Hour), Mapped: 7, Ambiguous: map[string][]string{"e-17": {"secret-user"}}})
	janitor.Watch(always(control.JanitorState{
		AtWork: true, Duties: []control.Duty{{Name: control.DutyMapping, LastSuccess: ago(time.Hour)}, {Name: control.DutyPurge, Off: true}},
		Held:   &control.HeldMapping{},
		Notify: []control.NotifyState{{Sink: "mail"}, {Sink: "webhook", Waiting: 2, Failing: ago(time.Hour)}},
	}))
	NewCalls(all).Observe(athoc.OpUpdate, 0, time.Second)
	NewCalls(all).Observe(athoc.OpSearch, athoc.Throttled, time.Second)
	NewBreaker(all).Watch(always(breakerReading{breaker.State{Class: breaker.Throttled, Slow: 0.5, Since: ago(time.Minute)}, 2, false}))
	feedBacklog(t, all)
	return all
}

// feedBacklog has the backlog read off a broker with one dead letter and two updates.
func feedBacklog(t *testing.T, all *Telemetry) {
	t.Helper()
	conn := bustest.Start(t).Connect(t)
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}
	require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))
	for _, subject := range []string{topology.DeadSubject("ingest"), topology.UpdatesSubject("a"), topology.UpdatesSubject("b")} {
		_, err := conn.JS.Publish(t.Context(), subject, []byte("{}"))
		require.NoError(t, err)
	}
	for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor} {
		t.Cleanup(NewBacklog(all).WatchConsumers(conn.JS, service))
	}
}

// family is a metric as Prometheus sees it, and as docs/metrics.md tells of it.
type family struct{ name, kind, labels, help string }

// families gathers the project's own metrics.
func families(t *testing.T, all *Telemetry) map[string]family {
	t.Helper()
	gathered, err := all.Gatherer().Gather()
	require.NoError(t, err)
	found := map[string]family{}
	for _, f := range gathered {
		if !strings.HasPrefix(f.GetName(), namespace+"_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		found[f.GetName()] = family{
			f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp(),
		}
	}
	return found
}

// TestDocsListEveryMetric: docs/metrics.md has each metric with its type, labels and meaning, and no other.
func TestDocsListEveryMetric(t *testing.T) {
	found := families(t, fed(t))
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	listed := map[string]family{}
	row := regexp.MustCompile("(?m)^\\| `(bobosync_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\| ([^|]*) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = family{m[1], m[2], strings.ReplaceAll(strings.TrimSpace(m[3]), "`", ""), m[4]}
	}
	if os.Getenv("PRINT_METRICS") != "" {
		for _, name := range slices.Sorted(maps.Keys(found)) {
			f := found[name]
			labels := ""
			if f.labels != "" {
				labels = "`" + strings.ReplaceAll(f.labels, ", ", "`, `") + "`"
			}
			fmt.Printf("| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
		}
	}
	require.Equal(t, found, listed)
}

// TestNoMetricHidesFromTheDocs: what fed feeds is all that there is.
func TestNoMetricHidesFromTheDocs(t *testing.T) {
	all := fed(t)
	found := families(t, all)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	described := map[string]bool{namespace + "_build_info": true}
	for _, set := range all.sets {
		for _, c := range set.(interface{ collectors() []prometheus.Collector }).collectors() {
			descs := make(chan *prometheus.Desc, 100)
			c.Describe(descs)
			close(descs)
			for d := range descs {
				described[name.FindStringSubmatch(d.String())[1]] = true
			}
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(described)), slices.Sorted(maps.Keys(found)))
}

func TestNamesFollowTheRules(t *testing.T) {
	problems, err := testutil.GatherAndLint(fed(t).Gatherer())
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestNoLabelNamesAPerson: nothing of what a state says by name gets into the metrics.
func TestNoLabelNamesAPerson(t *testing.T) {
	gathered, err := fed(t).Gatherer().Gather()
	require.NoError(t, err)
	for _, f := range gathered {
		require.NotContains(t, f.String(), "secret-")
		require.NotContains(t, f.String(), "e-17")
	}
}

func TestValuesAreReadOffTheStates(t *testing.T) {
	all := fed(t)
	gathered, err := all.Gatherer().Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range gathered {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for key, want := range map[string]float64{
		"bobosync_ingest_files_waiting": 2, "bobosync_ingest_rows_waiting": 40, "bobosync_ingest_free_disk_bytes": 1 << 30,
		"bobosync_ingest_files_unsettled": 1, "bobosync_ingest_problems": 1, "bobosync_ingest_directories_unusable": 0,
		"bobosync_ingest_files_finished_total done": 1, "bobosync_ingest_rows_settled_total applied": 3,
		"bobosync_ingest_rows_settled_total dead": 0, "bobosync_ingest_rows_rejected_total columns": 2,
		"bobosync_resolver_workers_on_duty": 5, "bobosync_resolver_recovered": 1, "bobosync_resolver_entries_total": 500,
		"bobosync_publisher_lanes_held": 2, "bobosync_publisher_users_total applied": 1,
		"bobosync_janitor_mapping_held": 1, "bobosync_janitor_mapping_ambiguous_ids": 1, "bobosync_janitor_runs_total mapping ok": 1,
		"bobosync_janitor_reconcile_differing": 2, "bobosync_janitor_reconcile_applied_total": 1,
		"bobosync_brake_trouble throttled": 1, "bobosync_brake_trouble outage": 0,
		"bobosync_brake_rate_limit_calls_per_second": 1, "bobosync_broker_dead_letters": 1,
		"bobosync_athoc_calls_total update ok": 1, "bobosync_athoc_calls_total search throttled": 1,
	} {
		got, there := values[key]
		require.True(t, there, key)
		require.InDelta(t, want, got, 1e-9, key)
	}
	require.InDelta(t, 60, values["bobosync_ingest_oldest_waiting_file_age_seconds"], 30)
	require.InDelta(t, 3600, values["bobosync_ingest_feed_silence_seconds"], 30)
	require.InDelta(t, 3600, values["bobosync_janitor_mapping_age_seconds"], 30)
	require.InDelta(t, 60, values["bobosync_brake_trouble_age_seconds"], 30)
	require.InDelta(t, float64(time.Now().Add(-time.Hour).Unix()), values["bobosync_janitor_last_success_timestamp_seconds mapping"], 30)
	require.NotContains(t, values, "bobosync_janitor_last_success_timestamp_seconds purge", "a duty that is off is not late")
	waiting := 0.0
	for lane := range topology.Lanes {
		waiting += values["bobosync_broker_pending_messages "+topology.LaneConsumer(lane)+" UPDATES"]
	}
	require.Equal(t, 2.0, waiting)
}

// TestAStateIsAskedSeldom: two servers that scrape do not ask twice; what cannot be had is left out, and comes back.
func TestAStateIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := New("dev")
		var asked int
		fails := false
		stop := NewResolver(all).Watch(func(ctx context.Context) (control.ResolverState, error) {
			asked++
			_, bounded := ctx.Deadline()
			require.True(t, bounded)
			if fails {
				return control.ResolverState{}, errors.New("the disk is gone")
			}
			return control.ResolverState{Workers: asked}, nil
		})
		count := func() int {
			n, err := testutil.GatherAndCount(all.Gatherer(), "bobosync_resolver_workers")
			require.NoError(t, err)
			return n
		}
		require.Equal(t, 1, count())
		require.Equal(t, 1, count())
		require.Equal(t, 1, asked)
		fails = true
		time.Sleep(stateLife + time.Second)
		require.Zero(t, count())
		require.Zero(t, count())
		require.Equal(t, 2, asked, "a failure is not repeated with each look")
		fails = false
		time.Sleep(stateLife + time.Second)
		require.Equal(t, 1, count())
		stop()
		require.Zero(t, count())
		require.Equal(t, 3, asked)
	})
}

// TestStopWaitsForTheLook: what a state is read off may go when stop has returned; an older watch's stop does not end a newer.
func TestStopWaitsForTheLook(t *testing.T) {
	all := New("dev")
	looking, proceed := make(chan struct{}), make(chan struct{})
	var over atomic.Bool
	old := NewIngest(all).Watch(func(context.Context) (control.IngestState, error) {
		close(looking)
		<-proceed
		over.Store(true)
		return control.IngestState{}, nil
	})
	gathered := make(chan struct{})
	go func() {
		defer close(gathered)
		_, _ = all.Gatherer().Gather()
	}()
	<-looking
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		old()
	}()
	close(proceed)
	<-stopped
	require.True(t, over.Load())
	<-gathered
	NewIngest(all).Watch(always(control.IngestState{}))
	old()
	n, err := testutil.GatherAndCount(all.Gatherer(), "bobosync_ingest_files_waiting")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// TestOffIsSafe: without telemetry everything works and nothing is seen.
func TestOffIsSafe(t *testing.T) {
	var off *Telemetry
	NewIngest(off).FileFinished(true)
	NewResolver(off).Watch(always(control.ResolverState{}))()
	NewPublisher(off).Called(1)
	NewJanitor(off).Mapping(control.MappingReport{})
	NewCalls(off).Observe("an unknown one", athoc.Outage, 0)
	off.Part("x", func() bool { return false }).InSession()()
	ready, _ := off.Ready()
	require.True(t, ready)
	require.False(t, off.Tracing())
	off.NoteRoot("file", Work{Name: "x"})
	off.NoteFile("file", Work{Name: "x"})
	off.NoteFiles([]string{"file"}, Work{Name: "x", Err: errors.New("failed")})
	off.FileHeader("file", func(string, string) { t.Error("a header without a trace") })
	server, err := off.Serve(t.Context(), "127.0.0.1:0", slog.Default())
	require.NoError(t, err)
	require.NoError(t, server.Close())
	stop, err := off.Trace(t.Context(), Config{TracesExporter: "otlp"}, "x", "dev", slog.Default())
	require.NoError(t, err)
	require.NoError(t, stop())
}

// TestServicesInOneProcessShare: the second one of a kind gets the same metrics, and does not panic.
func TestServicesInOneProcessShare(t *testing.T) {
	all := New("dev")
	require.Same(t, NewCalls(all), NewCalls(all))
	require.Same(t, NewPublisher(all), NewPublisher(all))
	require.NotSame(t, NewPublisher(all), NewPublisher(New("dev")))
}

func TestSettings(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		says string
	}{
		"nothing":      {Config{}, ""},
		"all of it":    {Config{Addr: ":8080", TracesExporter: "otlp", Endpoint: "http://collector:4318", Headers: "a=b,c=d%20e"}, ""},
		"no port":      {Config{Addr: "localhost"}, "HTTP_ADDR: must be host:port"},
		"only a colon": {Config{Addr: "localhost:"}, "HTTP_ADDR: must be host:port"},
		"exporter":     {Config{TracesExporter: "jaeger"}, "OTEL_TRACES_EXPORTER: must be otlp or none"},
		"endpoint":     {Config{Endpoint: "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must be an address"},
		"traces":       {Config{TracesEndpoint: "collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be an address"},
		"headers":      {Config{Headers: "hunter2"}, "OTEL_EXPORTER_OTLP_HEADERS: must be name=value"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	var read Config
	require.NoError(t, config.Load(t.Context(), config.Map(map[string]string{"HTTP_ADDR": ":1", "OTEL_EXPORTER_OTLP_HEADERS": "k=hunter2"}), &read))
	require.Equal(t, ":1", read.Addr)
	require.NotContains(t, fmt.Sprintf("%+v", read), "hunter2")
	require.False(t, Config{}.Traces())
	require.False(t, Config{Endpoint: "http://c", TracesExporter: "none"}.Traces())
	require.True(t, Config{Endpoint: "http://c"}.Traces())
	require.True(t, Config{TracesExporter: "OTLP"}.Traces())
}
