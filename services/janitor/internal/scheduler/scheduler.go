// Package scheduler runs the janitor's periodic jobs while this instance leads. It reports each run to the journal,
// the persisted state and the metrics.
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

// Journal records runs; [journal.Journal] implements it.
type Journal interface {
	Begin(e control.JournalEntry) (id string, err error)
	End(id string, r journal.Result) error
}

// Job is a periodic job and the function that does it.
type Job struct {
	*periodic.Job
	Do func(ctx context.Context, run *periodic.Run) (periodic.Result, error)
	// Last returns the end of the last run that counts; nil if only this process's runs do.
	Last func(context.Context) (time.Time, error)
	// Often reports that the job runs often, so that a run without anything to do gets no journal entry unless it
	// fails.
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

// Serve runs all jobs, and besides alongside them, until ctx ends or the broker has lost what they need. A failed run
// does not end Serve.
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

// perform does one run of a job, and reports it to the journal, the state and the metrics. A run that the end of ctx
// cuts off is left to the journal, which ends it as interrupted.
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

// keepInterval is how often a frequent job's success is persisted when there was nothing to do.
const keepInterval = time.Hour

// keep persists the end of a run that need not be repeated.
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

// BeginEntry begins the journal entry of a run. Callers need not stop if the journal cannot be written.
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

// endEntry ends the journal entry of a run. If the run has none, endEntry makes one, unless the run of a job that runs
// often had nothing to do and did not fail.
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

// States returns the states of all jobs.
func (s *Scheduler) States() []control.Job {
	var all []control.Job
	known := s.State.Read().Jobs
	for _, job := range s.Jobs {
		st := job.State()
		kept := known[job.Name].Succeeded
		switch {
		case job.CountsRequested: // the record of the mapping in force has the time
		case job.Last != nil || kept.After(st.LastSuccess):
			st.LastSuccess = kept
		}

		all = append(all, st)
	}

	return all
}

// FailureLevel returns the level at which a failure is logged: ERROR if it is unlikely to pass by itself, otherwise
// WARN. It is INFO if a guard has already raised an alarm, and at the first failure if another service refuses or does
// not answer, since that service may just not be ready yet.
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
