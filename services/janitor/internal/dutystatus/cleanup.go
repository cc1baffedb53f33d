package dutystatus

// Stale duty: duty statuses that are too old to be shown.

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/control"
)

// Cleaner finds duty statuses in AtHoc that are too old to be shown. It writes nothing: the resolver, which knows of
// newer events, decides and publishes.
type Cleaner struct {
	// Fetch reads the users who have a duty status.
	Fetch   func(context.Context) ([]users.Person, error)
	Observe Observe
	// Silent names the feeds from which nothing has come for unusually long.
	Silent   func(context.Context) []string
	Lifetime time.Duration
	Zone     *time.Location
	Metrics  *metrics.Set
	Now      func() time.Time
	Log      *slog.Logger
	// Odd holds the number of users whose duty status was no date in the last run.
	Odd *int
}

// Clean searches once. It reads all pages before it asks the resolver, so that stale statuses are cleared in as few
// calls as possible.
func (c *Cleaner) Clean(ctx context.Context, _ *periodic.Run) (periodic.Result, error) {
	people, err := c.Fetch(ctx)
	if err != nil {
		return periodic.Result{}, err
	}

	all := observe(people, c.Zone)
	old, odd := stale(all, c.Now().Add(-c.Lifetime))
	c.logOdd(all, odd)

	var silent []string
	if len(old) > 0 {
		silent = c.Silent(ctx)
	}

	answer, err := Observe(func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
		req.Silent = silent
		return c.Observe(ctx, req)
	}).askAll(ctx, old, control.Expire, true)
	res := periodic.Result{Nothing: answer.Published == 0, Counts: map[string]int{
		"with_status": len(all), "no_date": odd, "stale": len(old), "cleared": answer.Published, "under_way": answer.UnderWay,
	}}
	if answer.Held > 0 {
		res.Counts["held"], res.Nothing = answer.Held, false
	}

	c.Metrics.StaleCleared(answer.Published)

	if answer.Published > 0 {
		c.Log.Info("stale duty is cleared in AtHoc", "users", answer.Published, "stale", len(old), "under_way", answer.UnderWay,
			"with_status", len(all))
	}

	if err == nil && odd >= fewOdd && 2*odd >= len(all) {
		err = fmt.Errorf("%d of %d duty statuses in AtHoc are no dates as DD/MM/YYYY HH:MM:SS, so that nobody can tell whether they are stale: check DUTY_STATUS_FIELD, and in which form AtHoc gives dates to this account", odd, len(all))
	}

	return res, err
}

// fewOdd is the least number of statuses without a date at which Clean can fail: fewer may be the doing of a few
// people.
const fewOdd = 5

// logOdd logs how many duty statuses are no date, but only when their number changes. Such statuses are left alone:
// whoever wrote them may have meant something.
func (c *Cleaner) logOdd(all []observed, odd int) {
	if odd == *c.Odd {
		return
	}

	*c.Odd = odd
	if odd == 0 {
		c.Log.Info("all duty statuses in AtHoc are dates again")
		return
	}

	c.Log.Warn("some AtHoc users have a duty status that is no date and is left alone: correct them in AtHoc, and check "+
		"DUTY_STATUS_FIELD (the names are logged at level DEBUG)", "users", odd)

	for _, s := range all {
		if s.Odd {
			c.Log.Debug("the duty status is no date", "user", s.User)
		}
	}
}
