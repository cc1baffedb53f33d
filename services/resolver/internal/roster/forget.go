package roster

// This file keeps strangers from filling the store: workers who have no AtHoc user, and of whom nothing but the latest
// event is known. They may be invented, since a row with any employee id is a valid one.

import (
	"context"
	"slices"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/mapping"
)

// forgetPart is how many workers are forgotten in one transaction.
const forgetPart = 5_000

// CrowdedWithStrangers reports whether there are so many strangers that some have to be forgotten.
func (r *Roster) CrowdedWithStrangers() bool { return r.Stats.Strangers() > r.MaxStrangers }

// Forget drops strangers: those whose event is too old to be sent ever, and the oldest ones if there are too many. If
// one of the latter gets a user later, the files have to be read again; see MayHaveForgotten.
func (r *Roster) Forget(ctx context.Context) error {
	var times []int64
	err := r.View(func(v store.View) error {
		if r.Stats.Strangers() == 0 && v.Workers() <= r.MaxStrangers {
			return nil // not worth reading all workers
		}

		return v.EachWorker(ctx, func(_ string, w latest.Worker) error {
			if w.Stranger() {
				times = append(times, w.Latest.At)
			}
			return nil
		})
	})
	if err != nil || len(times) == 0 {
		return err
	}

	slices.Sort(times)

	old := r.Rules.StaleBefore(r.Now())
	stale, _ := slices.BinarySearch(times, old)
	surplus := 0
	if len(times) > r.MaxStrangers {
		surplus = len(times) - r.MaxStrangers*3/4 // leave some room, so that this is not done for each new stranger
	}

	forget := max(stale, surplus)
	if forget == 0 {
		return nil
	}

	last := times[forget-1]
	first, _ := slices.BinarySearch(times, last)

	return r.forgetUntil(ctx, last, forget-first, old)
}

// forgetUntil drops the strangers whose event is older than last, and ofLast of those whose event is of that very
// second. Events older than old never matter again. All times are in Unix seconds.
func (r *Roster) forgetUntil(ctx context.Context, last int64, ofLast int, old int64) error {
	newest, err := r.Store.Forgotten()
	if err != nil {
		return err
	}

	if last >= old {
		newest = max(newest, last)
	}

	for from := ""; ; {
		var part []string
		err := r.View(func(v store.View) error {
			return v.EachWorkerFrom(ctx, from, func(employee string, w latest.Worker) (bool, error) {
				switch {
				case !w.Stranger() || w.Latest.At > last || w.Latest.At == last && ofLast == 0:
					return true, nil
				case w.Latest.At == last:
					ofLast--
				}

				part = append(part, employee)

				return len(part) < forgetPart, nil
			})
		})
		if err != nil || len(part) == 0 {
			return err
		}

		from = part[len(part)-1]
		if err := r.Store.Forget(part, newest); err != nil {
			return err
		}

		r.Stats.Forget(part)
		r.Log.Warn("workers without an AtHoc user are dropped, the oldest first: are their employee ids real?",
			"workers", len(part), "kept", r.Stats.Strangers())
	}
}

// MayHaveForgotten reports whether a worker to whom next gives a first user may have been forgotten while the worker's
// event still mattered.
func (r *Roster) MayHaveForgotten(v store.View, next *mapping.Index) (bool, error) {
	newest, err := r.Store.Forgotten()
	if err != nil || newest == 0 || newest < r.Rules.StaleBefore(r.Now()) {
		return false, err
	}

	for _, employee := range r.Mapping().Added(next) {
		w, err := v.Worker(employee)
		if err != nil || !w.Known() {
			return err == nil, err
		}
	}

	return false, nil
}
