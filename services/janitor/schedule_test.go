package janitor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
)

func london(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	return zone
}

func TestNext(t *testing.T) {
	zone := london(t)
	at := func(text string) time.Time {
		m, err := time.ParseInLocation("2006-01-02 15:04:05", text, zone)
		require.NoError(t, err)
		return m
	}
	now := at("2024-06-17 10:00:00")
	p := plan{hour: 20, retryDays: 2, zone: zone}
	for _, c := range []struct {
		name string
		now  time.Time
		h    history
		want time.Time
	}{
		{"never done", now, history{}, now},
		{"done yesterday evening", now, history{succeeded: at("2024-06-16 20:00:05")}, at("2024-06-17 20:00:00")},
		{"done this morning", now, history{succeeded: at("2024-06-17 08:00:00")}, at("2024-06-17 20:00:00")},
		{"missed yesterday's hour", now, history{succeeded: at("2024-06-16 10:00:00")}, at("2024-06-17 20:00:00")},
		{"older than two days", now, history{succeeded: at("2024-06-15 09:59:59")}, now},
		{"two days to the second", now, history{succeeded: at("2024-06-15 10:00:00")}, now},
		{"started in the evening, not done", at("2024-06-17 23:59:00"), history{succeeded: at("2024-06-16 23:59:30")}, at("2024-06-17 23:59:00")},
		{"on the hour", at("2024-06-17 20:00:00"), history{succeeded: at("2024-06-16 20:00:00")}, at("2024-06-17 20:00:00")},
		{"done this evening", at("2024-06-17 21:00:00"), history{succeeded: at("2024-06-17 20:00:00")}, at("2024-06-18 20:00:00")},
		{"done in the far future", now, history{succeeded: at("2025-06-16 20:00:00")}, now},
		{"done a little ahead", now, history{succeeded: at("2024-06-17 10:00:10")}, at("2024-06-17 20:00:00")},
		{"gone right after it was done", now, history{attempted: now}, now.Add(retrySoon)},
		{"failed once, shortest wait", now, history{succeeded: now.AddDate(0, 0, -3), attempted: now, failures: 1}, now.Add(22500 * time.Millisecond)},
		{"failed once, longest wait", now, history{succeeded: now, attempted: now, failures: 1, jitter: 1}, now.Add(30 * time.Second)},
		{"failed twice", now, history{succeeded: now, attempted: now, failures: 2, jitter: 1}, now.Add(time.Minute)},
		{"failed often", now, history{succeeded: now, attempted: now, failures: 500, jitter: 1}, now.Add(time.Hour)},
		{"failed often without a mapping", now, history{attempted: now, failures: 500, jitter: 1}, now.Add(2 * time.Minute)},
		{"failed long ago", now, history{attempted: now.Add(-time.Hour), failures: 3}, now},
		{"failed in the far future", now, history{attempted: now.Add(24 * time.Hour), failures: 1}, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want.UTC(), next(c.now, c.h, p).UTC())
		})
	}
}

// TestOncePerDayWhateverTheHour steps through four years in zones that change their clocks at midnight, at one, by half
// an hour or not at all, and restarts at random moments.
func TestOncePerDayWhateverTheHour(t *testing.T) {
	for _, zoneName := range []string{"Europe/London", "Africa/Cairo", "Australia/Lord_Howe", "America/New_York", "UTC"} {
		zone, err := time.LoadLocation(zoneName)
		require.NoError(t, err)
		for hour := range 24 {
			p := plan{hour: hour, retryDays: 1 + hour%3, zone: zone}
			random := rand.New(rand.NewPCG(1, uint64(hour)))
			now := time.Date(2023, 1, 1, 23, 30, 0, 0, zone)
			last := now // done after the first day's hour
			counts := map[string]int{}
			for now.Before(time.Date(2027, 1, 1, 0, 0, 0, 0, zone)) {
				at := next(now, history{succeeded: last}, p)
				if at.After(now) { // look again at a random moment, as a restart does
					now = now.Add(min(at.Sub(now), time.Duration(1+random.Int64N(int64(6*time.Hour)))))
					continue
				}
				local := now.In(zone)
				if local.Hour() < hour {
					t.Fatalf("%s, hour %d: refreshed at %s", zoneName, hour, local)
				}
				counts[local.Format(time.DateOnly)]++
				last, now = now, now.Add(time.Second)
			}
			for day := time.Date(2023, 1, 2, 12, 0, 0, 0, zone); day.Before(time.Date(2026, 12, 31, 0, 0, 0, 0, zone)); day = day.AddDate(0, 0, 1) {
				if n := counts[day.Format(time.DateOnly)]; n != 1 {
					t.Fatalf("%s, hour %d: %d refreshes on %s", zoneName, hour, n, day.Format(time.DateOnly))
				}
			}
		}
	}
}

// virtual is a cycle whose clock starts at the given moment of the bubble's time.
func virtual(start time.Time, p plan, look time.Duration) *cycle {
	epoch := time.Now()
	c := &cycle{plan: p, look: look, log: bustest.Logger()}
	c.now = func() time.Time { return start.Add(time.Since(epoch)) }
	return c
}

func TestVirtualYearInLondon(t *testing.T) {
	zone := london(t)
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		start := time.Date(2024, 1, 1, 12, 0, 0, 0, zone)
		c := virtual(start, plan{hour: 20, retryDays: 2, zone: zone}, time.Hour)
		last := start.Add(-16 * time.Hour)
		c.inForce = func(context.Context) (time.Time, error) { return last, nil }
		days := map[string]int{}
		c.refresh = func(context.Context) error {
			last = c.now()
			days[last.In(zone).Format(time.DateOnly)]++
			assert.Equal(t, "20:00:00", last.In(zone).Format(time.TimeOnly))
			return nil
		}
		done := make(chan error)
		go func() { done <- c.run(ctx) }()
		time.Sleep(366*24*time.Hour - time.Hour)
		stop()
		assert.NoError(t, <-done)
		assert.Len(t, days, 366)
		for day, n := range days {
			assert.Equal(t, 1, n, day)
		}
	})
	if took := time.Since(began); took > time.Second {
		t.Logf("a virtual year took %s", took)
	}
}

func TestFailuresAreRetriedWithBackOffUntilOneSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		c := virtual(time.Date(2024, 6, 17, 20, 0, 0, 0, time.UTC), plan{hour: 20, retryDays: 2, zone: time.UTC}, time.Minute)
		last := c.now().AddDate(0, 0, -1)
		c.inForce = func(context.Context) (time.Time, error) { return last, nil }
		var tries []time.Time
		c.refresh = func(context.Context) error {
			tries = append(tries, c.now())
			switch {
			case len(tries) <= 4:
				return fmt.Errorf("%w: really", ErrNobody)
			case len(tries) <= 12:
				return errors.New("failed")
			default:
				last = c.now()
				return nil
			}
		}
		done := make(chan error)
		go func() { done <- c.run(ctx) }()
		time.Sleep(23 * time.Hour)
		stop()
		require.NoError(t, <-done)
		require.Len(t, tries, 13)
		want := 30 * time.Second
		for i := 1; i < len(tries); i++ {
			wait := tries[i].Sub(tries[i-1])
			assert.GreaterOrEqual(t, wait, want*3/4, i)
			assert.LessOrEqual(t, wait, want, i)
			want = min(2*want, time.Hour)
		}
	})
}

func TestLostMappingIsRefreshedAtTheNextLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		c := virtual(time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC), plan{hour: 20, retryDays: 2, zone: time.UTC}, 15*time.Second)
		var mu sync.Mutex
		last, refreshed := c.now().Add(-time.Hour), 0
		var brokerError error
		c.inForce = func(context.Context) (time.Time, error) {
			mu.Lock()
			defer mu.Unlock()
			return last, brokerError
		}
		c.refresh = func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			refreshed++
			last = c.now()
			return nil
		}
		happens := func(event func(), want int) {
			mu.Lock()
			event()
			mu.Unlock()
			time.Sleep(c.look)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, want, refreshed)
		}
		done := make(chan error, 1)
		go func() { done <- c.run(ctx) }()
		happens(func() {}, 0)
		happens(func() { last = time.Time{} }, 1)
		happens(func() { brokerError = errors.New("stream not found") }, 1)
		assert.ErrorIs(t, <-done, brokerError, "a new session has to make the stream again")
		stop()
	})
}
