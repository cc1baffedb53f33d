package intake

import (
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/shared/event"
)

// reducer reduces a batch of entries to each worker's latest event and the rows that were superseded. Its size grows
// with the workers, not with the entries. It is not safe for concurrent use.
type reducer struct {
	lookup func(employee string) (latest.Worker, error)
	// hold returns the hold that a row was put into when it was read before; nil if it was in none.
	hold    func(file string, row int) *guard.Group
	workers map[string]*latest.Worker
	settled roster.RowOutcomes
	entries int
	// broken: add has failed, and the reducer must be dropped.
	broken bool
}

func newReducer(
	lookup func(string) (latest.Worker, error), hold func(string, int) *guard.Group, settled roster.RowOutcomes,
) *reducer {
	return &reducer{lookup: lookup, hold: hold, workers: map[string]*latest.Worker{}, settled: settled}
}

// worker returns a worker as the batch has left the record so far.
func (r *reducer) worker(employee string) (*latest.Worker, error) {
	if w := r.workers[employee]; w != nil {
		return w, nil
	}

	w, err := r.lookup(employee)
	if err != nil {
		return nil, err
	}

	r.workers[employee] = &w

	return &w, nil
}

// add adds the entries of one message; stored is when the broker stored it. After an error the reducer must be dropped.
func (r *reducer) add(m event.Entries, stored time.Time) error {
	for _, e := range m.Entries {
		w, err := r.worker(e.Employee)
		if err != nil {
			return err
		}

		booking := latest.Event{Version: e.Version(m.Sequence), File: m.File, On: e.On, At: e.At, Feed: m.Feed}
		known := r.hold(m.File, e.Row)
		if known.Is(guard.Rejected) && !known.Kind.Clears() {
			outcome := event.Withheld
			if w.LeftHold(booking, known.ID) {
				outcome = event.Superseded
			} else {
				w.Withhold(booking, known.ID)
			}

			if !m.Settled {
				r.settled.Add(m.File, outcome, e.Row)
			}

			continue
		}

		prior, loser := w.Prior, w.Latest
		disposition, beaten := w.Take(booking, m.Settled)
		if disposition == latest.Older {
			loser = booking
		}

		if r.hold(loser.File, loser.Version.Row).Holds() {
			w.Prior = prior // an event that was held itself does not count either if its successor is rejected
		}

		if disposition == latest.Repeated {
			w.ReadAgain(stored)
		}

		if disposition != latest.Older {
			w.Recall(known)
		}

		if disposition == latest.Older && !m.Settled {
			r.settled.Add(m.File, event.Superseded, e.Row)
		}

		if beaten != nil {
			r.settled.Add(beaten.File, event.Superseded, beaten.Version.Row)
		}
	}

	r.entries += len(m.Entries)

	return nil
}
