package periodic

// When a job is due: pure functions of the clock, the plan and the history.

import (
	"slices"
	"time"

	"bobosync/shared/pause"
)

// The waits after failed runs double from retryFirst up to the plan's maximum.
const (
	retryFirst = 30 * time.Second
	// retrySoon is the delay before a run is repeated that succeeded but whose result was lost.
	retrySoon = 5 * time.Second
)

// ahead is how far in the future a recorded moment may lie. Beyond that, the clock that recorded it was wrong.
const ahead = time.Hour

// Plan says when a job is due.
type Plan struct {
	// Hour is the hour of the day, from 0 to 23 in Zone, after which a daily job is due.
	Hour int
	Zone *time.Location
	// Every, if not 0, is the time between two runs of a job that is not daily.
	Every time.Duration
	// MaxAgeDays, if not 0, is the age in days at which a daily job is due even before its hour.
	MaxAgeDays int
	// MaxRetryWait is the longest wait after a failure. MaxFirstRetryWait, if not 0, replaces it for a job that has
	// never been done.
	MaxRetryWait, MaxFirstRetryWait time.Duration
}

// History is what the next run depends on.
type History struct {
	// Done is the end of the last run that counts; zero if there was none.
	Done time.Time
	// Attempted is the end of the last attempt. Failures is the number of attempts since the last success.
	Attempted time.Time
	Failures  int
	// Jitter, from 0 to 1, is a random number for the wait after the last failure.
	Jitter float64
}

// Next returns the time of the next run, which is now if it is due. However many runs were missed, one makes up for
// them.
func Next(now time.Time, h History, p Plan) time.Time {
	if h.Failures > 0 {
		at := h.Attempted.Add(h.RetryWait(p))
		if at.Before(now) || at.After(now.Add(p.MaxRetryWait)) {
			return now
		}

		return at
	}

	if h.Done.IsZero() || h.Done.After(now.Add(ahead)) {
		if again := h.Attempted.Add(retrySoon); again.After(now) && again.Before(now.Add(ahead)) {
			return again
		}
		return now
	}

	if p.Every > 0 {
		return slices.MaxFunc([]time.Time{now, h.Done.Add(p.Every)}, time.Time.Compare)
	}

	// These are calendar days: a change of the clocks must not bring the daily run forward.
	if p.MaxAgeDays > 0 && !now.Before(h.Done.In(p.Zone).AddDate(0, 0, p.MaxAgeDays)) {
		return now
	}

	day := now.In(p.Zone)
	switch due := p.due(day); {
	case now.Before(due):
		// An instance that was not running at yesterday's hour has missed that run.
		if h.Done.Before(p.due(day.AddDate(0, 0, -1))) && p.MaxAgeDays == 0 {
			return now
		}
		return due
	case h.Done.Before(due):
		return now
	default:
		return p.due(day.AddDate(0, 0, 1))
	}
}

// RetryWait returns how long to wait after the last failure.
func (h History) RetryWait(p Plan) time.Duration {
	most := p.MaxRetryWait
	if h.Done.IsZero() && p.MaxFirstRetryWait > 0 {
		most = p.MaxFirstRetryWait
	}

	return pause.Delay(retryFirst, most, h.Failures, h.Jitter)
}

// due returns the moment from which the run of a day is due.
func (p Plan) due(day time.Time) time.Time {
	year, month, date := day.Date()
	due := time.Date(year, month, date, p.Hour, 0, 0, 0, p.Zone)
	if due.Hour() < p.Hour || due.Day() != date {
		due = due.Add(time.Hour) // spring skips this hour, and time.Date chose the offset that gives an earlier one
	}

	return due
}
