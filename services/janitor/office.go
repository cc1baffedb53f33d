package janitor

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"bobosync/services/janitor/internal/duty"
	"bobosync/services/janitor/internal/journal"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
)

// result is what a run of a duty did.
type result struct {
	// counts say how many of what, for the journal.
	counts map[string]int
	// outcome is one of control's if it is neither ok nor failed; text is what a guard said.
	outcome, text string
	// nothing says that there was nothing to do, which is not worth a journal entry of a duty that runs often.
	nothing bool
}

// work does a duty once.
type work func(ctx context.Context, o *duty.Order) (result, error)

// logbook is where runs are written down; [journal.Journal] is one.
type logbook interface {
	Begin(e control.JournalEntry) (id string, err error)
	End(id string, r journal.Result) error
}

// task is a duty and how it is done.
type task struct {
	*duty.Duty
	work work
	// last returns the end of the last run that counts; nil if only this process's runs do.
	last func(context.Context) (time.Time, error)
	// often says that the duty runs often, so that only runs that did or failed something get a journal entry.
	often bool
}

// office is where the janitor at work does its duties, all of them at a time, until its tenure or the broker's session ends.
type office struct {
	tasks   []task
	book    *book
	journal logbook
	metrics *telemetry.Janitor
	now     func() time.Time
	log     *slog.Logger
}

// serve does all duties until ctx ends, or until the broker has lost what they need. A run that fails ends nothing.
func (o *office) serve(ctx context.Context, besides ...func(context.Context) error) error {
	var names []string
	for _, t := range o.tasks {
		names = append(names, t.Name)
	}
	if err := o.book.begin(ctx, o.now(), names...); err != nil {
		return unlessEnded(ctx, err)
	}
	group, working := errgroup.WithContext(ctx)
	for _, t := range o.tasks {
		do := func(ctx context.Context, order *duty.Order) error { return o.perform(ctx, t, order) }
		group.Go(func() error { return t.Serve(working, duty.Ways{Last: t.last, Do: do}) })
	}
	for _, f := range besides {
		group.Go(func() error { return f(working) })
	}
	return unlessEnded(ctx, group.Wait())
}

// perform does a duty once, and tells the journal, the notes and the metrics. A run that is cut off by the end of ctx is left to
// the journal, which calls it interrupted.
func (o *office) perform(ctx context.Context, t task, order *duty.Order) error {
	if order.Entry == "" && !t.often {
		if entry, err := o.enter(t.Name, order); err == nil {
			t.Began(order, entry)
		}
	}
	began := o.now()
	res, err := t.work(ctx, order)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if res.outcome == "" && err == nil {
		res.outcome = control.OutcomeOK
	}
	if err == nil {
		err = o.note(ctx, t, order, res)
	}
	if res.outcome == "" || err != nil && res.outcome != control.OutcomeHeld {
		res.outcome = control.OutcomeFailed
	}
	o.metrics.Run(t.Name, res.outcome)
	o.close(t, order, began, res, err)
	return err
}

// note remembers a run that need not be repeated.
func (o *office) note(ctx context.Context, t task, order *duty.Order, res result) error {
	if t.often && res.nothing && o.now().Sub(o.book.read().Duties[t.Name].Succeeded) < noteOften {
		return nil
	}
	now := o.now().UTC()
	return o.book.change(ctx, func(n *notes) {
		d := n.Duties[t.Name]
		if !order.Asked || t.OrdersCount {
			d.Done = now
		}
		if res.outcome == control.OutcomeOK {
			d.Succeeded = now
		}
		n.Duties[t.Name] = d
	})
}

// noteOften is how often it is noted that a duty that runs often found nothing to do.
const noteOften = time.Hour

// enter begins a journal entry. The journal is not worth stopping for.
func (o *office) enter(name string, order *duty.Order) (string, error) {
	id, err := o.journal.Begin(control.JournalEntry{Kind: name, By: order.By, Started: o.now(), Text: order.Why})
	if err != nil {
		o.log.Warn("the journal cannot be written; the work goes on", "duty", name, "error", err)
	}
	return id, err
}

// close ends the journal entry of a run, or makes one if the run is worth it.
func (o *office) close(t task, order *duty.Order, began time.Time, res result, failure error) {
	end := journal.Result{
		Outcome: res.outcome, Counts: res.counts, Text: res.text, Again: order.Again && failure != nil && !t.Shared(order),
	}
	if failure != nil && res.outcome != control.OutcomeHeld {
		end.Error = failure.Error()
	}
	if order.Entry == "" {
		if t.often && res.nothing && failure == nil {
			return
		}
		entry, err := o.journal.Begin(control.JournalEntry{Kind: t.Name, By: order.By, Started: began, Text: order.Why})
		if err != nil {
			o.log.Warn("the journal cannot be written; the work goes on", "duty", t.Name, "error", err)
			return
		}
		order.Entry = entry
	}
	if err := o.journal.End(order.Entry, end); err != nil {
		o.log.Warn("the journal cannot be written; the work goes on", "duty", t.Name, "error", err)
	}
}

// states tell how the duties stand.
func (o *office) states() []control.Duty {
	var all []control.Duty
	known := o.book.read().Duties
	for _, t := range o.tasks {
		s := t.State()
		noted := known[t.Name].Succeeded
		switch {
		case t.OrdersCount: // the mapping in force has a note of its own
		case t.last != nil || noted.After(s.LastSuccess):
			s.LastSuccess = noted
		}
		all = append(all, s)
	}
	return all
}

// needsMending says whether a failure is unlikely to pass by itself.
func needsMending(err error) bool {
	call, ok := errors.AsType[*athoc.CallError](err)
	return ok && call.Kind != athoc.Outage && call.Kind != athoc.Throttled
}

// level is how a failure is logged. One that a guard has raised an alarm for needs no other one, and at a start the other services
// may just not be ready yet.
func level(err error, failures int) slog.Level {
	_, refused := errors.AsType[*control.Refusal](err)
	switch {
	case errors.Is(err, ErrHeld), failures == 1 && (refused || errors.Is(err, control.ErrNobody)):
		return slog.LevelInfo
	case needsMending(err):
		return slog.LevelError
	default:
		return slog.LevelWarn
	}
}
