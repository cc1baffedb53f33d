package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/duty"
	"bobosync/services/janitor/internal/journal"
	"bobosync/shared/athoc"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
)

// memoryCell is a cell that lies in memory, and can be out of reach.
type memoryCell struct {
	mu       sync.Mutex
	value    []byte
	revision uint64
	err      error
}

func (c *memoryCell) load(context.Context) ([]byte, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.revision, c.err
}

func (c *memoryCell) save(_ context.Context, value []byte, revision uint64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return 0, c.err
	case revision != c.revision:
		return 0, errConflict
	}
	c.value = value
	c.revision++
	return c.revision, nil
}

// memoryLog is a logbook that lies in memory.
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

func alone() error { return nil }

// year is a janitor's time, with everything but what it does to others.
type year struct {
	t     *testing.T
	zone  *time.Location
	now   func() time.Time
	cell  *memoryCell
	log   *memoryLog
	cfg   Config
	tasks []task
	// refreshed is the end of the last refresh of the mapping.
	refreshed time.Time
	mu        sync.Mutex
	// runs are the moments of all runs.
	runs map[string][]time.Time
}

func newYear(t *testing.T, start time.Time) *year {
	epoch := time.Now()
	y := &year{
		t: t, zone: start.Location(), cell: &memoryCell{}, log: &memoryLog{}, runs: map[string][]time.Time{},
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

// begin starts a janitor; what it returns ends it.
func (y *year) begin() (end func()) {
	ctx, cancel := context.WithCancel(y.t.Context())
	b, err := openBook(ctx, y.cell, alone, bustest.Logger())
	require.NoError(y.t, err)
	d := newDuties(y.cfg, y.now, time.Hour, bustest.Logger())
	do := func(name string, and func()) work {
		return func(context.Context, *duty.Order) (result, error) {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.runs[name] = append(y.runs[name], y.now().In(y.zone))
			and()
			return result{nothing: true}, nil
		}
	}
	nothing := func() {}
	o := &office{book: b, journal: y.log, metrics: telemetry.NewJanitor(nil), now: y.now, log: bustest.Logger(), tasks: []task{
		{Duty: d.mapping, work: do(control.DutyMapping, func() { y.refreshed = y.now() }),
			last: func(context.Context) (time.Time, error) { return y.refreshed, nil }},
		{Duty: d.cleanup, work: do(control.DutyCleanup, nothing), often: true},
		{Duty: d.reconcile, work: do(control.DutyReconcile, nothing), last: b.noted(control.DutyReconcile)},
		{Duty: d.purge, work: do(control.DutyPurge, nothing), last: b.noted(control.DutyPurge)},
	}}
	y.tasks = o.tasks
	done := make(chan error, 1)
	go func() { done <- o.serve(ctx) }()
	return func() {
		cancel()
		assert.NoError(y.t, <-done)
	}
}

// ran returns the moments of a duty's runs.
func (y *year) ran(name string) []time.Time {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Clone(y.runs[name])
}

// until lets the time pass.
func (y *year) until(moment time.Time) {
	time.Sleep(moment.Sub(y.now()))
	synctest.Wait()
}

// TestVirtualYear walks a whole year, with both changes of summer time, a restart in its middle and a week in which no janitor
// was at work.
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
		y.until(at(time.September, 8, 12)) // nobody was at work for a week
		end = y.begin()
		y.until(at(time.December, 31, 23))
		end()

		// The week is caught up once, at its end. The day's own refresh comes as always.
		caught := []time.Time{at(time.September, 8, 12)}
		for name, clock := range map[string]string{
			control.DutyMapping: "20:00:00", control.DutyReconcile: "04:00:00", control.DutyPurge: "03:00:00",
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
				if !day.Before(at(time.September, 1, 0)) && day.Before(at(time.September, 8, 0)) || day.Equal(at(time.September, 8, 0)) && name != control.DutyMapping {
					want = 0
				}
				require.Equal(t, want, days[day.Format(time.DateOnly)], "%s on %s", name, day.Format(time.DateOnly))
			}
		}
		assert.InDelta(t, (366-7)*4, len(y.runs[control.DutyCleanup]), 8)
		for _, e := range y.log.entries {
			require.NotEqual(t, control.DutyCleanup, e.Kind, "a cleaning without anything to do is no news")
			require.Equal(t, control.OutcomeOK, e.Outcome)
		}
	})
	took := time.Since(began)
	t.Logf("a virtual year took %s", took)
	assert.Less(t, took, wait)
}

func TestFirstStartWaitsForTheHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, time.Date(2024, 6, 17, 10, 0, 0, 0, london(t)))
		end := y.begin()
		synctest.Wait()
		assert.Len(t, y.ran(control.DutyMapping), 1, "without a mapping nothing works")
		assert.Len(t, y.ran(control.DutyCleanup), 1)
		y.until(time.Date(2024, 6, 18, 2, 0, 0, 0, y.zone))
		assert.Empty(t, y.ran(control.DutyReconcile))
		assert.Empty(t, y.ran(control.DutyPurge))
		end()
		// A machine that is never on at these hours catches up nevertheless.
		y.until(time.Date(2024, 6, 18, 9, 0, 0, 0, y.zone))
		end = y.begin()
		synctest.Wait()
		assert.Len(t, y.ran(control.DutyReconcile), 1)
		assert.Len(t, y.ran(control.DutyPurge), 1)
		end()
	})
}

// TestFailuresStayAmongThemselves: a duty that fails, or hangs, keeps no other one from its work.
func TestFailuresStayAmongThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, time.Date(2024, 6, 17, 1, 0, 0, 0, london(t)))
		b, err := openBook(t.Context(), y.cell, alone, bustest.Logger())
		require.NoError(t, err)
		d := newDuties(y.cfg, y.now, time.Minute, bustest.Logger())
		purged := 0
		o := &office{book: b, journal: y.log, metrics: telemetry.NewJanitor(nil), now: y.now, log: bustest.Logger(), tasks: []task{
			{Duty: d.mapping, last: b.noted(control.DutyMapping), work: func(ctx context.Context, _ *duty.Order) (result, error) {
				<-ctx.Done()
				return result{}, ctx.Err()
			}},
			{Duty: d.cleanup, often: true, work: func(context.Context, *duty.Order) (result, error) { return result{}, errors.New("AtHoc is away") }},
			{Duty: d.purge, last: b.noted(control.DutyPurge), work: func(context.Context, *duty.Order) (result, error) {
				purged++
				return result{}, nil
			}},
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- o.serve(ctx) }()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.Equal(t, 1, purged)
		states := o.states()
		assert.False(t, states[0].Running.IsZero())
		assert.Greater(t, states[1].Failures, 10)
		assert.Equal(t, "AtHoc is away", states[1].Error)
		assert.Equal(t, time.Date(2024, 6, 17, 3, 0, 0, 0, y.zone).UTC(), states[2].LastSuccess)
		cancel()
		require.NoError(t, <-done)
		for _, e := range y.log.entries {
			assert.Equal(t, e.Kind == control.DutyMapping, e.Outcome == "", "what was cut off, and only that, is left to the journal's end")
		}
	})
}

// TestLossOfTheBrokersPartsEndsTheWork: then a new session has to make them again, and says why.
func TestLossOfTheBrokersPartsEndsTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, time.Date(2024, 6, 17, 1, 0, 0, 0, london(t)))
		b, err := openBook(t.Context(), y.cell, alone, bustest.Logger())
		require.NoError(t, err)
		d := newDuties(y.cfg, y.now, time.Minute, bustest.Logger())
		gone := errors.New("stream not found")
		o := &office{book: b, journal: y.log, metrics: telemetry.NewJanitor(nil), now: y.now, log: bustest.Logger(), tasks: []task{
			{Duty: d.mapping, last: func(context.Context) (time.Time, error) { return time.Time{}, gone }},
			{Duty: d.purge, last: b.noted(control.DutyPurge)},
		}}
		require.ErrorIs(t, o.serve(t.Context()), gone)
	})
}

func TestStatesTellTheLastSuccess(t *testing.T) {
	t.Parallel()
	y := newYear(t, time.Date(2024, 6, 17, 1, 0, 0, 0, london(t)))
	b, err := openBook(t.Context(), y.cell, alone, bustest.Logger())
	require.NoError(t, err)
	d := newDuties(y.cfg, y.now, time.Minute, bustest.Logger())
	o := &office{book: b, tasks: []task{{Duty: d.cleanup}, {Duty: d.reconcile, last: b.noted(control.DutyReconcile)}}}
	require.NoError(t, b.begin(t.Context(), y.now(), control.DutyReconcile))
	assert.True(t, o.states()[1].LastSuccess.IsZero(), "to be known is no success")
	at := y.now().UTC()
	require.NoError(t, b.change(t.Context(), func(n *notes) {
		n.Duties[control.DutyCleanup] = dutyNote{Succeeded: at}
		n.Duties[control.DutyReconcile] = dutyNote{Done: at.Add(time.Hour), Succeeded: at}
	}))
	assert.Equal(t, at, o.states()[0].LastSuccess)
	assert.Equal(t, at, o.states()[1].LastSuccess, "what was held back is done and no success")
}

func TestLevelOfAFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		err      error
		failures int
		want     slog.Level
	}{
		{"a guard has raised the alarm", fmt.Errorf("x: %w", ErrHeld), 5, slog.LevelInfo},
		{"the resolver is not ready yet", fmt.Errorf("x: %w", control.Refuse("wait")), 1, slog.LevelInfo},
		{"the resolver still is not", fmt.Errorf("x: %w", control.Refuse("wait")), 2, slog.LevelWarn},
		{"nobody is there yet", fmt.Errorf("x: %w", control.ErrNobody), 1, slog.LevelInfo},
		{"still nobody", fmt.Errorf("x: %w", control.ErrNobody), 2, slog.LevelWarn},
		{"outage", &athoc.CallError{Kind: athoc.Outage}, 1, slog.LevelWarn},
		{"throttled", &athoc.CallError{Kind: athoc.Throttled}, 1, slog.LevelWarn},
		{"forbidden", fmt.Errorf("x: %w", &athoc.CallError{Kind: athoc.Forbidden}), 1, slog.LevelError},
		{"bad request", &athoc.CallError{Kind: athoc.BadRequest}, 3, slog.LevelError},
		{"the broker is away", errors.New("away"), 1, slog.LevelWarn},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, level(c.err, c.failures)) })
	}
}

func TestNotesOfOthersAreNotLost(t *testing.T) {
	t.Parallel()
	cell := &memoryCell{}
	mine, err := openBook(t.Context(), cell, alone, bustest.Logger())
	require.NoError(t, err)
	other, err := openBook(t.Context(), cell, alone, bustest.Logger())
	require.NoError(t, err)
	now := time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)
	require.NoError(t, mine.begin(t.Context(), now, "a"))
	require.NoError(t, other.begin(t.Context(), now.Add(time.Hour), "a", "b"))
	assert.Equal(t, map[string]dutyNote{"a": {Since: now}, "b": {Since: now.Add(time.Hour)}}, other.read().Duties)

	cell.err = errors.New("the broker is away")
	before := other.read()
	require.ErrorIs(t, other.change(t.Context(), func(n *notes) { n.Held = &held{} }), cell.err)
	assert.Equal(t, before, other.read(), "what is not stored is not noted")

	cell.err = nil
	lost := errors.New("not the janitor any more")
	other.alone = func() error { return lost }
	require.ErrorIs(t, other.change(t.Context(), func(*notes) {}), lost)

	cell.value = []byte(`{"v":99}`)
	again, err := openBook(t.Context(), cell, alone, bustest.Logger())
	require.NoError(t, err)
	require.NoError(t, again.begin(t.Context(), now, "c"))
	assert.Len(t, again.read().Duties, 1, "notes of another form count as none")
}

func london(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	return zone
}
