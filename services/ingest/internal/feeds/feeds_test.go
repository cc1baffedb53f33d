package feeds

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()

	z, err := time.LoadLocation(name)
	require.NoError(t, err)

	return z
}

// regular adds a file with a number of rows at regular intervals from one time to another, in the hours for which
// open is true.
func regular(h *History, from, to time.Time, every time.Duration, rows int, open func(hour int) bool) {
	for at := from; at.Before(to); at = at.Add(every) {
		if open(at.In(h.Zone).Hour()) {
			h.Add(at, rows)
		}
	}
}

func always(int) bool    { return true }
func days(hour int) bool { return hour >= 6 && hour < 22 }

// TestUnusual judges a feed that brought a file of 10 rows every 10 minutes in the daytime for eight weeks.
func TestUnusual(t *testing.T) {
	t.Parallel()

	london := zone(t, "Europe/London")
	start := time.Date(2026, 6, 1, 0, 0, 0, 0, london)
	end := start.AddDate(0, 0, 56) // a Monday, midnight
	at := func(hour, minute int) time.Time {
		return end.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
	}
	for name, c := range map[string]struct {
		until        time.Time // when the regular files stop
		more         func(*History)
		now          time.Time
		waits        bool
		silent       bool
		thin, flood  int // rows of the hour, -1 if there is no such hour
		least, usual int
	}{
		"as usual":               {at(12, 0), nil, at(12, 9), false, false, -1, -1, 60, 60},
		"a quiet night is usual": {at(0, 0), nil, at(4, 0), false, false, -1, -1, 0, 0},
		"not yet silent":         {at(12, 0), nil, at(12, 19), false, false, -1, -1, 60, 60},
		"silent by day":          {at(12, 0), nil, at(12, 21), false, true, -1, -1, 60, 60},
		"silent in the morning":  {at(0, 0), nil, at(7, 1), false, true, -1, -1, 60, 60},
		"files lie unread":       {at(12, 0), nil, at(12, 40), true, false, -1, -1, 60, 60},
		"a thin hour": {at(12, 0), func(h *History) {
			h.Add(at(12, 0), 9)
			h.Add(at(12, 20), 9)
			h.Add(at(12, 40), 1)
			h.Add(at(13, 0), 10)
		}, at(13, 3), false, false, 19, -1, 60, 60},
		"a third is not thin":                {at(12, 0), func(h *History) { h.Add(at(12, 0), 20); h.Add(at(12, 55), 0); h.Add(at(13, 0), 10) }, at(13, 3), false, false, -1, -1, 60, 60},
		"the hour is not over for long":      {at(12, 0), func(h *History) { h.Add(at(12, 55), 1) }, at(13, 1), false, false, -1, -1, 60, 60},
		"a flood, now":                       {at(12, 0), func(h *History) { h.Add(at(12, 1), 301) }, at(12, 2), false, false, -1, 301, 60, 60},
		"five times as much is no flood":     {at(12, 0), func(h *History) { h.Add(at(12, 1), 300) }, at(12, 2), false, false, -1, -1, 60, 60},
		"a flood, an hour ago":               {at(13, 0), func(h *History) { h.Add(at(12, 1), 301); h.Add(at(13, 1), 1) }, at(13, 4), false, false, -1, 361, 60, 60},
		"at night nothing is a usual amount": {at(0, 0), func(h *History) { h.Add(at(2, 0), 999) }, at(2, 5), false, false, -1, -1, 0, 0},
	} {
		h := New(london)
		regular(h, start, c.until, 10*time.Minute, 10, days)

		if c.more != nil {
			c.more(h)
		}

		s := h.Judge(c.now, c.waits)
		require.True(t, s.Learnt, name)
		require.Equal(t, c.silent, s.Silent, "%s: %+v", name, s.Usual)

		rows := func(u *Unusual) int {
			if u == nil {
				return -1
			}
			return u.Rows
		}
		require.Equal(t, c.thin, rows(s.Thin), "%s: thin", name)
		require.Equal(t, c.flood, rows(s.Flood), "%s: flood", name)
		require.Equal(t, []int{c.least, c.usual}, []int{s.Usual.Least, s.Usual.Most}, name)
		require.Equal(t, such, s.Usual.Hours, name)
	}
}

func TestAYoungFeedIsNotJudged(t *testing.T) {
	t.Parallel()

	h := New(time.UTC)
	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	require.Equal(t, State{Usual: Usual{Begin: start}}, h.Judge(start, false), "nothing ever came")
	regular(h, start, start.AddDate(0, 0, 20), time.Minute, 1, always)
	s := h.Judge(start.AddDate(0, 0, 20).Add(23*time.Hour), false)
	require.False(t, s.Learnt || s.Silent || s.Thin != nil || s.Flood != nil)
	require.True(t, h.Judge(start.AddDate(0, 0, 21).Add(time.Hour), false).Silent)
}

// TestAClockThatWasPutBack checks that a file whose arrival lies in the future does not keep a feed from being
// silent.
func TestAClockThatWasPutBack(t *testing.T) {
	t.Parallel()

	h := New(time.UTC)
	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(0, 0, 30)
	regular(h, start, end, 10*time.Minute, 10, always)
	h.Add(end.AddDate(0, 0, 1), 10)
	require.False(t, h.Judge(end, false).Silent)
	require.True(t, h.Judge(end.Add(time.Hour), false).Silent)
	h.Add(end.Add(time.Hour), 10)
	require.False(t, h.Judge(end.Add(time.Hour), false).Silent)
}

// TestSilenceIsNotForgotten checks that a feed is not judged by its hours if it fell silent before they were known,
// or so long ago that they are not known any more: then a fixed limit applies. As long as they are known, it is
// silent.
func TestSilenceIsNotForgotten(t *testing.T) {
	t.Parallel()

	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, brought := range []int{1, 10, 21, 60} {
		h := New(time.UTC)
		end := start.AddDate(0, 0, brought)
		regular(h, start, end, 10*time.Minute, 10, always)

		for now := end.Add(time.Hour); now.Before(end.AddDate(0, 0, 100)); now = now.Add(time.Hour) {
			s := h.Judge(now, false)
			require.Equal(t, s.Learnt, s.Silent, "after %d days with files, %s later: %+v", brought, now.Sub(end), s.Usual)
		}
	}
}

// TestSummerTime checks that the hours keep their names where the clocks change, in both directions and where offsets
// are not whole hours.
func TestSummerTime(t *testing.T) {
	t.Parallel()

	for _, name := range []string{"Europe/London", "America/New_York", "Australia/Adelaide", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"} {
		for _, end := range []time.Time{time.Date(2026, 4, 15, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)} {
			h := New(zone(t, name))
			regular(h, end.AddDate(0, 0, -70), end, 10*time.Minute, 10, days)

			for now := end.AddDate(0, 0, -14); now.Before(end); now = now.Add(10 * time.Minute) {
				h.Last = now.Add(-9 * time.Minute)
				if local := now.In(h.Zone); days(local.Hour()) {
					u := h.usual(h.Begin(now))
					require.GreaterOrEqual(t, u.Hours, such-1, "%s %s", name, local)
					require.GreaterOrEqual(t, u.Least, 60, "%s %s", name, local)
					require.LessOrEqual(t, u.Most, 60, "%s %s", name, local)
				}

				require.False(t, h.Judge(now, false).Silent, "%s %s", name, now)
			}
		}
	}
}

func TestHoursThatSpringLeavesOutAndAutumnRepeats(t *testing.T) {
	t.Parallel()
	london := zone(t, "Europe/London")
	require.Empty(t, sameHour(time.Date(2026, 4, 5, 1, 0, 0, 0, london), 1), "there was no 01:00 on 29 March")
	twice := sameHour(time.Date(2026, 11, 1, 1, 0, 0, 0, london), 1)
	require.Len(t, twice, 2, "25 October had two")
	require.Equal(t, time.Hour, twice[1].Sub(twice[0]))
	require.Len(t, sameHour(time.Date(2026, 11, 1, 2, 0, 0, 0, london), 1), 1)
}

// TestNoGapIsLost checks that each hour holds the longest time without a file that was reached in it, and that the
// rows add up.
func TestNoGapIsLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, rows := New(time.UTC), 0
		at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
		last, gaps := time.Time{}, map[int64]time.Duration{}
		for _, minutes := range rapid.SliceOfN(rapid.IntRange(0, 300), 1, 40).Draw(t, "minutes") {
			for range minutes {
				if at = at.Add(time.Minute); !last.IsZero() {
					begin := at.Add(-time.Nanosecond).Truncate(time.Hour).Unix()
					gaps[begin] = max(gaps[begin], at.Sub(last))
				}
			}

			h.Add(at, 3)
			last, rows = at, rows+3
		}

		for begin, hour := range h.Hours {
			rows -= hour.Rows
			if hour.Gap != gaps[begin] {
				t.Fatalf("the hour of %s has a gap of %s, should be %s", time.Unix(begin, 0).UTC(), hour.Gap, gaps[begin])
			}
		}

		if rows != 0 {
			t.Fatalf("%d rows are lost", rows)
		}
	})
}

func TestWhatIsKnownBetterIsTakenOver(t *testing.T) {
	t.Parallel()

	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	whole, late := New(time.UTC), New(time.UTC)
	regular(whole, start, start.AddDate(0, 0, 63), time.Hour/2, 5, always)
	regular(late, start.AddDate(0, 0, 50), start.AddDate(0, 0, 63), time.Hour/2, 5, always)
	late.Merge(whole)
	require.Equal(t, whole, late)
	whole.Merge(New(time.UTC))
	require.Equal(t, late, whole)
}
