package janitor

import (
	"context"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/directory"
	"bobosync/services/janitor/internal/duty"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
)

// cleaner finds duty in AtHoc that is too old to be shown. It writes nothing: the resolver, which knows of newer events, decides
// and publishes.
type cleaner struct {
	// fetch reads the users who have a duty status.
	fetch    func(context.Context) ([]directory.Person, error)
	observe  observe
	lifetime time.Duration
	zone     *time.Location
	metrics  *telemetry.Janitor
	now      func() time.Time
	log      *slog.Logger

	// odd is how many users had a duty status that is no date the last time.
	odd *int
}

// clean looks once. All pages are read before the resolver is told, so that what is stale goes out in as few calls as can be.
func (c *cleaner) clean(ctx context.Context, _ *duty.Order) (result, error) {
	people, err := c.fetch(ctx)
	if err != nil {
		return result{}, err
	}
	all := sightings(people, c.zone)
	old, odd := stale(all, c.now().Add(-c.lifetime))
	c.tellOdd(all, odd)
	answer, err := c.observe.askAll(ctx, old, control.Expire, true)
	res := result{nothing: answer.Published == 0, counts: map[string]int{
		"with_status": len(all), "no_date": odd, "stale": len(old), "cleared": answer.Published, "under_way": answer.UnderWay,
	}}
	c.metrics.StaleCleared(answer.Published)
	if answer.Published > 0 {
		c.log.Info("stale duty is cleared in AtHoc", "users", answer.Published, "stale", len(old), "under_way", answer.UnderWay,
			"with_status", len(all))
	}
	return res, err
}

// tellOdd reports duty statuses that are no date, once while their number does not change. They are left alone: who wrote them
// may have meant something.
func (c *cleaner) tellOdd(all []sighting, odd int) {
	if odd == *c.odd {
		return
	}
	*c.odd = odd
	if odd == 0 {
		c.log.Info("all duty statuses in AtHoc are dates again")
		return
	}
	c.log.Warn("some AtHoc users have a duty status that is no date and is left alone: mend them in AtHoc, and check "+
		"DUTY_STATUS_FIELD (the names are logged at level DEBUG)", "users", odd)
	for _, s := range all {
		if s.Odd {
			c.log.Debug("the duty status is no date", "user", s.User)
		}
	}
}
