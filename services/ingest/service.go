// Package ingest owns the files: it finds them, reads them, publishes their entries, keeps the ledger of what became of each
// row, and moves a file out of the input directory when all of its rows are settled. Nothing else moves files.
//
// The files are the write-ahead log of the whole program. What ingest does can be repeated at any point: the broker's
// store, the ledger, or the resolver's memory may be lost, and reading the files again leads to the same end.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/program"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// Run runs ingest until ctx ends; then it returns nil. It returns an error only for what waiting cannot mend: directories
// that cannot be used, a ledger that is held by another process or cannot be written. What the broker lacks it waits for.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	return run(ctx, cfg, deps, defaultTuning())
}

// tuning holds what only tests change.
type tuning struct {
	now func() time.Time
	// check is how often the watchdog and the housekeeping look, patience how long nothing must have moved.
	check, patience time.Duration
	// retry is the first pause after a failure, maxRetry the longest.
	retry, maxRetry time.Duration
	// purgeRecords is how many records a purge looks at in a go, purgeTime how long a part of it takes.
	purgeRecords int
	purgeTime    time.Duration
	remove       func(path string) error
	// reach is called at the points below. An error there ends ingest on the spot, as a kill would.
	reach func(point) error
	// onReady is called when ingest begins (true) and ceases (false) to work with the broker.
	onReady func(ready bool)
	// onIdle is called when the reader waits for something to do.
	onIdle func()
}

func defaultTuning() tuning {
	return tuning{
		now: time.Now, check: 15 * time.Second, patience: time.Minute, retry: 250 * time.Millisecond, maxRetry: 30 * time.Second,
		purgeRecords: 256, purgeTime: 4 * time.Second, remove: os.Remove,
		reach: func(point) error { return nil }, onReady: func(bool) {}, onIdle: func() {},
	}
}

// point is a place between two steps that a crash may come between.
type point string

const (
	pointStored       point = "entries stored in the ledger, not published"
	pointPublished    point = "entries published, not marked"
	pointSettled      point = "outcomes noted, not acknowledged"
	pointMoved        point = "files moved, not noted"
	pointRebuilt      point = "ledger rebuilt, not marked"
	pointFinishedTold point = "finished files published again, those that wait not yet"
	pointRecovered    point = "memory recovered, not noted"
	pointMarked       point = "old files marked, not deleted"
	pointDeleted      point = "old files deleted, not noted"
)

// errKilled is wrapped by what tests make reach return.
var errKilled = errors.New("killed")

// service is ingest while it runs. Its parts that need no broker work through outages of the broker.
type service struct {
	tuning
	cfg     Config
	deps    program.Deps
	log     *slog.Logger
	ledger  *ledger.Ledger
	watcher *folder.Watcher
	mover   *mover
	settled progress
	dirs    *directories
	purger  purger
	started time.Time
	metrics *telemetry.Ingest
	part    *telemetry.Part
}

func run(ctx context.Context, cfg Config, deps program.Deps, t tuning) (err error) {
	log := deps.Log.With("service", string(topology.Ingest))
	if err := errors.Join(cfg.Validate(), cfg.prepare()); err != nil {
		return fmt.Errorf("ingest cannot start: %w", err)
	}
	book, err := ledger.Open(cfg.LedgerPath(), log)
	if err != nil {
		return fmt.Errorf("ingest cannot start: %w", err)
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	s := &service{
		tuning: t, cfg: cfg, deps: deps, log: log, ledger: book, metrics: telemetry.NewIngest(deps.Telemetry),
		part: deps.Telemetry.Part(string(topology.Ingest), deps.Conn.Connected),
	}
	s.watcher = folder.NewWatcher(folder.WatchConfig{
		Dir: cfg.CSVDirectory, Poll: cfg.PollInterval, Settle: cfg.SettleTime, Logger: log, OnProblem: s.problem, OnList: s.listed,
	})
	s.dirs = newDirectories(cfg, log, t.now)
	s.started = t.now()
	book.OnChange(s.count)
	s.mover = newMover(s)
	return s.run(ctx)
}

func (s *service) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.tidyUp(); err != nil {
		return err
	}
	if err := s.forgetHalfRead(); err != nil {
		return err
	}
	if err := s.rebuild(ctx); err != nil {
		return endOf(ctx, err)
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil) // runs before the wait
	parts.Go(func() { s.watcher.Run(ctx) })
	parts.Go(func() { s.dirs.run(ctx, s.check) })
	parts.Go(func() {
		if err := s.mover.run(ctx); err != nil {
			cancel(err)
		}
	})
	defer s.metrics.Watch(func(ctx context.Context) (control.IngestState, error) { return s.state(ctx, control.Nothing{}) })()
	return endOf(ctx, s.sessions(ctx))
}

// endOf turns the end of a context into nil, or into what ended it if that was a failure of a part.
func endOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // whatever failed, failed because of the context's end
	}
	return err
}

// tidyUp removes what an earlier run may have left behind, and queues the moves that it did not get to.
func (s *service) tidyUp() error {
	for _, d := range s.cfg.directories()[1:] {
		if err := folder.RemoveParts(d.path); err != nil {
			return fmt.Errorf("%s: %w", d.variable, err)
		}
	}
	for _, d := range s.cfg.directories() {
		if err := folder.PutBack(d.path); err != nil {
			return fmt.Errorf("%s: %w", d.variable, err)
		}
	}
	if err := (directory{"DATA_DIRECTORY", s.cfg.Data.Directory}).check(true); err != nil { // it removes tries that were cut off
		return err
	}
	if err := s.dropNames(); err != nil {
		return err
	}
	files, err := s.ledger.Open()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Status == ledger.Done {
			s.mover.add(f.ID, true)
		}
	}
	return nil
}

// dropNames forgets the names that are not in the input directory any more.
func (s *service) dropNames() error {
	dir, err := os.ReadDir(s.cfg.CSVDirectory)
	if err != nil {
		return fmt.Errorf("CSV_DIRECTORY: list %s: %w", s.cfg.CSVDirectory, err)
	}
	there := map[string]bool{}
	for _, d := range dir {
		there[d.Name()] = true
	}
	var gone []string
	return s.ledger.Update(func(tx *ledger.Tx) error {
		gone = gone[:0]
		err := tx.Names(func(name string, _ ledger.Named) error {
			if !there[name] {
				gone = append(gone, name)
			}
			return nil
		})
		for _, name := range gone {
			err = errors.Join(err, tx.DropName(name))
		}
		return err
	})
}

// problem notes what the watcher finds unreadable.
func (s *service) problem(name, reason string) {
	if err := s.ledger.SetProblem(name, reason, s.now()); err != nil {
		s.log.Error("cannot note a problem in the file ledger", "file", name, "error", err)
	}
}

// nameTaken notes which content is under a name now, and that another one is not there any more.
func (s *service) nameTaken(tx *ledger.Tx, p *ledger.Place, id string) error {
	before, known, err := tx.Name(p.Name)
	if err != nil {
		return err
	}
	if known && before.ID != "" && before.ID != id {
		if err := loseAt(tx, before.ID, p.Name); err != nil {
			return err
		}
	}
	return tx.SetName(p.Name, ledger.Named{Stat: p.Stat, ID: id})
}

func loseAt(tx *ledger.Tx, id, name string) error {
	f, err := tx.File(id)
	if err != nil || f == nil {
		return err
	}
	f.Lose(name)
	return tx.Put(f)
}

// storePlace attaches a name to a known file, and returns the file if it is done, so that the place is to be cleared.
func (s *service) storePlace(tx *ledger.Tx, a attachment) (*ledger.File, error) {
	f, err := tx.File(a.id)
	if err != nil {
		return nil, err
	}
	if f == nil { // the copy that was being read changed, so this one is the only one now
		s.watcher.Retry(a.place.Name)
		return nil, nil
	}
	a.place.Found = s.now().UTC()
	if err := tx.Attach(f, a.place); err != nil {
		return nil, err
	}
	if a.note != "" {
		f.Note(s.now(), a.note)
	}
	if err := s.nameTaken(tx, &a.place, a.id); err != nil {
		return nil, err
	}
	f.Keep = f.Status == ledger.Done && !s.cfg.Move
	if err := tx.Put(f); err != nil {
		return nil, err
	}
	if f.Status != ledger.Done || f.Keep {
		return nil, nil
	}
	return f, nil
}

// finished is called with files whose last row was settled, or that turned up again after that.
func (s *service) finished(files ...*ledger.File) {
	for _, f := range files {
		s.mover.add(f.ID, false)
	}
}

// progress counts what moves, so that a standstill can be told.
type progress struct {
	mu    sync.Mutex
	count uint64
}

func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count += uint64(n)
}

func (p *progress) get() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// backoff doubles from a first pause to a longest one.
type backoff struct{ next, longest time.Duration }

func (s *service) newBackoff() backoff { return backoff{next: s.retry, longest: s.maxRetry} }

// wait rests, and returns the context's error if it ends before.
func (b *backoff) wait(ctx context.Context) error {
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(2*b.next, b.longest)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// minutely lets a complaint through that was not made within the last minute.
type minutely struct{ last time.Time }

func (m *minutely) due(now time.Time) bool {
	if !m.last.IsZero() && now.Sub(m.last) < time.Minute {
		return false
	}
	m.last = now
	return true
}
