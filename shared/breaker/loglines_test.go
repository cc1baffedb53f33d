package breaker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// story reports calls to a circuit breaker's state and collects the log lines about them.
type story struct {
	t     *testing.T
	state State
	now   time.Time
	lines []line
}

func newStory(t *testing.T) *story {
	return &story{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

var storyLimits = Limits{Rate: 1000, CallTimeout: time.Second}

// call waits until a call may be made, and reports its outcome.
func (s *story) call(class FailureClass) {
	s.t.Helper()

	next, permit, wait := s.state.Ask(s.now, storyLimits)
	for wait > 0 {
		s.now = s.now.Add(wait)
		next, permit, wait = s.state.Ask(s.now, storyLimits)
	}

	after := next.Report(s.now, permit, class, "cause", 0, 1)
	var lines []line
	s.state, lines = after.logLines(next, s.now, class)
	s.lines = append(s.lines, lines...)
}

// during reports failures of a class for as long as calls are let through.
func (s *story) during(d time.Duration, class FailureClass) (calls int) {
	s.t.Helper()

	for end := s.now.Add(d); s.now.Before(end); calls++ {
		s.call(class)
	}

	return calls
}

func (s *story) levels() (levels []slog.Level) {
	for _, l := range s.lines {
		levels = append(levels, l.level)
	}

	s.lines = nil

	return levels
}

// TestAnOutageIsToldOnceAMinute: one line when the outage starts, at most one a minute while it lasts, one when it
// ends.
func TestAnOutageIsToldOnceAMinute(t *testing.T) {
	s := newStory(t)
	s.during(time.Second, None)
	require.Empty(t, s.levels(), "a quiet day is a quiet log")
	s.call(Outage)
	require.Equal(t, []slog.Level{slog.LevelWarn}, s.levels())
	calls := s.during(25*time.Second, Outage)
	require.Greater(t, calls, 4)
	require.Empty(t, s.levels(), "nothing more in the first minute")
	calls = s.during(time.Hour, Outage)
	told := s.levels()
	require.Greater(t, calls, len(told))
	require.LessOrEqual(t, len(told), 60)
	require.GreaterOrEqual(t, len(told), 40, "an operator who looks at the last lines sees that it lasts")
	require.NotContains(t, told, slog.LevelInfo)
	s.call(None)
	require.Equal(t, []slog.Level{slog.LevelInfo}, s.levels())
	s.during(time.Second, None)
	require.Empty(t, s.levels())
	s.call(Outage)
	require.Equal(t, []slog.Level{slog.LevelWarn}, s.levels(), "the next outage is told of at once")
}

// TestARefusalIsAnError: a refusal needs a person, and one that follows an outage is logged at once.
func TestARefusalIsAnError(t *testing.T) {
	s := newStory(t)
	s.call(Outage)
	s.call(Refused)
	require.Equal(t, []slog.Level{slog.LevelWarn, slog.LevelError}, s.levels())
	calls := s.during(time.Hour, Refused)
	require.Len(t, s.levels(), calls-1, "the first probe comes within the minute, and the others every few minutes")
	s.call(None)
	require.Equal(t, []slog.Level{slog.LevelInfo}, s.levels())
}

// TestThrottlingIsNoFlood: AtHoc may throttle every other call for hours.
func TestThrottlingIsNoFlood(t *testing.T) {
	s := newStory(t)
	for end := s.now.Add(10 * time.Minute); s.now.Before(end); {
		s.call(Throttled)
		s.call(None)
	}

	told := s.levels()
	require.LessOrEqual(t, len(told), 10)
	require.GreaterOrEqual(t, len(told), 8)

	for range 100 {
		s.call(None)
	}

	require.Equal(t, []slog.Level{slog.LevelInfo}, s.levels(), "the full rate is back")
	require.Zero(t, s.state.Logged)
}

// TestAProbeThatIsThrottledEndsTheOutage: AtHoc is there, and that is logged.
func TestAProbeThatIsThrottledEndsTheOutage(t *testing.T) {
	s := newStory(t)
	s.call(Outage)
	s.call(Throttled)
	require.Equal(t, []slog.Level{slog.LevelWarn, slog.LevelInfo, slog.LevelWarn}, s.levels())
}
