package mapping

// When so many unmapped workers have shown up that the next refresh should not be waited for.

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
	// earlyGap is the least time between a try to refresh the mapping and an early one.
	earlyGap = time.Hour
	// earlyMin is the least number of unmapped workers that an early refresh is made for, earlyPercent that in percent of the
	// mapping.
	earlyMin     = 10
	earlyPercent = 1
)

// stats are what an early refresh depends on.
type stats struct {
	// refreshed is the end of the last refresh of the mapping in force, attempted that of the last try.
	refreshed, attempted time.Time
	// unmapped counts the workers without an AtHoc user, mapped the employee ids in the mapping, of which the resolver knows.
	unmapped, mapped int
}

// early reports whether so many workers without an AtHoc user have shown up since the last refresh that the next one should not be
// waited for, and what to remember for the next time.
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
	// Every is how often the resolver is asked.
	Every time.Duration
	// Resolvers asks all resolvers for their states.
	Resolvers func(context.Context) ([]control.ResolverState, error)
	// Record reads the note on the mapping in force.
	Record func(context.Context) (Record, uint64, error)
	// Begin makes the journal entry of the early refresh.
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

// check asks for a refresh if one is due early.
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
		// A resolver that does not use the mapping yet would count workers who are in it.
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
