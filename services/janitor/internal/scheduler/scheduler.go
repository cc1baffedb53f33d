// Package scheduler runs the janitor's periodic jobs while this instance leads, and reports each run to the journal, the persisted state
// and the metrics.
package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/mapping"
	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/state"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
)

// Journal is where runs are recorded; [journal.Journal] is one.
type Journal interface {
	Begin(e control.JournalEntry) (id string, err error)
	End(id string, r journal.Result) error
}

// Job is a periodic job and how it is done.
type Job struct {
	*periodic.Job
	Do func(ctx context.Context, run *periodic.Run) (periodic.Result, error)
	// Last returns the end of the last run that counts; nil if only this process's runs do.
	Last func(context.Context) (time.Time, error)
	// Often reports that the job runs often, so that only runs that did or failed something get a journal entry.
	Often bool
}

// Scheduler runs all jobs concurrently while this instance leads.
type Scheduler struct {
	Jobs    []Job
	State   *state.Store
	Journal Journal
	Metrics *metrics.Set
	Now     func() time.Time
	Log     *slog.Logger
}

// Serve runs all jobs until ctx ends, or until the broker has lost what they need. A run that fails ends nothing.
func (s *Scheduler) Serve(ctx context.Context, besides ...func(context.Context) error) error {
	var names []string
	for _, job := range s.Jobs {
		names = append(names, job.Name)
	}

	err := s.State.Register(ctx, s.Now(), names...)
	if err == nil {
		group, working := errgroup.WithContext(ctx)
		for _, job := range s.Jobs {
			do := func(ctx context.Context, run *periodic.Run) error { return s.perform(ctx, job, run) }
			group.Go(func() error { return job.Serve(working, periodic.Runner{Last: job.Last, Do: do}) })
		}

		for _, f := range besides {
			group.Go(func() error { return f(working) })
		}

		err = group.Wait()
	}

	if ctx.Err() != nil {
		return nil //nolint:nilerr // whatever failed did so since ctx has ended
	}

	return err
}

// perform runs a job once, and reports to the journal, the state and the metrics. A run that is cut off by the end of ctx is left to the
// journal, which calls it interrupted.
func (s *Scheduler) perform(ctx context.Context, job Job, run *periodic.Run) error {
	if run.Entry == "" && !job.Often {
		if entry, err := s.BeginEntry(job.Name, run); err == nil {
			job.Began(run, entry)
		}
	}

	began := s.Now()

	res, err := job.Do(ctx, run)
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if res.Outcome == "" && err == nil {
		res.Outcome = control.OutcomeOK
	}

	if err == nil {
		err = s.keep(ctx, job, run, res)
	}

	if res.Outcome == "" || err != nil && res.Outcome != control.OutcomeHeld {
		res.Outcome = control.OutcomeFailed
	}

	s.Metrics.Run(job.Name, res.Outcome)
	s.endEntry(job, run, began, res, err)

	return err
}

// keepInterval is how often it is persisted that a frequent job found nothing to do.
const keepInterval = time.Hour

// keep stores the end of a run that need not be repeated.
func (s *Scheduler) keep(ctx context.Context, job Job, run *periodic.Run, res periodic.Result) error {
	if job.Often && res.Nothing && s.Now().Sub(s.State.Read().Jobs[job.Name].Succeeded) < keepInterval {
		return nil
	}

	now := s.Now().UTC()

	return s.State.Update(ctx, func(kept *state.State) {
		j := kept.Jobs[job.Name]
		if !run.Asked || job.CountsRequested {
			j.Done = now
		}

		if res.Outcome == control.OutcomeOK {
			j.Succeeded = now
		}

		kept.Jobs[job.Name] = j
	})
}

// BeginEntry begins the journal entry of a run. The journal is not worth stopping for.
func (s *Scheduler) BeginEntry(name string, run *periodic.Run) (string, error) {
	return s.begin(name, run, s.Now())
}

func (s *Scheduler) begin(name string, run *periodic.Run, began time.Time) (string, error) {
	id, err := s.Journal.Begin(control.JournalEntry{Kind: name, By: run.By, Started: began, Text: run.Why})
	if err != nil {
		s.Log.Warn("the journal cannot be written; the work goes on", "job", name, "error", err)
	}

	return id, err
}

// endEntry ends the journal entry of a run, or makes one if the run is worth it.
func (s *Scheduler) endEntry(job Job, run *periodic.Run, began time.Time, res periodic.Result, failure error) {
	end := journal.Result{
		Outcome: res.Outcome, Counts: res.Counts, Text: res.Text, Again: run.Again && failure != nil && !job.Shared(run),
	}
	if failure != nil && res.Outcome != control.OutcomeHeld {
		end.Error = failure.Error()
	}

	if run.Entry == "" {
		if job.Often && res.Nothing && failure == nil {
			return
		}

		entry, err := s.begin(job.Name, run, began)
		if err != nil {
			return
		}

		run.Entry = entry
	}

	if err := s.Journal.End(run.Entry, end); err != nil {
		s.Log.Warn("the journal cannot be written; the work goes on", "job", job.Name, "error", err)
	}
}

// States are those of all jobs.
func (s *Scheduler) States() []control.Job {
	var all []control.Job
	known := s.State.Read().Jobs
	for _, job := range s.Jobs {
		st := job.State()
		kept := known[job.Name].Succeeded
		switch {
		case job.CountsRequested: // the mapping in force has a record of its own
		case job.Last != nil || kept.After(st.LastSuccess):
			st.LastSuccess = kept
		}

		all = append(all, st)
	}

	return all
}

// FailureLevel is how a failure is logged. One for which a guard has raised an alarm needs no second one, and at a start the other
// services may just not be ready yet.
func FailureLevel(err error, failures int) slog.Level {
	_, refused := errors.AsType[*control.Refusal](err)
	switch {
	case errors.Is(err, mapping.ErrHeld), failures == 1 && (refused || errors.Is(err, control.ErrNobody)):
		return slog.LevelInfo
	case needsRepair(err):
		return slog.LevelError
	default:
		return slog.LevelWarn
	}
}

// needsRepair reports whether a failure is unlikely to pass by itself.
func needsRepair(err error) bool {
	call, ok := errors.AsType[*athoc.CallError](err)
	return ok && call.Kind != athoc.Outage && call.Kind != athoc.Throttled
}
