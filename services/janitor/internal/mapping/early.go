package mapping

// When so many unmapped workers have shown up that the mapping is refreshed before its time.

import (
	"context"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/state"
	"bobosync/shared/control"
	"bobosync/shared/pause"
)

const (
	// earlyGap is the shortest time between an attempt to refresh the mapping and an early refresh.
	earlyGap = time.Hour
	// An early refresh needs at least earlyMin new unmapped workers, and at least as many as earlyPercent of the
	// mapped employee ids.
	earlyMin     = 10
	earlyPercent = 1
)

// stats are the numbers and times that decide about an early refresh.
type stats struct {
	// refreshed is when the mapping in force was last refreshed. attempted is the end of the last attempt.
	refreshed, attempted time.Time
	// unmapped is the number of workers without an AtHoc user, and mapped the number of employee ids in the mapping,
	// both as the resolver counts them.
	unmapped, mapped int
}

// early reports whether so many workers without an AtHoc user have shown up since the last refresh that the mapping
// should be refreshed now. It also returns the state to keep for the next check.
func early(now time.Time, before state.Unmapped, c stats) (next state.Unmapped, due bool) {
	if !before.Refreshed.Equal(c.refreshed) || c.unmapped < before.Workers {
		return state.Unmapped{Refreshed: c.refreshed, Workers: c.unmapped}, false
	}

	enough := max(earlyMin, (c.mapped*earlyPercent+99)/100)
	tried := c.refreshed
	if c.attempted.After(tried) {
		tried = c.attempted
	}

	return before, c.unmapped-before.Workers >= enough && now.Sub(tried) >= earlyGap
}

// Watcher refreshes the mapping soon after many unmapped workers show up.
type Watcher struct {
	Job   *periodic.Job
	State *state.Store
	// Every is the time between two checks.
	Every time.Duration
	// Resolvers asks all resolvers for their state.
	Resolvers func(context.Context) ([]control.ResolverState, error)
	// Record loads the record of the mapping in force, and its revision.
	Record func(context.Context) (Record, uint64, error)
	// Begin begins the journal entry of the early refresh.
	Begin func(*periodic.Run) (string, error)
	Now   func() time.Time
	Log   *slog.Logger
}

// Run checks until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	return pause.Every(ctx, w.Every, func() error {
		if err := w.check(ctx); err != nil && ctx.Err() == nil {
			w.Log.Debug("it is not known how many workers are unmapped", "error", err)
		}
		return nil
	})
}

// check requests a refresh if one is due early.
func (w *Watcher) check(ctx context.Context) error {
	rec, _, err := w.Record(ctx)
	if err != nil || rec.Snapshot == "" {
		return err
	}

	states, err := w.Resolvers(ctx)
	if err != nil {
		return err
	}

	for _, s := range states {
		// A resolver that does not use this mapping yet would also count workers who are in it.
		if s.Recovered && s.Snapshot == rec.Snapshot {
			return w.judge(ctx, stats{
				refreshed: rec.Refreshed, attempted: w.Job.Attempted(), unmapped: s.Unmapped, mapped: s.Mapped,
			})
		}
	}

	return nil
}

func (w *Watcher) judge(ctx context.Context, c stats) error {
	before := w.State.Read().Unmapped
	next, due := early(w.Now(), before, c)
	if next != before {
		if err := w.State.Update(ctx, func(n *state.State) { n.Unmapped = next }); err != nil {
			return err
		}
	}

	if !due {
		return nil
	}

	w.Log.Info("many workers without an AtHoc user have shown up since the mapping was refreshed: it is refreshed now",
		"workers", c.unmapped, "workers_before", before.Workers)

	anyRun := func(*periodic.Run, bool) bool { return true }
	_, err := w.Job.Enqueue(&periodic.Run{Why: "many workers without an AtHoc user have shown up"}, anyRun, w.Begin)

	return err
}
