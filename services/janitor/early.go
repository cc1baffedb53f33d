package janitor

import (
	"context"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/duty"
	"bobosync/shared/control"
)

const (
	// earlyGap is the least time between a try to refresh the mapping and an early one.
	earlyGap = time.Hour
	// earlyLeast is the least number of unmapped workers that an early refresh is made for, earlyPercent that in percent of the
	// mapping.
	earlyLeast   = 10
	earlyPercent = 1
)

// unmappedNote is how many workers without an AtHoc user there were at least since a refresh.
type unmappedNote struct {
	// Refreshed is the end of that refresh.
	Refreshed time.Time `json:"refreshed"`
	Workers   int       `json:"workers"`
}

// census is what there is to know for an early refresh.
type census struct {
	// refreshed is the end of the last refresh of the mapping in force, attempted that of the last try.
	refreshed, attempted time.Time
	// unmapped counts the workers without an AtHoc user, mapped the employee ids in the mapping, of which the resolver knows.
	unmapped, mapped int
}

// early says whether so many workers without an AtHoc user have shown up since the last refresh that the next one should not be
// waited for, and what to remember for the next time.
func early(now time.Time, before unmappedNote, c census) (next unmappedNote, due bool) {
	if !before.Refreshed.Equal(c.refreshed) || c.unmapped < before.Workers {
		return unmappedNote{Refreshed: c.refreshed, Workers: c.unmapped}, false
	}
	enough := max(earlyLeast, (c.mapped*earlyPercent+99)/100)
	tried := c.refreshed
	if c.attempted.After(tried) {
		tried = c.attempted
	}
	return before, c.unmapped-before.Workers >= enough && now.Sub(tried) >= earlyGap
}

// watcher has the mapping refreshed soon after many unmapped workers show up.
type watcher struct {
	mapping *duty.Duty
	book    *book
	// every is how often the resolver is asked.
	every time.Duration
	// resolvers asks all resolvers for their states.
	resolvers func(context.Context) ([]control.ResolverState, error)
	// record reads the note on the mapping in force.
	record func(context.Context) (record, uint64, error)
	// enter begins the journal entry of the early refresh.
	enter func(o *duty.Order) (string, error)
	now   func() time.Time
	log   *slog.Logger
}

// run looks until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.log.Debug("it cannot be told how many workers are unmapped", "error", err)
		}
	}
}

// look asks for a refresh if one is due early.
func (w *watcher) look(ctx context.Context) error {
	rec, _, err := w.record(ctx)
	if err != nil || rec.Snapshot == "" {
		return err
	}
	states, err := w.resolvers(ctx)
	if err != nil {
		return err
	}
	for _, s := range states {
		// A resolver that does not use the mapping yet would count workers who are in it.
		if s.Recovered && s.Snapshot == rec.Snapshot {
			return w.judge(ctx, census{
				refreshed: rec.Refreshed, attempted: w.mapping.Attempted(), unmapped: s.Unmapped, mapped: s.Mapped,
			})
		}
	}
	return nil
}

func (w *watcher) judge(ctx context.Context, c census) error {
	before := w.book.read().Unmapped
	next, due := early(w.now(), before, c)
	if next != before {
		if err := w.book.change(ctx, func(n *notes) { n.Unmapped = next }); err != nil {
			return err
		}
	}
	if !due {
		return nil
	}
	w.log.Info("many workers without an AtHoc user have shown up since the mapping was refreshed: it is refreshed now",
		"workers", c.unmapped, "workers_before", before.Workers)
	same := func(*duty.Order, bool) bool { return true }
	_, err := w.mapping.Ask(&duty.Order{Why: "many workers without an AtHoc user have shown up"}, same, w.enter)
	return err
}
