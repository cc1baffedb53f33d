// Package ingest owns the files: it finds them, reads them, publishes their entries, keeps the ledger of what became
// of each row, and moves a file out of the input directory when all of its rows are settled. Nothing else moves
// files.
//
// The files are the write-ahead log of the whole program. Everything ingest does can be repeated at any point: the
// broker's store, the ledger, or the resolver's state store may be lost, and reading the files again leads to the
// same result.
//
// The path of a row, by package: internal/watch finds its file; internal/intake reads the file with internal/content
// and internal/bobocsv, takes the row into internal/ledger and publishes it with internal/entries; settle.go notes
// its outcome; internal/mover moves the file, and internal/retention finally deletes it. internal/recovery rebuilds
// what was lost.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"bobosync/services/ingest/internal/entries"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/metrics"
	"bobosync/services/ingest/internal/mover"
	"bobosync/services/ingest/internal/recovery"
	"bobosync/services/ingest/internal/retention"
	"bobosync/services/ingest/internal/watch"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// Run runs ingest until ctx ends, and then returns nil. It returns an error only for problems that waiting cannot
// fix: directories that cannot be used, or a ledger that another process holds or that cannot be written. It waits
// for anything that is missing in the broker.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	t := defaultTuning()
	if deps.Now != nil {
		t.now = deps.Now
	}

	return run(ctx, cfg, deps, t)
}

// tuning holds the values that only tests change.
type tuning struct {
	now func() time.Time
	// check is how often housekeeping runs. stallTimeout is for how long nothing must have been settled or under way
	// before the files that wait are published again.
	check, stallTimeout time.Duration
	// retry is the first pause after a failure, maxRetry the longest one.
	retry, maxRetry time.Duration
	// purgeRecords is how many records a purge examines at a time, purgeTime how long one part of a purge may take.
	purgeRecords int
	purgeTime    time.Duration
	remove       func(path string) error
	hit          failpoint.Hit
	// onIdle is called when the reader waits for something to do, onReady when ingest starts and stops working with
	// the broker.
	onIdle  func()
	onReady func(ready bool)
}

func defaultTuning() tuning {
	return tuning{
		now: time.Now, check: 15 * time.Second, stallTimeout: time.Minute, retry: 250 * time.Millisecond, maxRetry: 30 * time.Second,
		purgeRecords: 256, purgeTime: 4 * time.Second, remove: os.Remove, hit: failpoint.None, onIdle: func() {}, onReady: func(bool) {},
	}
}

// service is ingest while it runs. The parts that need no broker keep working while the broker is away.
type service struct {
	tuning
	cfg       Config
	deps      program.Deps
	log       *slog.Logger
	ledger    *ledger.Ledger
	found     *watch.Tracker
	watchers  []*watch.Watcher
	intake    *intake.Intake
	recovery  *recovery.Recovery
	mover     *mover.Mover
	dirs      *dirWatch
	feeds     feedSet
	operators *operators
	settled   atomic.Uint64 // counts outcomes, so that a stall is noticed
	metrics   *metrics.Set
	component *telemetry.Component
}

func run(ctx context.Context, cfg Config, deps program.Deps, t tuning) (err error) {
	log := deps.Log.With("service", string(topology.Ingest))

	if err := errors.Join(cfg.Validate(), cfg.prepare()); err != nil {
		return fmt.Errorf("ingest cannot start: %w", err)
	}

	l, err := ledger.Open(cfg.LedgerPath(), log)
	if err != nil {
		return fmt.Errorf("ingest cannot start: %w", err)
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	hit := t.hit
	t.hit = func(p failpoint.Point) error { // a crash ends everything, not only the part in which it happens
		err := hit(p)
		if err != nil {
			cancel(err)
		}

		return err
	}

	s, err := newService(cfg, deps, log, l, t)
	if err != nil {
		return fmt.Errorf("ingest cannot start: %w", err)
	}

	data := directory{"DATA_DIRECTORY", cfg.Data.Directory, false}
	if err := errors.Join(data.check(true), s.dropNames(), s.recovery.ForgetHalfRead(), s.recovery.Rebuild(ctx)); err != nil {
		return endOf(ctx, err)
	}

	return s.run(ctx, cancel)
}

func newService(cfg Config, deps program.Deps, log *slog.Logger, l *ledger.Ledger, t tuning) (*service, error) {
	s := &service{
		tuning: t, cfg: cfg, deps: deps, log: log, ledger: l, metrics: metrics.New(deps.Telemetry),
		component: deps.Telemetry.Component(string(topology.Ingest), deps.Conn.Connected), dirs: newDirWatch(cfg, log, t.now),
	}
	l.OnChange(s.count)
	s.watch()

	var err error
	if s.feeds, err = newFeeds(l, cfg.Inputs(), cfg.Zone.Location(), t.now); err != nil {
		return nil, err
	}

	s.mover, err = mover.New(mover.Config{
		Ledger: l, Log: log, Inputs: cfg.Inputs(), Processed: cfg.ProcessedDirectory, Failed: cfg.FailedDirectory,
		Stay: !cfg.Move, Now: t.now, Hit: t.hit, FirstPause: t.retry, MaxPause: t.maxRetry, Recheck: t.check,
		Unusable: s.dirs.check, Finished: s.logFinished,
	})
	if err != nil {
		return nil, err
	}

	s.intake = &intake.Intake{
		Ledger: l, Log: log, Zone: cfg.Zone.Location(), MaxClockSkew: cfg.MaxClockSkew, Stay: !cfg.Move, Now: t.now, Hit: t.hit,
		Metrics: s.metrics, Traces: deps.Telemetry, Finished: s.mover.Add, Retry: s.found.Retry,
	}
	s.recovery = &recovery.Recovery{
		Intake: s.intake, Inputs: cfg.Inputs(), Lifetime: cfg.Lifetime.Duration(), Pause: s.mover.Pause,
		FirstPause: t.retry, MaxPause: t.maxRetry,
	}
	for _, dir := range []string{cfg.FailedDirectory, cfg.ProcessedDirectory} { // in the order in which repaired files move
		if dir != "" {
			s.recovery.Finished = append(s.recovery.Finished, dir)
		}
	}

	s.operators = &operators{
		ledger: l, found: s.found, intake: s.intake, mover: s.mover, dirs: s.dirs, cfg: cfg, now: t.now,
		feeds: s.feeds, fresh: newFresh(cfg, l, s.found, t),
		instance: control.Me(deps.Version, t.now()), conn: deps.Conn,
		purger: &retention.Purger{Config: retention.Config{
			Ledger: l, Log: log, Processed: cfg.ProcessedDirectory, Lifetime: cfg.Lifetime.Duration(), Records: t.purgeRecords,
			Time: t.purgeTime, Patience: retention.Patience, Now: t.now, Hit: t.hit, Remove: t.remove, TakeBack: s.mover.TakeBackIfWritten,
		}},
	}

	return s, nil
}

// watch makes a watcher for each input directory. All of them report to one tracker.
func (s *service) watch() {
	s.found = watch.NewTracker(s.cfg.SettleTime, s.log)
	for _, in := range s.cfg.Inputs() {
		s.watchers = append(s.watchers, watch.New(watch.Config{
			Dir: in.Dir, Prefix: in.Prefix(), Tracker: s.found, Poll: s.cfg.PollInterval, Settle: s.cfg.SettleTime, MaxSize: s.cfg.MaxFileSize,
			Logger: s.log, OnList: s.dirs.onList(control.InputDirectory(in.Feed)),
		}))
	}
}

func (s *service) run(ctx context.Context, cancel context.CancelCauseFunc) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil) // runs before the wait

	for _, w := range s.watchers {
		parts.Go(func() { w.Run(ctx) })
	}

	parts.Go(func() { s.dirs.run(ctx, s.check) })
	parts.Go(func() {
		if err := s.mover.Run(ctx); err != nil {
			cancel(err)
		}
	})

	defer s.metrics.Watch(func(ctx context.Context) (control.IngestState, error) {
		return s.operators.state(ctx, control.Nothing{})
	})()

	return endOf(ctx, session.Keep(ctx, s.log, s.session))
}

// endOf turns the end of a context into nil, or into its cause if that was a failure of a part.
func endOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}

	if ctx.Err() != nil {
		return nil //nolint:nilerr // whatever failed, failed because of the context's end
	}

	return err
}

// dropNames drops from the ledger the names that are not in the input directories any more.
func (s *service) dropNames() error {
	there := map[string]bool{}
	for _, in := range s.cfg.Inputs() {
		dir, err := os.ReadDir(in.Dir)
		if err != nil {
			return fmt.Errorf("%s: list %s: %w", control.InputDirectory(in.Feed), in.Dir, err)
		}

		for _, d := range dir {
			there[in.Prefix()+d.Name()] = true
		}
	}

	var gone []string

	return s.ledger.Update(func(tx *ledger.Tx) error {
		gone = gone[:0]
		err := tx.Names().Each(func(name string, _ ledger.NameEntry) error {
			if !there[name] {
				gone = append(gone, name)
			}
			return nil
		})
		for _, name := range gone {
			err = errors.Join(err, tx.Names().Drop(name))
		}

		return err
	})
}

// count reports the outcomes of rows and files to the metrics.
func (s *service) count(c ledger.Change) {
	for code, n := range c.Rows {
		if code.Settled() {
			s.metrics.RowsSettled(event.Outcome(code), n)
		} else {
			s.metrics.RowsRejected(code.String(), n)
		}
	}

	s.operators.fresh.count(c.Rows)

	if c.Finished {
		s.metrics.FileFinished(c.Failed)
	}

	if c.Read != nil {
		s.feeds.count(*c.Read)
	}
}

// logFinished writes the one log line that each finished file gets, and records the end of its trace.
func (s *service) logFinished(f *ledger.File, to string) {
	s.deps.Telemetry.NoteFile(f.ID, telemetry.Work{
		Name: "settle rows", Began: f.FirstSeen, Ended: f.Finished, Counts: map[string]int{"rows": f.Rows, "rejected": f.Rejected},
	})
	s.deps.Telemetry.NoteFile(f.ID, telemetry.Work{Name: "move file", Began: f.Finished, Ended: s.now()})

	args := []any{
		"file", f.Name, "file_id", ledger.Short(f.ID), "rows", f.Rows, "rejected", f.Rejected,
		"seconds", f.Finished.Sub(f.FirstSeen).Round(time.Millisecond).Seconds(),
	}
	args = append(args, f.Codes.Summary()...)
	if to != "" {
		args = append(args, "moved_to", to)
	}

	switch {
	case f.Problem != "":
		s.log.Warn("file set aside", append(args, "reason", f.Problem)...)
	case f.Rows == f.Rejected:
		s.log.Info("file finished, it has no good row", args...)
	default:
		s.log.Info("file finished", args...)
	}
}

// streamConfig returns the configuration of a session's stream of entries.
func (s *service) streamConfig() entries.Config {
	return entries.Config{
		Conn: s.deps.Conn, Log: s.log, MaxAge: s.cfg.Broker.MaxAge, Now: s.now, FirstPause: s.retry, MaxPause: s.maxRetry,
	}
}
