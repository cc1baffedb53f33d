package breaker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	start  = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	limits = Limits{Rate: 2, CallTimeout: 30 * time.Second}
)

// ask asks until it is let through, and returns the time at which that happens.
func ask(t *testing.T, s State, now time.Time) (State, Permit, time.Time) {
	t.Helper()

	for range 10 {
		next, p, wait := s.Ask(now, limits)
		if wait <= 0 {
			return next, p, now
		}

		now = now.Add(wait)
	}

	t.Fatal("never let through")

	return s, Permit{}, now
}

func TestRateIsKept(t *testing.T) {
	var s State
	now := start
	for range 20 {
		s, _, now = ask(t, s, now)
	}

	require.Equal(t, 9500*time.Millisecond, now.Sub(start), "20 calls at 2 a second")
}

func TestARepetitionKeepsTheRateAndNothingElse(t *testing.T) {
	var s State
	s, p, now := ask(t, s, start)
	s = s.Report(now, p, Outage, "503", 0, 1)
	s, p, now = ask(t, s, now)
	require.True(t, p.Probe)

	_, wait := s.Pace(now, limits)
	require.Equal(t, 500*time.Millisecond, wait)
	s, wait = s.Pace(now.Add(wait), limits)
	require.Zero(t, wait, "the probe itself is what it belongs to")
	_, wait = s.Pace(now.Add(500*time.Millisecond), limits)
	require.Positive(t, wait)
}

func TestOutageGetsOneProbeAtATime(t *testing.T) {
	t.Parallel()

	for name, l := range map[string]Limits{
		"by searches":  {Rate: 2, CallTimeout: 30 * time.Second, search: true},
		"by own calls": {Rate: 2, CallTimeout: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			s, p, _ := State{}.Ask(start, l)
			now := start
			s = s.Report(now, p, Outage, "503", 0, 1)
			require.True(t, s.Open())

			searches := 0
			for probe := range 3600 {
				var wait time.Duration
				before := now
				for s, p, wait = s.Ask(now, l); wait > 0; s, p, wait = s.Ask(now, l) {
					now = now.Add(wait)
				}

				require.True(t, p.Probe)
				require.LessOrEqual(t, now.Sub(before), outageWait, "probe %d is as soon as the first", probe)

				if p.Search {
					searches++

					require.Equal(t, searchShortest, p.Deadline)
				}

				_, _, wait = s.Ask(now.Add(outageWait/2), l)
				require.Positive(t, wait, "a second probe while the first is under way")

				s = s.Report(now, p, Outage, "503", 0, 1)
			}

			require.LessOrEqual(t, now.Sub(start), time.Hour+time.Minute)

			if l.search {
				require.Equal(t, 3600-3600/thoroughly, searches, "now and then an update is tried")
			} else {
				require.Zero(t, searches)
			}

			s = s.Report(now, p, None, "", 0, 1)
			require.False(t, s.Open())
			require.Zero(t, s.Failures)
		})
	}
}

// TestAProbeThatHangsHoldsNothingUp: the next probe follows soon after its deadline.
func TestAProbeThatHangsHoldsNothingUp(t *testing.T) {
	t.Parallel()

	l := Limits{Rate: 2, CallTimeout: 30 * time.Second, search: true}
	s, p, _ := State{}.Ask(start, l)
	s = s.Report(start, p, Outage, "503", 0, 1)
	s, p, _ = s.Ask(s.ProbeAt.Add(time.Second), l)
	require.True(t, p.Search)

	began := s.Next.Add(-500 * time.Millisecond)
	s = s.Report(began.Add(p.Deadline), p, Outage, "no answer", 0, 1)
	require.LessOrEqual(t, s.ProbeAt.Sub(began), 1100*time.Millisecond)

	slow := State{Took: 2 * time.Second}
	require.Equal(t, 4*time.Second, searchDeadline(slow.Took), "an AtHoc that is known to be slow gets longer")
	require.Equal(t, searchLongest, searchDeadline(time.Minute))
}

// TestASearchIsAnsweredAndNoUpdate: if updates keep failing after a search was answered, only an update can show that
// the outage is over. All of that is one outage.
func TestASearchIsAnsweredAndNoUpdate(t *testing.T) {
	t.Parallel()

	publisher, janitor := Limits{Rate: 2, CallTimeout: time.Second, Updates: true, search: true}, Limits{Rate: 2, CallTimeout: time.Second, search: true}
	s, p, _ := State{}.Ask(start, publisher)
	s = s.Report(start, p, Outage, "500", 0, 1)
	s, p, _ = s.Ask(start.Add(2*time.Second), publisher)
	require.True(t, p.Search)
	s = s.Report(start.Add(2*time.Second), p, None, "", 0, 1)
	require.False(t, s.Open())
	require.NotNil(t, s.Searched)

	now := start.Add(3 * time.Second)
	s, p, _ = s.Ask(now, publisher)
	s = s.Report(now, p, Outage, "500", 0, 1)
	require.True(t, s.Open())
	require.True(t, s.OnlyUpdates)
	require.Equal(t, start, s.Since)

	now = now.Add(2 * time.Second)
	_, search, wait := s.Ask(now, janitor)
	require.Zero(t, wait)
	require.False(t, search.Probe, "searches are answered: they need not wait")
	require.True(t, s.Report(now, search, None, "", 0, 1).Open(), "and do not show that updates are")
	require.True(t, s.Report(now, search, Outage, "503", 0, 1).OnlyUpdates)
	s, p, _ = s.Ask(now, publisher)
	require.True(t, p.Probe)
	require.False(t, p.Search)
	s = s.Report(now, p, None, "", 0, 1)
	require.False(t, s.Open())
	s = s.Answered(Update{Users: 1, Batch: 10, Took: time.Millisecond}, time.Second, now)
	require.Nil(t, s.Searched)
}

// TestAProbeIsAnsweredButNotAsASearch: where searches are forbidden, updates are the probes.
func TestAProbeIsAnsweredButNotAsASearch(t *testing.T) {
	t.Parallel()

	l := Limits{Rate: 2, CallTimeout: time.Second, Updates: true, search: true}
	s, p, _ := State{}.Ask(start, l)
	s = s.Report(start, p, Outage, "500", 0, 1)
	now := start.Add(2 * time.Second)
	s, p, _ = s.Ask(now, l)
	s = s.unsearchable(now, p)
	require.True(t, s.Open())
	_, p, wait := s.Ask(now.Add(time.Second), l)
	require.Zero(t, wait)
	require.True(t, p.Probe)
	require.False(t, p.Search)
}

func TestALostProbeIsReplaced(t *testing.T) {
	var s State
	s, p, now := ask(t, s, start)
	s = s.Report(now, p, Outage, "503", 0, 1)
	s, _, now = ask(t, s, now)
	before := now
	_, p, now = ask(t, s, now)
	require.True(t, p.Probe)
	require.Equal(t, 35*time.Second, now.Sub(before))
}

func TestStragglersDoNotCount(t *testing.T) {
	var s State
	s, first, now := ask(t, s, start)
	s, second, now := ask(t, s, now)
	s = s.Report(now, first, Outage, "503", 0, 1)
	failures, probeAt := s.Failures, s.ProbeAt
	s = s.Report(now, second, Outage, "503", 0, 1)
	require.Equal(t, failures, s.Failures)
	require.Equal(t, probeAt, s.ProbeAt)
	s = s.Report(now, second, None, "", 0, 1)
	require.True(t, s.Open(), "an answer from before the outage does not end it")
}

func TestRefusalIsProbedRarely(t *testing.T) {
	var s State
	s, p, now := ask(t, s, start)
	s = s.Report(now, p, Refused, "403", 0, 1)
	for _, want := range []time.Duration{30, 60, 120, 240, 300, 300} {
		before := now
		s, p, now = ask(t, s, now)
		require.Equal(t, want*time.Second, now.Sub(before))
		s = s.Report(now, p, Refused, "403", 0, 1)
	}
}

func TestAnotherTroubleIsWaitedForFromTheStart(t *testing.T) {
	var s State
	now := start
	var p Permit
	for range 6 {
		s, p, now = ask(t, s, now)
		s = s.Report(now, p, Outage, "503", 0, 1)
	}

	s, p, now = ask(t, s, now)
	s = s.Report(now, p, Refused, "403", 0, 1)
	before := now
	_, _, now = ask(t, s, now)
	require.Equal(t, refusedFirst, now.Sub(before))
}

func TestOtherSettingsNeedNotWaitARefusalOut(t *testing.T) {
	var s State
	s, p, now := ask(t, s, start)
	s = s.Report(now, p, Refused, "wrong password", 0, 1)
	s.Settings = "old"
	_, _, wait := s.SettingsChanged(now, Limits{Rate: 2, Settings: "old"}).Ask(now.Add(time.Second), limits)
	require.Positive(t, wait)
	_, p, wait = s.SettingsChanged(now, Limits{Rate: 2, Settings: "new"}).Ask(now.Add(time.Second), limits)
	require.Zero(t, wait)
	require.True(t, p.Probe)

	outage := State{}.Report(now, Permit{}, Outage, "503", 0, 1)
	require.Equal(t, outage, outage.SettingsChanged(now, Limits{Settings: "new"}), "an outage is waited out with any settings")
}

func TestThrottlingSlowsDownAndRecovers(t *testing.T) {
	var s State
	s, p, now := ask(t, s, start)
	s = s.Report(now, p, Throttled, "429", 7*time.Second, 1)
	require.False(t, s.Open(), "calls go on, later and slower")

	before := now
	s, p, now = ask(t, s, now)
	require.Equal(t, 7*time.Second, now.Sub(before))
	_, _, wait := s.Ask(now, limits)
	require.Equal(t, time.Second, wait, "half the rate")

	for range 40 {
		s = s.Report(now, p, None, "", 0, 1)
	}

	require.Zero(t, s.Slow)
	s, _, now = ask(t, s, now)
	_, _, wait = s.Ask(now, limits)
	require.Equal(t, 500*time.Millisecond, wait)
}

func TestRetryAfterHoldsAnOutageBack(t *testing.T) {
	var s State
	s, p, now := ask(t, s, start)
	s = s.Report(now, p, Outage, "503", time.Minute, 1)
	before := now
	_, _, now = ask(t, s, now)
	require.Equal(t, time.Minute, now.Sub(before))
}

// TestTheClockIsPutBack: earlier times, which are now in the far future, hold nothing up; those that are possible are
// kept.
func TestTheClockIsPutBack(t *testing.T) {
	s, p, _ := State{}.Ask(start, limits)
	s = s.Report(start, p, Outage, "503", 15*time.Minute, 1)
	require.Equal(t, s, s.withoutFar(start, limits))
	require.Equal(t, s, s.withoutFar(start.Add(-30*time.Second), limits), "clocks differ a little")

	before := start.Add(-time.Hour)
	_, _, wait := s.Ask(before, limits)
	require.Positive(t, wait)
	probe, p, wait := s.withoutFar(before, limits).Ask(before, limits)
	require.Zero(t, wait)
	require.True(t, p.Probe)

	_, _, wait = probe.withoutFar(before.Add(-time.Hour), limits).Ask(before.Add(-time.Hour), limits)
	require.Zero(t, wait, "nor does a probe of which nothing is known")

	slow := Limits{Rate: 0.001, CallTimeout: time.Second}
	next, _, _ := State{Slow: slowest}.Ask(start, slow)
	require.Equal(t, next, next.withoutFar(start, slow), "a low rate has long waits of its own")
}

// TestTheClockIsPutBackALittle: the next call waits for no longer than any call can have to, and a user is put off for
// no longer than any user can be.
func TestTheClockIsPutBackALittle(t *testing.T) {
	s, _, _ := State{}.Ask(start, limits)
	before := start.Add(-10 * time.Minute)
	_, _, wait := s.withoutFar(before, limits).Ask(before, limits)
	require.Zero(t, wait, "AtHoc has not asked for a wait")

	throttled := State{}.Report(start, Permit{}, Throttled, "429", 10*time.Minute, 1)
	require.Equal(t, throttled, throttled.withoutFar(start, limits), "now it has")

	s = State{}
	for range 20 {
		s.PutOff = s.PutOff.With("jo", "500", start)
	}

	require.Equal(t, s, s.withoutFar(start, limits))
	before = start.Add(-24 * time.Hour)
	jo, _ := s.withoutFar(before, limits).PutOff.Of("jo")
	require.False(t, before.Before(jo.Until), "he is sent again")
}
