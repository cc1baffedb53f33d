// Package janitor is the service that owns the clock. It refreshes the mapping of employee ids to AtHoc users, finds duty in
// AtHoc that is too old, compares AtHoc with what it should hold, and has forgotten what is old. It writes neither to AtHoc nor
// to the table of updates: what it sees goes to the resolver, which knows more. Of any number of instances one is at work, the
// others stand by.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/janitor/internal/directory"
	"bobosync/services/janitor/internal/duty"
	"bobosync/services/janitor/internal/journal"
	"bobosync/shared/athocconf"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/lease"
	"bobosync/shared/program"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// name is the service's name in events and logs.
const name = string(topology.Janitor)

// journalFile is the journal's name in DATA_DIRECTORY.
const journalFile = "janitor.db"

// tuning holds what only tests change.
type tuning struct {
	// look is how often the clock is looked at, and the broker asked whether it still holds the mapping.
	look time.Duration
	// count is how often the resolver is asked how many workers are unmapped.
	count time.Duration
}

func defaultTuning() tuning { return tuning{look: 15 * time.Second, count: time.Minute} }

// janitor is the service, at work or not.
type janitor struct {
	tuning
	cfg      Config
	deps     program.Deps
	conn     *bus.Conn
	log      *slog.Logger
	now      func() time.Time
	started  time.Time
	zone     *time.Location
	users    *directory.Reader
	duties   duties
	odd      int
	metrics  *telemetry.Janitor
	breakers *telemetry.Breaker
	part     *telemetry.Part
	// office is nil while this instance stands by.
	office atomic.Pointer[office]
}

// Run does the janitor's work until ctx ends. It returns an error only if the work cannot begin: the data directory, or a
// setting of the connection to AtHoc, cannot be used.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	return run(ctx, cfg, deps, defaultTuning())
}

func run(ctx context.Context, cfg Config, deps program.Deps, t tuning) error {
	log := deps.Log.With("service", name)
	if err := os.MkdirAll(cfg.Data.Directory, 0o700); err != nil {
		return fmt.Errorf("make the directory of the janitor's journal (DATA_DIRECTORY): %w", err)
	}
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
		tuning: t, cfg: cfg, deps: deps, conn: deps.Conn, log: log, now: deps.Clock(), started: time.Now(), zone: cfg.AtHoc.Zone.Location(),
		metrics: telemetry.NewJanitor(deps.Telemetry), breakers: telemetry.NewBreaker(deps.Telemetry),
		part: deps.Telemetry.Part(name, deps.Conn.Connected),
	}
	j.users = directory.NewReader(client, j.now, log)
	j.duties = newDuties(cfg, j.now, t.look, log)
	defer j.metrics.Watch(func(context.Context) (control.JanitorState, error) { return j.state(), nil })()
	return session.Keep(ctx, log, j.session)
}

// duties are what the janitor does by the clock. They outlive sessions with the broker.
type duties struct{ mapping, cleanup, reconcile, purge *duty.Duty }

func newDuties(cfg Config, now func() time.Time, look time.Duration, log *slog.Logger) duties {
	zone := cfg.AtHoc.Zone.Location()
	settings := func(name, trouble string, off bool, plan duty.Plan) duty.Settings {
		return duty.Settings{Name: name, Trouble: trouble, Off: off, Plan: plan, Level: level, Now: now, Look: look, Log: log}
	}
	daily := func(hour int) duty.Plan { return duty.Plan{Hour: hour, Zone: zone, RetryMost: time.Hour} }

	// Without any mapping the resolver reads no entries, so that it is tried again sooner.
	refresh := daily(cfg.Sync.Hour)
	refresh.MostDays, refresh.RetryNever = cfg.Sync.RetryDays, 2*time.Minute
	mapping := settings(control.DutyMapping, "the mapping of employee ids to AtHoc users could not be refreshed; the one in force stays",
		!cfg.Sync.Mappings, refresh)
	mapping.OrdersCount = true
	return duties{
		mapping: duty.New(mapping),
		cleanup: duty.New(settings(control.DutyCleanup, "stale duty could not be looked for", cfg.Lifetime.AutoCleanupHours == 0,
			duty.Plan{Every: cfg.Cleanup.Interval, RetryMost: max(time.Minute, min(cfg.Cleanup.Interval, time.Hour))})),
		reconcile: duty.New(settings(control.DutyReconcile, "AtHoc could not be compared with what it should hold",
			cfg.Reconcile.Mode == reconcileOff, daily(cfg.Reconcile.Hour))),
		purge: duty.New(settings(control.DutyPurge, "what is old could not be forgotten", cfg.Retention == Retention{}, daily(purgeHour))),
	}
}

// session works with the broker until ctx ends.
func (j *janitor) session(ctx context.Context, _ func(error)) error {
	settings := topology.From(j.cfg.Broker, j.cfg.Calls)
	if err := topology.Provision(ctx, j.conn.JS, settings, topology.Janitor, topology.WithLog(j.log)); err != nil {
		return err
	}
	state, err := j.conn.JS.KeyValue(ctx, topology.BucketState)
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
	limits, err := athocconf.Limits(j.cfg.AtHoc, j.cfg.Calls)
	if err != nil {
		return err
	}
	gate, err := breaker.New(ctx, state, limits, j.log)
	if err != nil {
		return err
	}
	j.users.Gate = gate
	defer j.breakers.WatchBreaker(gate, limits)()
	stop, err := control.Serve(ctx, j.conn.NC, topology.Janitor, j.deps.Version,
		control.OnEvery(control.State, func(context.Context, control.Nothing) (control.JanitorState, error) { return j.state(), nil }))
	if err != nil {
		return err
	}
	defer stop()
	defer j.part.InSession()()
	tenure := &tenure{log: j.log}
	return tenure.serve(ctx, keeper, func(ctx context.Context) error { return j.work(ctx, state, tenure.alone) })
}

// work is the janitor's at work, until ctx ends.
func (j *janitor) work(ctx context.Context, state jetstream.KeyValue, alone func() error) (err error) {
	log := journal.Open(filepath.Join(j.cfg.Data.Directory, journalFile), j.now, j.log)
	defer func() { err = errors.Join(err, log.Close()) }()
	notes, err := openBook(ctx, kvCell{state, notesKey}, alone, j.log)
	if err != nil {
		return err
	}
	pub, err := bus.NewPublisher(j.conn, bus.PublisherConfig{})
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }() // it only waits for calls, and there are none left
	d := &desk{
		janitor: j, journal: log,
		refresher: j.newRefresher(notes, kvCell{state, recordKey}, pub, log, alone),
	}
	d.office = &office{
		tasks: j.tasks(notes, log, d.refresher), book: notes, journal: log, metrics: j.metrics, now: j.now, log: j.log,
	}
	d.mapped(ctx)
	d.refresher.done = d.mapped
	stop, err := control.Serve(ctx, j.conn.NC, topology.Janitor, j.deps.Version, d.endpoints()...)
	if err != nil {
		return err
	}
	defer stop()
	j.office.Store(d.office)
	defer j.office.Store(nil)
	j.warn(ctx, d.refresher)
	return d.office.serve(ctx, d.resume, j.newWatcher(d).run)
}

func (j *janitor) newRefresher(b *book, rec cell, pub *bus.Publisher, log *journal.Journal, alone func() error) *refresher {
	collar := strings.TrimSpace(j.cfg.Sync.CollarField)
	query := directory.Query{
		Attribute: collar, Extras: directory.Extras(j.cfg.Sync.UserAttributes, collar), Setting: "COLLAR_ID_FIELD",
	}
	return &refresher{
		js: j.conn.JS, record: rec, book: b, pub: pub, alone: alone, now: j.now, log: j.log, mostRemoved: j.cfg.Sync.MaxRemovalPercent,
		fetch: func(ctx context.Context) ([]directory.Person, error) { return j.users.All(ctx, query) },
		found: func(f findings) {
			if err := log.SetFindings(journal.Findings{
				Users: f.users, Without: f.without, Unusable: f.unusable, Ambiguous: f.ambiguous, Alike: f.alike,
			}); err != nil {
				j.log.Warn("what was found of AtHoc's users cannot be kept for operators", "error", err)
			}
		},
	}
}

// tasks are the duties and how they are done.
func (j *janitor) tasks(b *book, log *journal.Journal, mapping *refresher) []task {
	status := directory.Query{Attribute: j.cfg.AtHoc.DutyStatusField, Setting: "DUTY_STATUS_FIELD"}
	ask := func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
		return control.Ask[control.ObserveAnswer](ctx, j.conn.NC, topology.Resolver, control.Observe, req)
	}
	clean := &cleaner{
		fetch:   func(ctx context.Context) ([]directory.Person, error) { return j.users.Having(ctx, status) },
		observe: ask, lifetime: j.cfg.Lifetime.Duration(), zone: j.zone, metrics: j.metrics, now: j.now, log: j.log, odd: &j.odd,
	}
	compare := &reconciler{
		fetch:   func(ctx context.Context) ([]directory.Person, error) { return j.users.All(ctx, status) },
		observe: ask, keep: log.SetComparison, apply: j.cfg.Reconcile.Mode == reconcileApply,
		most: j.cfg.Reconcile.MaxChangePercent, zone: j.zone, metrics: j.metrics, now: j.now, log: j.log,
	}
	forget := &purger{
		ask: func(ctx context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
			return control.Ask[control.PurgeAnswer](ctx, j.conn.NC, topology.Ingest, control.Purge, req)
		},
		prune: log.Prune, days: j.cfg.Retention, zone: j.zone, metrics: j.metrics, now: j.now, log: j.log,
	}
	return []task{
		{Duty: j.duties.mapping, work: mapping.refresh, last: mapping.inForce},
		{Duty: j.duties.cleanup, work: clean.clean, often: true},
		{Duty: j.duties.reconcile, work: compare.reconcile, last: b.noted(control.DutyReconcile)},
		{Duty: j.duties.purge, work: forget.purge, last: b.noted(control.DutyPurge)},
	}
}

func (j *janitor) newWatcher(d *desk) *watcher {
	return &watcher{
		mapping: j.duties.mapping, book: d.office.book, every: j.count, record: d.refresher.load, now: j.now, log: j.log,
		resolvers: func(ctx context.Context) ([]control.ResolverState, error) {
			return control.AskAll[control.ResolverState](ctx, j.conn.NC, topology.Resolver, control.State, control.Nothing{})
		},
		enter: func(o *duty.Order) (string, error) { return d.office.enter(control.DutyMapping, o) },
	}
}

// warn says so if nobody will ever make a mapping.
func (j *janitor) warn(ctx context.Context, mapping *refresher) {
	if j.cfg.Sync.Mappings {
		return
	}
	if stream, err := mapping.stream(ctx); err == nil && stream.CachedInfo().State.Msgs == 0 {
		j.log.Warn("SYNC_MAPPINGS is false and the broker holds no mapping of employee ids to AtHoc users: " +
			"no entry can be resolved until one is there; set SYNC_MAPPINGS=true")
	}
}

// state tells what the janitor does and did.
func (j *janitor) state() control.JanitorState {
	s := control.JanitorState{Instance: control.Me(j.deps.Version, j.started)}
	if o := j.office.Load(); o != nil {
		s.AtWork, s.Duties, s.Held = true, o.states(), o.book.read().Held.told()
	}
	return s
}
