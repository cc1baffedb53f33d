// Package periodic runs jobs by the clock, and at once on request. The pure functions of schedule.go decide when a job
// is due.
package periodic

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"bobosync/shared/control"
)

// Run is one run of a job.
type Run struct {
	// Asked: an operator asked for the run, and By is the operator's name. Otherwise the clock started it.
	Asked bool
	By    string
	// Why is the reason for a run out of schedule.
	Why string
	// Entry is the id of the run's journal entry; empty if it has none yet.
	Entry string
	// Again: the previous run failed.
	Again bool
	// Apply and Force say what a comparison may do.
	Apply, Force bool

	// shared reports whether somebody was given Entry, and may look the entry up.
	shared bool
}

// Result is what a run did.
type Result struct {
	// Counts is what the journal shows of the run, in numbers.
	Counts map[string]int
	// Outcome is one of control's outcomes if the run is neither ok nor failed; Text is a guard's reason.
	Outcome, Text string
	// Nothing reports that there was nothing to do. Such a run of a job that runs often gets no journal entry.
	Nothing bool
}

// Settings describe a job.
type Settings struct {
	// Name is one of control's constants for jobs.
	Name string
	// Off: it never runs by the clock.
	Off  bool
	Plan Plan
	// CountsRequested: a run on request does the same as one by the clock, so the schedule counts it.
	CountsRequested bool
	// FailureText is the log message of a failure. Level returns its log level from the error and the number of
	// failures in a row, this one included; it may be nil. If a job that is not daily has failed more than twice in a
	// row, a repeated error is logged at DEBUG.
	FailureText string
	Level       func(err error, failures int) slog.Level
	Now         func() time.Time
	// PollInterval is the longest time between two readings of the clock, since timers stop while a machine sleeps.
	PollInterval time.Duration
	Log          *slog.Logger
}

// Runner does a job's runs while Serve is running.
type Runner struct {
	// Last returns the end of the last run that counts, or the zero time if there was none. If it is nil, only runs of
	// this process count. Its errors end Serve.
	Last func(context.Context) (time.Time, error)
	// Do does one run. It must return soon after its ctx has ended.
	Do func(context.Context, *Run) error
}

// Job is a periodic job. It outlives the sessions with the broker, so that AtHoc is not asked more often when the
// broker comes and goes. It is safe for concurrent use.
type Job struct {
	Settings

	wake chan struct{}

	mu      sync.Mutex
	history History
	// serving is true while Serve is running.
	serving          bool
	running, pending *Run
	since            time.Time
	failure          string
	// logged is the time of the next run as it was last logged.
	logged time.Time
}

// New returns a job that has never run.
func New(s Settings) *Job { return &Job{Settings: s, wake: make(chan struct{}, 1)} }

// Serve does the job whenever it is due, until ctx ends, and then returns nil. The only errors it returns are those of
// Last.
func (j *Job) Serve(ctx context.Context, w Runner) error {
	j.setServing(true)
	defer j.setServing(false)

	for ctx.Err() == nil {
		if err := j.loadLast(ctx, w); err != nil {
			if ctx.Err() == nil {
				return err
			}
			return nil // the failure is a result of ctx's end
		}

		o, wait := j.next()
		if o == nil {
			j.wait(ctx, wait)
			continue
		}

		err := w.Do(ctx, o)
		j.finish(o, err, ctx.Err() != nil)
	}

	return nil
}

func (j *Job) setServing(serving bool) {
	j.mu.Lock()
	defer j.mu.Unlock()

	j.serving, j.pending = serving, nil
}

// loadLast loads when the last run that counts ended.
func (j *Job) loadLast(ctx context.Context, w Runner) error {
	if w.Last == nil || j.Off {
		return nil
	}

	last, err := w.Last(ctx)
	if err != nil {
		return err
	}

	j.mu.Lock()
	defer j.mu.Unlock()

	j.history.Done = last

	return nil
}

// next returns the run that is due, or nil and how long to wait.
func (j *Job) next() (*Run, time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()

	o, wait := j.pending, j.PollInterval
	if o == nil && !j.Off {
		now := j.Now()
		at := Next(now, j.history, j.Plan)
		if wait = at.Sub(now); wait <= 0 {
			o = &Run{}
		} else {
			j.logNext(at)
		}
	}

	if o != nil {
		o.Again = j.history.Failures > 0
		j.running, j.pending, j.since = o, nil, j.Now()
	}

	return o, min(wait, j.PollInterval)
}

// logNext logs the time of a daily job's next run when that has changed.
func (j *Job) logNext(at time.Time) {
	if j.Plan.Every == 0 && !at.Equal(j.logged) {
		j.logged = at
		j.Log.Info("next run of a job", "job", j.Name, "at", at, "last", j.history.Done)
	}
}

func (j *Job) wait(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()

	select {
	case <-timer.C:
	case <-j.wake:
	case <-ctx.Done():
	}
}

// finish records the end of a run in the history, and logs a failure. A run that was cut off does not count.
func (j *Job) finish(o *Run, err error, cut bool) {
	j.mu.Lock()
	defer j.mu.Unlock()

	j.running, j.since = nil, time.Time{}
	if cut || o.Asked && !j.CountsRequested && err == nil {
		return
	}

	if err != nil {
		j.failed(o, err)
		return
	}

	now := j.Now()
	j.history = History{Done: now, Attempted: now}
	j.failure = ""
}

func (j *Job) failed(o *Run, err error) {
	level := slog.LevelWarn
	if j.Level != nil {
		level = j.Level(err, j.history.Failures+1)
	}

	attrs := []any{"job", j.Name, "error", err}
	if !o.Asked || j.CountsRequested {
		if j.Plan.Every > 0 && j.failure == err.Error() && j.history.Failures >= 2 {
			level = slog.LevelDebug
		}

		j.failure = err.Error()
		j.history.Attempted = j.Now()
		j.history.Failures++
		j.history.Jitter = rand.Float64() //nolint:gosec // nothing secret about it
		attrs = append(attrs, "failures", j.history.Failures)
		if !j.Off {
			attrs = append(attrs, "retry_in", j.history.RetryWait(j.Plan).Round(time.Second).String())
		}
	}

	j.Log.Log(context.Background(), level, j.FailureText, attrs...)
}

// Enqueue enqueues o and returns the id of its journal entry. If an equivalent run is queued or running, Enqueue
// returns that run's id instead: alike reports whether a run is equivalent, and a nil alike means that none is. Begin
// begins the journal entry of o. Enqueue refuses if Serve is not running, or if another run is queued.
func (j *Job) Enqueue(o *Run, alike func(other *Run, running bool) bool, begin func(*Run) (string, error)) (entry string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()

	if !j.serving {
		return "", control.Refuse("the janitor is just stopping; try again when it is back")
	}

	for _, other := range []*Run{j.pending, j.running} {
		if other != nil && other.Entry != "" && alike != nil && alike(other, other == j.running) {
			other.shared = true
			return other.Entry, nil
		}
	}

	if j.pending != nil {
		return "", control.Refuse("another order for this waits to begin; try again when it has ended")
	}

	if o.Entry, err = begin(o); err != nil {
		return "", err
	}

	o.shared = o.Asked

	j.pending = o
	select {
	case j.wake <- struct{}{}:
	default: // it is already awake
	}

	return o.Entry, nil
}

// Began records the journal entry of a run that is under way.
func (j *Job) Began(o *Run, entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()

	o.Entry = entry
}

// Shared reports whether somebody was given the id of a run's journal entry, and may look the entry up.
func (j *Job) Shared(o *Run) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return o.shared
}

// Resume records that the last attempt, made by another process, failed at the given moment. It does nothing if this
// process has failures of its own.
func (j *Job) Resume(attempted time.Time, failure string) {
	j.mu.Lock()
	defer j.mu.Unlock()

	if j.history.Failures == 0 {
		j.history.Failures, j.history.Attempted, j.failure = 1, attempted, failure
	}
}

// Attempted returns the end of the last run that the schedule counts, even if it failed, or the failed attempt that
// Resume recorded; zero if there was none.
func (j *Job) Attempted() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.history.Attempted
}

// State returns the job's state. Its LastSuccess is only what this process knows.
func (j *Job) State() control.Job {
	j.mu.Lock()
	defer j.mu.Unlock()

	s := control.Job{
		Name: j.Name, Off: j.Off, LastSuccess: utc(j.history.Done), Running: utc(j.since), Failures: j.history.Failures, Error: j.failure,
	}
	if !j.Off {
		s.Next = utc(Next(j.Now(), j.history, j.Plan))
	}

	return s
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
