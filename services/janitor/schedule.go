package janitor

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"bobosync/shared/athoc"
)

// The waits after refreshes that failed or found nobody: doubling from first to most. Without any mapping the resolver
// reads no entries, so the next try comes sooner then.
const (
	retryFirst    = 30 * time.Second
	retryMost     = time.Hour
	retryUnmapped = 2 * time.Minute
	// retrySoon is the wait after a success whose mapping is gone all the same.
	retrySoon = 5 * time.Second
)

// ahead is how far in the future a moment that was noted may lie. Beyond that, the clock that it was noted by was wrong.
const ahead = time.Hour

// plan says when the mapping is to be refreshed.
type plan struct {
	// hour is the hour of the day, from 0 to 23, after which the daily refresh comes.
	hour int
	// retryDays is the age in days at which a mapping is refreshed without waiting for that hour.
	retryDays int
	// zone is the zone that days and hours are told in.
	zone *time.Location
}

// history is what the next refresh depends on.
type history struct {
	// succeeded is the end of the last refresh that brought the mapping in force; zero if there is no mapping in force.
	succeeded time.Time
	// attempted is the end of the last try, and failures the number of tries since the last success.
	attempted time.Time
	failures  int
	// jitter, from 0 to 1, was drawn for the wait after the last failure.
	jitter float64
}

// next returns the moment of the next refresh, which is now if it is due.
func next(now time.Time, h history, p plan) time.Time {
	if h.failures > 0 {
		at := h.attempted.Add(h.retryWait())
		if at.Before(now) || at.After(now.Add(retryMost)) {
			return now
		}
		return at
	}
	if h.succeeded.IsZero() || h.succeeded.After(now.Add(ahead)) {
		if again := h.attempted.Add(retrySoon); again.After(now) && again.Before(now.Add(ahead)) {
			return again
		}
		return now
	}
	// Days of the calendar: the days on which the clocks change must not bring the daily refresh forward.
	if old := h.succeeded.In(p.zone).AddDate(0, 0, p.retryDays); !now.Before(old) {
		return now
	}
	day := now.In(p.zone)
	switch due := p.due(day); {
	case now.Before(due):
		return due
	case h.succeeded.Before(due):
		return now
	default:
		return p.due(day.AddDate(0, 0, 1))
	}
}

func (h history) retryWait() time.Duration {
	most := retryMost
	if h.succeeded.IsZero() {
		most = retryUnmapped
	}
	wait := min(float64(retryFirst)*math.Pow(2, float64(min(h.failures, 30)-1)), float64(most))
	return time.Duration(wait * (0.75 + 0.25*h.jitter))
}

// due is the moment of the day from which its refresh is due.
func (p plan) due(day time.Time) time.Time {
	year, month, date := day.Date()
	due := time.Date(year, month, date, p.hour, 0, 0, 0, p.zone)
	if due.Hour() < p.hour || due.Day() != date {
		due = due.Add(time.Hour) // spring skips this hour, and time.Date chose the offset that makes it an earlier one
	}
	return due
}

// cycle refreshes the mapping whenever that is due.
type cycle struct {
	plan plan
	now  func() time.Time
	// look is how often the broker is asked whether it still holds the mapping. The clock is looked at as often, since
	// timers stand still while a machine sleeps.
	look time.Duration
	log  *slog.Logger
	// inForce returns the end of the last refresh, or the zero time if the broker does not hold its mapping.
	inForce func(context.Context) (time.Time, error)
	refresh func(context.Context) error

	history history
	// told is the moment that was logged as that of the next refresh.
	told time.Time
}

// run works until ctx ends, and then returns nil. Its errors are those of inForce.
func (c *cycle) run(ctx context.Context) error {
	for ctx.Err() == nil {
		var err error
		if c.history.succeeded, err = c.inForce(ctx); err != nil {
			return unlessEnded(ctx, err)
		}
		now := c.now()
		at := next(now, c.history, c.plan)
		if wait := at.Sub(now); wait > 0 {
			if !at.Equal(c.told) {
				c.told = at
				c.log.Info("next refresh of the mapping", "at", at, "last", c.history.succeeded)
			}
			sleep(ctx, min(wait, c.look))
			continue
		}
		if err = c.refresh(ctx); ctx.Err() == nil {
			c.note(err)
		}
	}
	return nil
}

// unlessEnded returns err, or nil if ctx has ended: then whatever failed did so for that reason.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// note takes the outcome of a refresh into account, and logs a failure.
func (c *cycle) note(err error) {
	c.history.attempted = c.now()
	if err == nil {
		c.history.failures = 0
		return
	}
	c.history.failures++
	c.history.jitter = rand.Float64() //nolint:gosec // nothing secret about it
	level, inForce := slog.LevelWarn, "the mapping before stays in force"
	if needsMending(err) {
		level = slog.LevelError
	}
	if c.history.succeeded.IsZero() {
		inForce = "there is no mapping, so no entry can be resolved"
	}
	c.log.Log(context.Background(), level, "the mapping of employee ids to AtHoc users could not be refreshed; "+inForce,
		"error", err, "failures", c.history.failures, "retry_in", c.history.retryWait().Round(time.Second).String())
}

// needsMending says whether a failure is unlikely to pass by itself.
func needsMending(err error) bool {
	if errors.Is(err, ErrNobody) {
		return true
	}
	call, ok := errors.AsType[*athoc.CallError](err)
	return ok && call.Kind != athoc.Outage && call.Kind != athoc.Throttled
}

// sleep returns after d or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
