package ingest

import (
	"context"
	"sync"
	"time"

	"bobosync/services/ingest/internal/freshness"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/watch"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

// fresh knows the time up to which AtHoc is complete, and how long rows take. It is safe for concurrent use.
type fresh struct {
	ledger *ledger.Ledger
	found  *watch.Tracker
	now    func() time.Time
	since  time.Time
	// lateAfter is LATE_AFTER. grace is how long ago the input directory may have been listed. pollInterval is how
	// often the resolver is asked for holds.
	lateAfter, grace, pollInterval time.Duration

	mu    sync.Mutex
	meter freshness.Meter
	// awaitingApproval counts, by file, the rows that wait for a person's decision, as the resolver reported at
	// awaitingAt.
	awaitingApproval map[string]int
	awaitingAt       time.Time
}

// awaitingFor is how long the resolver's answer about rows that wait for a decision is valid, in polls.
const awaitingFor = 3

func newFresh(cfg Config, l *ledger.Ledger, found *watch.Tracker, t tuning) *fresh {
	f := &fresh{
		ledger: l, found: found, now: t.now, since: t.now(), lateAfter: cfg.LateAfter, grace: cfg.PollInterval + slowCheck, pollInterval: t.check / 3,
	}
	l.OnConfirm(f.confirmed)

	return f
}

// confirmed measures a row that AtHoc has confirmed.
func (f *fresh) confirmed(c ledger.Confirmed) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()

	f.meter.Add(freshness.Row{
		Parts: freshness.Split(c.Arrived, c.Ready, now, c.AtHoc), File: c.File, Name: c.Name, Line: c.Line, Employee: c.Employee, Confirmed: now,
	})
}

// count counts rows that were settled.
func (f *fresh) count(rows map[ledger.Code]int) {
	if n := rows[ledger.Code(event.Unmapped)]; n > 0 {
		f.mu.Lock()
		defer f.mu.Unlock()

		f.meter.AddUnmapped(f.now(), n)
	}
}

// setAwaitingApproval stores which rows wait for a person's decision.
func (f *fresh) setAwaitingApproval(rows map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.awaitingApproval, f.awaitingAt = rows, f.now()
}

// rowsAwaitingApproval returns how many rows of each file wait for a person's decision, or nil if the resolver has
// not answered recently.
func (f *fresh) rowsAwaitingApproval() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.now().Sub(f.awaitingAt).Abs() > awaitingFor*f.pollInterval {
		return nil
	}

	return f.awaitingApproval
}

// state returns the current freshness, with the stats that it is based on.
func (f *fresh) state() (*control.Freshness, ledger.Stats, error) {
	unread, listed, err := f.unreadFiles() // before the stats: a file that is read in between is counted twice rather than not at all
	now := f.now()

	waiting := f.ledger.Stats(now, f.rowsAwaitingApproval())
	if err != nil {
		return nil, waiting, err
	}

	first, name := waiting.FirstArrival, waiting.FirstFile
	if len(unread) > 0 && (first.IsZero() || unread[0].Arrived.Before(first)) {
		first, name = unread[0].Arrived, unread[0].Name
	}

	if listed.IsZero() {
		listed = f.since
	}

	mark := freshness.Watermark(now, listed, f.grace, first)
	lag := now.Sub(mark)
	if mark.Round(0).After(now.Round(0)) { // by the wall clock, which was set back since
		mark = now.Add(-lag)
	}

	f.mu.Lock()
	report := f.meter.Report(now)
	f.mu.Unlock()

	since := now.Add(-freshness.Window)
	if f.since.After(since) {
		since = f.since
	}

	return &control.Freshness{
		CompleteUpTo: mark.UTC(), LagMS: lag.Milliseconds(), LateAfterMS: f.lateAfter.Milliseconds(),
		Waiting: waiting.Waiting - waiting.Held + len(unread), Held: waiting.Held, HeldRows: waiting.HeldRows, Unmapped: report.Unmapped, First: ledger.Display(name), Since: since.UTC(), Rows: report.Rows,
		Total: spreadOf(report.Total), Settling: spreadOf(report.Settling), Us: spreadOf(report.Us), AtHoc: spreadOf(report.AtHoc),
		Worst: worstOf(report),
	}, waiting, nil
}

// unreadFiles returns the files that the ledger does not know yet, in the order of their arrival, and the time up to
// which arrivals are known. A file that stays in the input directory, or that an earlier run has read, is left out:
// it is only checked again.
func (f *fresh) unreadFiles() ([]watch.Found, time.Time, error) {
	found, listed := f.found.Arrivals()
	if len(found) == 0 {
		return nil, listed, nil
	}

	var unread []watch.Found
	err := f.ledger.View(func(tx *ledger.Tx) error {
		for _, file := range found {
			entry, _, err := tx.Names().Get(file.Name)
			if err != nil {
				return err
			}

			known, err := tx.File(entry.ID)
			if err != nil {
				return err
			}

			if known == nil || !entry.Stat.Same(file.Stat) || known.NeedsRead() && !known.IsOpen() {
				unread = append(unread, file)
			}
		}

		return nil
	})

	return unread, listed, err
}

// slowest names the worker whose booking took longest to be confirmed.
func (f *fresh) slowest(context.Context, control.Nothing) (control.SlowestAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	report := f.meter.Report(f.now())

	return control.SlowestAnswer{Employee: report.Worst.Employee, Row: worstOf(report)}, nil
}

func spreadOf(s freshness.Spread) control.Spread {
	return control.Spread{P50: s.P50.Milliseconds(), P95: s.P95.Milliseconds(), P99: s.P99.Milliseconds(), Worst: s.Worst.Milliseconds()}
}

func worstOf(r freshness.Report) *control.WorstRow {
	if r.Rows == 0 {
		return nil
	}

	w := r.Worst

	return &control.WorstRow{
		File: ledger.Display(w.Name), ID: w.File, Line: w.Line, Confirmed: w.Confirmed.UTC(),
		MS: w.Total().Milliseconds(), Settling: w.Settling.Milliseconds(), Us: w.Us.Milliseconds(), AtHoc: w.AtHoc.Milliseconds(),
	}
}

// followHolds keeps asking the resolver which rows wait for a person's decision, for as long as any file waits, since
// these rows are counted separately. Nothing else depends on whether the resolver answers.
func (w *work) followHolds(ctx context.Context) error {
	f := w.operators.fresh
	for pause.For(ctx, f.pollInterval) == nil {
		if w.ledger.Stats(w.now(), nil).Waiting == 0 {
			continue
		}

		s, err := control.Ask[control.ResolverState](ctx, w.deps.Conn.NC, topology.Resolver, control.State, control.Nothing{})
		switch {
		case err != nil:
			w.log.Debug("the resolver does not say which rows wait for a decision", "error", err)
		case s.Guard != nil:
			f.setAwaitingApproval(s.Guard.Rows)
		}
	}

	return nil
}
