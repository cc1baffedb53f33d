package breaker

import (
	"log/slog"
	"time"
)

// remind is how often lasting trouble is logged.
const remind = time.Minute

// line is a log line about a change.
type line struct {
	level slog.Level
	text  string
	args  []any
}

// logLines returns what to log after a report of class has turned before into s, and notes in the state when that was.
// Since the state is shared, an outage that ten replicas see is logged as often as one that a single replica sees.
func (s State) logLines(before State, now time.Time, class FailureClass) (State, []line) {
	var lines []line
	if before.Open() && !s.Open() && s.Searched == nil { // otherwise an update has yet to be answered
		lines = append(lines, line{slog.LevelInfo, "AtHoc answers again", []any{
			"after_seconds", int(now.Sub(before.Since).Seconds()), "failed_calls", before.Failures,
		}})
	}

	switch {
	case class == None:
		if before.Slow > 0 && s.Slow == 0 {
			lines = append(lines, line{slog.LevelInfo, "AtHoc takes calls at the full rate again", nil})
		}
	case s.Open() && (s.Class != before.Class && before.Searched == nil || now.Sub(s.Logged) >= remind):
		s.Logged = now
		lines = append(lines, s.inTrouble(before, now))
	case s.Class == Throttled && class == Throttled && (before.Slow == 0 || now.Sub(s.Logged) >= remind):
		s.Logged = now
		lines = append(lines, line{slog.LevelWarn, "AtHoc asks for fewer calls", []any{"cause", s.Cause, "next_call_at", s.Next}})
	}

	return s, lines
}

// inTrouble returns the line about trouble that holds calls back.
func (s State) inTrouble(before State, now time.Time) line {
	args := []any{"cause", s.Cause, "next_try_at", s.ProbeAt}
	if s.Class == before.Class || before.Searched != nil {
		args = append(args, "after_seconds", int(now.Sub(s.Since).Seconds()), "failed_calls", s.Failures)
	}

	switch {
	case s.Class == Refused && s.Class == before.Class:
		return line{slog.LevelError, "AtHoc still refuses the calls; nothing is lost, and sending goes on by itself when this is fixed", args}
	case s.Class == Refused:
		return line{slog.LevelError, "AtHoc refuses the calls; nothing is lost, and sending goes on by itself when this is fixed", args}
	case s.Class == before.Class || before.Searched != nil:
		return line{slog.LevelWarn, "AtHoc is still not there; nothing is lost, and sending goes on by itself when it is back", args}
	default:
		return line{slog.LevelWarn, "AtHoc is not there; nothing is lost, and sending goes on by itself when it is back", args}
	}
}
