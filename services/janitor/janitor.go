// Package janitor is the service that owns the clock. It refreshes the mapping of employee ids to AtHoc users, finds
// duty statuses in AtHoc that are too old, compares AtHoc with what it should hold, and has old data deleted. It
// writes neither to AtHoc nor to the table of updates: it reports what it sees to the resolver, which knows more. Of
// any number of instances one is the leader, the others are followers.
//
// This file holds the life of an instance: its session with the broker, and the parts that it is made of while it
// leads. Jobs are in jobs.go. Each part has a package below internal: leader, scheduler, periodic (when a job is due),
// mapping, dutystatus, purge, users (reading AtHoc), state, journal, notice, api.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/janitor/internal/api"
	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/leader"
	"bobosync/services/janitor/internal/mapping"
	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/notice"
	"bobosync/services/janitor/internal/scheduler"
	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/athocconf"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/check"
	"bobosync/shared/control"
	"bobosync/shared/lease"
	"bobosync/shared/pause"
	"bobosync/shared/program"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// name is the service's name in events and logs.
const name = string(topology.Janitor)

// tuning holds intervals that only tests change.
type tuning struct {
	// pollInterval is how often the clock is read, and how often the broker is asked whether it still holds the
	// mapping.
	pollInterval time.Duration
	// countInterval is how often the resolver is asked how many workers are unmapped.
	countInterval time.Duration
	// remakeInterval is how often the janitor checks whether the broker has lost parts of its store.
	remakeInterval time.Duration
}

func defaultTuning() tuning {
	return tuning{pollInterval: 15 * time.Second, countInterval: time.Minute, remakeInterval: 15 * time.Second}
}

// janitor is an instance of the service, whether it leads or not.
type janitor struct {
	tuning
	cfg       Config
	version   string
	check     control.Endpoint
	conn      *bus.Conn
	log       *slog.Logger
	now       func() time.Time
	started   time.Time
	users     *users.Reader
	ping      breaker.Probe // a small search
	tokens    *tokens.Store
	jobs      jobs
	odd       int
	metrics   *metrics.Set
	breakers  *telemetry.Breaker
	component *telemetry.Component
	// web makes the calls of webhooks and of the heartbeat.
	web   *http.Client
	sinks []notice.Sink
	// leading, journal and notifier are nil while this instance follows.
	leading  atomic.Pointer[scheduler.Scheduler]
	journal  atomic.Pointer[journal.Journal]
	notifier atomic.Pointer[notice.Notifier]
}

// Run does the janitor's work until ctx ends. It returns an error only if the work cannot begin, because a setting
// cannot be used.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	return run(ctx, cfg, deps, defaultTuning())
}

func run(ctx context.Context, cfg Config, deps program.Deps, t tuning) error {
	log := deps.Log.With("service", name)

	shared, err := tokens.New(deps.Conn.JS, cfg.AtHoc, log)
	if err != nil {
		return err
	}

	client, err := athocconf.Client(cfg.AtHoc, cfg.Calls, shared, deps.Version, log,
		athocconf.Observed(telemetry.NewCalls(deps.Telemetry)))
	if err != nil {
		return err
	}
	defer client.Close()

	j := &janitor{
		tuning: t, cfg: cfg, version: deps.Version, check: check.Endpoint(cfg.Checked(), deps), conn: deps.Conn, log: log, now: deps.Clock(), started: time.Now(),
		metrics: metrics.New(deps.Telemetry), breakers: telemetry.NewBreaker(deps.Telemetry),
		component: deps.Telemetry.Component(name, deps.Conn.Connected),
	}
	j.users, j.ping, j.tokens = users.NewReader(client, j.now, log), client.Ping, shared
	if j.web, err = athocconf.Web(cfg.AtHoc, notice.SendTimeout); err != nil {
		return fmt.Errorf("the way to webhooks: %w", err)
	}

	if j.sinks, err = cfg.Notify.sinks(j.web, j.now); err != nil {
		return err
	}

	j.jobs = newJobs(cfg, j.now, t.pollInterval, log)
	defer j.metrics.Watch(func(context.Context) (control.JanitorState, error) { return j.state(), nil })()

	return session.Keep(ctx, log, j.session)
}

// session works with the broker until ctx ends or the session fails.
func (j *janitor) session(ctx context.Context, _ func(error)) error {
	settings := topology.From(j.cfg.Broker, j.cfg.Calls)
	if err := topology.Provision(ctx, j.conn.JS, settings, topology.Janitor, topology.WithLog(j.log)); err != nil {
		return err
	}

	kept, err := j.conn.JS.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	leases, err := j.conn.JS.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketLeases, err)
	}

	keeper, err := lease.NewKeeper(ctx, leases, name)
	if err != nil {
		return err
	}

	limits, err := athocconf.Limits(ctx, j.cfg.AtHoc, j.cfg.Calls, j.tokens)
	if err != nil {
		return err
	}

	circuit, err := breaker.New(ctx, kept, limits, j.log)
	if err != nil {
		return err
	}

	circuit.ProbeWith(j.ping)
	j.users.Breaker = circuit
	defer j.breakers.WatchBreaker(circuit, limits)()

	stop, err := control.Serve(ctx, j.conn.NC, topology.Janitor, j.version,
		control.OnEvery(control.State, func(context.Context, control.Nothing) (control.JanitorState, error) { return j.state(), nil }))
	if err != nil {
		return err
	}
	defer stop()
	defer j.component.InSession()()

	leadership := leader.New(j.log)

	return leadership.Lead(ctx, keeper, func(ctx context.Context) error { return j.lead(ctx, kept, leadership.Check) })
}

// lead does the janitor's work while this instance leads, until ctx ends.
func (j *janitor) lead(ctx context.Context, kept jetstream.KeyValue, checkLeader func() error) (err error) {
	pub, err := bus.NewPublisher(j.conn, bus.PublisherConfig{})
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }() // Close only waits for calls, and none are left

	log, err := journal.Open(ctx, j.conn.JS, pub, j.now, j.log)
	if err != nil {
		return err
	}

	defer func() { err = errors.Join(err, log.Interrupt()) }()

	store, err := state.Open(ctx, state.KVEntry{KV: kept, Key: state.Key}, checkLeader, j.log)
	if err != nil {
		return err
	}

	refresher := j.newRefresher(store, state.KVEntry{KV: kept, Key: mapping.RecordKey}, pub, log, checkLeader)
	j.showMapping(ctx, refresher, log)
	s := &scheduler.Scheduler{
		Jobs: j.runners(store, log, refresher), State: store, Journal: log, Metrics: j.metrics, Now: j.now, Log: j.log,
	}
	notifier := j.newNotifier(kept, log, checkLeader)
	operators := &api.API{
		Scheduler: s, State: store, Journal: log, Refresher: refresher, Mapping: j.jobs.mapping, Reconcile: j.jobs.reconcile,
		ReconcileApplies: j.cfg.Reconcile.Mode == reconcileApply, PollInterval: j.pollInterval, Now: j.now, Log: j.log,
	}

	stop, err := control.Serve(ctx, j.conn.NC, topology.Janitor, j.version, append(operators.Endpoints(),
		control.On(control.TestNotify, notifier.Try), control.On(control.EmergencyLogin, notifier.Login), j.check)...)
	if err != nil {
		return err
	}
	defer stop()

	j.leading.Store(s)
	defer j.leading.Store(nil)

	j.journal.Store(log)
	defer j.journal.Store(nil)

	j.notifier.Store(notifier)
	defer j.notifier.Store(nil)

	j.warn(ctx, refresher)
	days := journal.Days{JS: j.conn.JS, Journal: log, Now: j.now, Log: j.log}

	return s.Serve(ctx, operators.Resume, j.newWatcher(s, refresher).Run, days.Keep, log.Lost, notifier.Run, j.remake)
}

// remake recreates parts of the store that the broker has lost, until ctx ends.
func (j *janitor) remake(ctx context.Context) error {
	var missing []string

	return pause.Every(ctx, j.remakeInterval, func() error {
		var err error
		missing, err = topology.Remake(ctx, j.conn.JS, topology.From(j.cfg.Broker, j.cfg.Calls), missing, j.log)
		if err != nil && ctx.Err() == nil {
			j.log.Warn("what the broker may have lost could not be made again, trying again", "error", err)
		}

		return nil
	})
}

// showMapping puts the mapping in force into the metrics.
func (j *janitor) showMapping(ctx context.Context, refresher *mapping.Refresher, log *journal.Journal) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	rec, _, err := refresher.LoadRecord(ctx)
	if err != nil {
		return // the next refresh shows it
	}

	found := log.Findings()
	j.metrics.Mapping(control.MappingReport{
		Refreshed: rec.Refreshed, Mapped: rec.Users, Users: found.Users, Without: found.Without, Ambiguous: found.Ambiguous,
	})
}

// warn logs a warning if there is no mapping and this janitor will not make one.
func (j *janitor) warn(ctx context.Context, refresher *mapping.Refresher) {
	if j.cfg.Sync.Mappings {
		return
	}

	if empty, err := refresher.Empty(ctx); err == nil && empty {
		j.log.Warn("SYNC_MAPPINGS is false and the broker holds no mapping of employee ids to AtHoc users: " +
			"no entry can be resolved until one is there; set SYNC_MAPPINGS=true")
	}
}

// state returns the state that the janitor reports.
func (j *janitor) state() control.JanitorState {
	s := control.JanitorState{Instance: control.Me(j.version, j.started), Unverified: j.cfg.AtHoc.DisableSSLVerify, Insecure: j.cfg.AtHoc.Insecure()}
	s.Unstored, s.Restored = j.conn.Unstored(), j.conn.Restored()
	if leading := j.leading.Load(); leading != nil {
		s.Leads, s.Jobs, s.Held = true, leading.States(), leading.State.Read().Held.Report()
	}

	if log := j.journal.Load(); log != nil {
		s.ReconcileHeld = log.Held()
	}

	if notifier := j.notifier.Load(); notifier != nil {
		s.Notify = notifier.States()
	}

	return s
}
