package janitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/scheduler"
	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/state/statetest"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/control"
)

// memoryLog is a journal in memory.
type memoryLog struct {
	mu      sync.Mutex
	entries []control.JournalEntry
}

func (l *memoryLog) Begin(e control.JournalEntry) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.entries = append(l.entries, e)

	return fmt.Sprint(len(l.entries) - 1), nil
}

func (l *memoryLog) End(id string, r journal.Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()

	var i int
	if _, err := fmt.Sscan(id, &i); err != nil {
		return err
	}

	e := &l.entries[i]
	e.Outcome, e.Error, e.Counts, e.Text = r.Outcome, r.Error, r.Counts, r.Text

	return nil
}

func leads() error { return nil }

// year is a janitor's jobs over virtual time, without their effects on others.
type year struct {
	t     *testing.T
	zone  *time.Location
	now   func() time.Time
	entry *statetest.Fake
	log   *memoryLog
	cfg   Config
	jobs  []scheduler.Job
	// refreshed is the end of the last refresh of the mapping.
	refreshed time.Time
	mu        sync.Mutex
	// runs are the moments of all runs, by job.
	runs map[string][]time.Time
}

func newYear(t *testing.T, start time.Time) *year {
	epoch := time.Now()
	y := &year{
		t: t, zone: start.Location(), entry: &statetest.Fake{}, log: &memoryLog{}, runs: map[string][]time.Time{},
		now: func() time.Time { return start.Add(time.Since(epoch)) },
	}
	y.cfg.AtHoc.Zone = config.InZone(y.zone)
	y.cfg.Sync = Sync{Mappings: true, Hour: 20, RetryDays: 2}
	y.cfg.Cleanup.Interval = 6 * time.Hour
	y.cfg.Lifetime.AutoCleanupHours = 24
	y.cfg.Reconcile = Reconcile{Mode: reconcileReport, Hour: 4}
	y.cfg.Retention = Retention{Files: 30, Journal: 90}

	return y
}

// begin starts a janitor; end stops it.
func (y *year) begin() (end func()) {
	ctx, cancel := context.WithCancel(y.t.Context())
	b, err := state.Open(ctx, y.entry, leads, bustest.Logger())
	require.NoError(y.t, err)
	d := newJobs(y.cfg, y.now, time.Hour, bustest.Logger())
	do := func(name string, and func()) func(context.Context, *periodic.Run) (periodic.Result, error) {
		return func(context.Context, *periodic.Run) (periodic.Result, error) {
			y.mu.Lock()
			defer y.mu.Unlock()

			y.runs[name] = append(y.runs[name], y.now().In(y.zone))

			and()

			return periodic.Result{Nothing: true}, nil
		}
	}
	nothing := func() {}

	o := &scheduler.Scheduler{State: b, Journal: y.log, Metrics: metrics.New(nil), Now: y.now, Log: bustest.Logger(), Jobs: []scheduler.Job{
		{Job: d.mapping, Do: do(control.JobMapping, func() { y.refreshed = y.now() }),
			Last: func(context.Context) (time.Time, error) { return y.refreshed, nil }},
		{Job: d.cleanup, Do: do(control.JobCleanup, nothing), Often: true},
		{Job: d.reconcile, Do: do(control.JobReconcile, nothing), Last: b.LastRun(control.JobReconcile)},
		{Job: d.purge, Do: do(control.JobPurge, nothing), Last: b.LastRun(control.JobPurge)},
	}}
	y.jobs = o.Jobs
	done := make(chan error, 1)
	go func() { done <- o.Serve(ctx) }()

	return func() {
		cancel()
		assert.NoError(y.t, <-done)
	}
}

// ran returns the moments of a job's runs.
func (y *year) ran(name string) []time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Clone(y.runs[name])
}

// until lets the time pass until the given moment.
func (y *year) until(moment time.Time) {
	time.Sleep(moment.Sub(y.now()))
	synctest.Wait()
}

// TestVirtualYear goes through a whole year, with both changes of summer time, a restart in the middle, and a week
// without a janitor.
func TestVirtualYear(t *testing.T) {
	t.Parallel()
	zone := london(t)
	began := time.Now()

	synctest.Test(t, func(t *testing.T) {
		at := func(month time.Month, day, hour int) time.Time {
			return time.Date(2024, month, day, hour, 0, 0, 0, zone)
		}
		y := newYear(t, at(time.January, 1, 0))
		y.refreshed = at(time.January, 1, 0).Add(-4 * time.Hour)
		end := y.begin()
		y.until(at(time.June, 15, 10))
		end()
		end = y.begin() // a restart
		y.until(at(time.September, 1, 2))
		end()
		y.until(at(time.September, 8, 12)) // no janitor was running for a week
		end = y.begin()
		y.until(at(time.December, 31, 23))
		end()

		// The week is made up for once, at its end. The day's own refresh runs as always.
		caught := []time.Time{at(time.September, 8, 12)}
		for name, clock := range map[string]string{
			control.JobMapping: "20:00:00", control.JobReconcile: "04:00:00", control.JobPurge: "03:00:00",
		} {
			days := map[string]int{}
			var late []time.Time
			for _, moment := range y.runs[name] {
				if moment.Format(time.TimeOnly) != clock {
					late = append(late, moment)
					continue
				}

				days[moment.Format(time.DateOnly)]++
			}

			assert.Equal(t, caught, late, name)

			for day := at(time.January, 1, 0); day.Year() == 2024; day = day.AddDate(0, 0, 1) {
				want := 1
				if !day.Before(at(time.September, 1, 0)) && day.Before(at(time.September, 8, 0)) || day.Equal(at(time.September, 8, 0)) && name != control.JobMapping {
					want = 0
				}

				require.Equal(t, want, days[day.Format(time.DateOnly)], "%s on %s", name, day.Format(time.DateOnly))
			}
		}

		assert.InDelta(t, (366-7)*4, len(y.runs[control.JobCleanup]), 8)

		for _, e := range y.log.entries {
			require.NotEqual(t, control.JobCleanup, e.Kind, "a cleaning without anything to do is no news")
			require.Equal(t, control.OutcomeOK, e.Outcome)
		}
	})

	took := time.Since(began)
	t.Logf("a virtual year took %s", took)
	assert.Less(t, took, 30*time.Second)
}

func TestFirstStartWaitsForTheHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, time.Date(2024, 6, 17, 10, 0, 0, 0, london(t)))
		end := y.begin()

		synctest.Wait()
		assert.Len(t, y.ran(control.JobMapping), 1, "without a mapping nothing works")
		assert.Len(t, y.ran(control.JobCleanup), 1)
		y.until(time.Date(2024, 6, 18, 2, 0, 0, 0, y.zone))
		assert.Empty(t, y.ran(control.JobReconcile))
		assert.Empty(t, y.ran(control.JobPurge))
		end()
		// A machine that is never on at these hours still catches up.
		y.until(time.Date(2024, 6, 18, 9, 0, 0, 0, y.zone))
		end = y.begin()

		synctest.Wait()
		assert.Len(t, y.ran(control.JobReconcile), 1)
		assert.Len(t, y.ran(control.JobPurge), 1)
		end()
	})
}

// TestFailuresStayAmongThemselves checks that a job that fails or hangs keeps no other job from running.
func TestFailuresStayAmongThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, time.Date(2024, 6, 17, 1, 0, 0, 0, london(t)))
		b, err := state.Open(t.Context(), y.entry, leads, bustest.Logger())
		require.NoError(t, err)

		d := newJobs(y.cfg, y.now, time.Minute, bustest.Logger())
		purged := 0

		o := &scheduler.Scheduler{State: b, Journal: y.log, Metrics: metrics.New(nil), Now: y.now, Log: bustest.Logger(), Jobs: []scheduler.Job{
			{Job: d.mapping, Last: b.LastRun(control.JobMapping), Do: func(ctx context.Context, _ *periodic.Run) (periodic.Result, error) {
				<-ctx.Done()
				return periodic.Result{}, ctx.Err()
			}},
			{Job: d.cleanup, Often: true, Do: func(context.Context, *periodic.Run) (periodic.Result, error) {
				return periodic.Result{}, errors.New("AtHoc is away")
			}},
			{Job: d.purge, Last: b.LastRun(control.JobPurge), Do: func(context.Context, *periodic.Run) (periodic.Result, error) {
				purged++
				return periodic.Result{}, nil
			}},
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.Serve(ctx) }()

		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.Equal(t, 1, purged)

		states := o.States()
		assert.False(t, states[0].Running.IsZero())
		assert.Greater(t, states[1].Failures, 10)
		assert.Equal(t, "AtHoc is away", states[1].Error)
		assert.Equal(t, time.Date(2024, 6, 17, 3, 0, 0, 0, y.zone).UTC(), states[2].LastSuccess)
		cancel()
		require.NoError(t, <-done)

		for _, e := range y.log.entries {
			assert.Equal(t, e.Kind == control.JobMapping, e.Outcome == "", "what was cut off, and only that, is left to the journal's end")
		}
	})
}

// TestLossOfTheBrokersPartsEndsTheWork checks that Serve then returns the reason, so that a new session recreates the
// parts.
func TestLossOfTheBrokersPartsEndsTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, time.Date(2024, 6, 17, 1, 0, 0, 0, london(t)))
		b, err := state.Open(t.Context(), y.entry, leads, bustest.Logger())
		require.NoError(t, err)

		d := newJobs(y.cfg, y.now, time.Minute, bustest.Logger())
		gone := errors.New("stream not found")
		o := &scheduler.Scheduler{State: b, Journal: y.log, Metrics: metrics.New(nil), Now: y.now, Log: bustest.Logger(), Jobs: []scheduler.Job{
			{Job: d.mapping, Last: func(context.Context) (time.Time, error) { return time.Time{}, gone }},
			{Job: d.purge, Last: b.LastRun(control.JobPurge)},
		}}
		require.ErrorIs(t, o.Serve(t.Context()), gone)
	})
}

func TestStatesTellTheLastSuccess(t *testing.T) {
	t.Parallel()
	y := newYear(t, time.Date(2024, 6, 17, 1, 0, 0, 0, london(t)))
	b, err := state.Open(t.Context(), y.entry, leads, bustest.Logger())
	require.NoError(t, err)

	d := newJobs(y.cfg, y.now, time.Minute, bustest.Logger())
	o := &scheduler.Scheduler{State: b, Jobs: []scheduler.Job{{Job: d.cleanup}, {Job: d.reconcile, Last: b.LastRun(control.JobReconcile)}}}
	require.NoError(t, b.Register(t.Context(), y.now(), control.JobReconcile))
	assert.True(t, o.States()[1].LastSuccess.IsZero(), "to be known is no success")

	at := y.now().UTC()
	require.NoError(t, b.Update(t.Context(), func(n *state.State) {
		n.Jobs[control.JobCleanup] = state.Job{Succeeded: at}
		n.Jobs[control.JobReconcile] = state.Job{Done: at.Add(time.Hour), Succeeded: at}
	}))
	assert.Equal(t, at, o.States()[0].LastSuccess)
	assert.Equal(t, at, o.States()[1].LastSuccess, "what was held back is done and no success")
}

func london(t testing.TB) *time.Location {
	t.Helper()

	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	return zone
}
