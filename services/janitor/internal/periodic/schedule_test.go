package periodic

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func london(t testing.TB) *time.Location {
	t.Helper()

	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	return zone
}

func TestNext(t *testing.T) {
	t.Parallel()

	zone := london(t)
	at := func(text string) time.Time {
		m, err := time.ParseInLocation("2006-01-02 15:04:05", text, zone)
		require.NoError(t, err)
		return m
	}
	now := at("2024-06-17 10:00:00")
	p := Plan{Hour: 20, MaxAgeDays: 2, Zone: zone, MaxRetryWait: time.Hour, MaxFirstRetryWait: 2 * time.Minute}
	for _, c := range []struct {
		name string
		now  time.Time
		h    History
		want time.Time
	}{
		{"never done", now, History{}, now},
		{"done yesterday evening", now, History{Done: at("2024-06-16 20:00:05")}, at("2024-06-17 20:00:00")},
		{"done this morning", now, History{Done: at("2024-06-17 08:00:00")}, at("2024-06-17 20:00:00")},
		{"missed yesterday's hour", now, History{Done: at("2024-06-16 10:00:00")}, at("2024-06-17 20:00:00")},
		{"older than two days", now, History{Done: at("2024-06-15 09:59:59")}, now},
		{"two days to the second", now, History{Done: at("2024-06-15 10:00:00")}, now},
		{"started in the evening, not done", at("2024-06-17 23:59:00"), History{Done: at("2024-06-16 23:59:30")}, at("2024-06-17 23:59:00")},
		{"on the hour", at("2024-06-17 20:00:00"), History{Done: at("2024-06-16 20:00:00")}, at("2024-06-17 20:00:00")},
		{"done this evening", at("2024-06-17 21:00:00"), History{Done: at("2024-06-17 20:00:00")}, at("2024-06-18 20:00:00")},
		{"done in the far future", now, History{Done: at("2025-06-16 20:00:00")}, now},
		{"done a little ahead", now, History{Done: at("2024-06-17 10:00:10")}, at("2024-06-17 20:00:00")},
		{"gone right after it was done", now, History{Attempted: now}, now.Add(retrySoon)},
		{"failed once, shortest wait", now, History{Done: now.AddDate(0, 0, -3), Attempted: now, Failures: 1}, now.Add(22500 * time.Millisecond)},
		{"failed once, longest wait", now, History{Done: now, Attempted: now, Failures: 1, Jitter: 1}, now.Add(30 * time.Second)},
		{"failed twice", now, History{Done: now, Attempted: now, Failures: 2, Jitter: 1}, now.Add(time.Minute)},
		{"failed often", now, History{Done: now, Attempted: now, Failures: 500, Jitter: 1}, now.Add(time.Hour)},
		{"failed often without a mapping", now, History{Attempted: now, Failures: 500, Jitter: 1}, now.Add(2 * time.Minute)},
		{"failed long ago", now, History{Attempted: now.Add(-time.Hour), Failures: 3}, now},
		{"failed in the far future", now, History{Attempted: now.Add(24 * time.Hour), Failures: 1}, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want.UTC(), Next(c.now, c.h, p).UTC())
		})
	}
}

func TestNextOfOtherPlans(t *testing.T) {
	t.Parallel()

	zone := london(t)
	at := func(text string) time.Time {
		m, err := time.ParseInLocation("2006-01-02 15:04:05", text, zone)
		require.NoError(t, err)
		return m
	}
	now := at("2024-06-17 02:00:00")
	daily := Plan{Hour: 4, Zone: zone, MaxRetryWait: time.Hour}
	often := Plan{Every: 5 * time.Minute, MaxRetryWait: 5 * time.Minute}
	for _, c := range []struct {
		name string
		p    Plan
		h    History
		want time.Time
	}{
		{"yesterday's was done", daily, History{Done: at("2024-06-16 04:00:00")}, at("2024-06-17 04:00:00")},
		{"yesterday's was missed", daily, History{Done: at("2024-06-15 04:00:00")}, now},
		{"a week was missed", daily, History{Done: at("2024-06-10 04:00:00")}, now},
		{"a missed one was caught up", daily, History{Done: now}, at("2024-06-17 04:00:00")},
		{"never done, and begun just now", daily, History{}, now},
		{"every five minutes, never done", often, History{}, now},
		{"every five minutes, just done", often, History{Done: now}, now.Add(5 * time.Minute)},
		{"every five minutes, done long ago", often, History{Done: now.Add(-time.Hour)}, now},
		{"every five minutes, failed often", often, History{Done: now, Attempted: now, Failures: 9, Jitter: 1}, now.Add(5 * time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want.UTC(), Next(now, c.h, c.p).UTC())
		})
	}
}

// TestOncePerDayWhateverTheHour steps through four years in zones that change their clocks at midnight, at one, by
// half an hour or not at all, with restarts at random moments.
func TestOncePerDayWhateverTheHour(t *testing.T) {
	t.Parallel()

	for _, zoneName := range []string{"Europe/London", "Africa/Cairo", "Australia/Lord_Howe", "America/New_York", "UTC"} {
		zone, err := time.LoadLocation(zoneName)
		require.NoError(t, err)

		for _, hour := range []int{0, 1, 2, 3, 4, 20, 23} {
			p := Plan{Hour: hour, MaxAgeDays: hour % 4, Zone: zone, MaxRetryWait: time.Hour}
			random := rand.New(rand.NewPCG(1, uint64(hour)))
			now := time.Date(2023, 1, 1, 23, 30, 0, 0, zone)
			last := now // a run after the first day's hour
			counts := map[string]int{}
			for now.Before(time.Date(2027, 1, 1, 0, 0, 0, 0, zone)) {
				at := Next(now, History{Done: last}, p)
				if at.After(now) { // check again at a random moment, as after a restart
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
