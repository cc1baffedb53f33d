// Package intake reads entries: it keeps each worker's latest event, and settles the rows that were superseded.
package intake

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/metrics"
	"bobosync/services/resolver/internal/release"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// Intake handles batches of entries.
type Intake struct {
	Roster   *roster.Roster
	Releaser *release.Releaser
	// EndsRecovery reports whether a batch completes the state store.
	EndsRecovery func(context.Context, *bus.Batch) (bool, error)
	Metrics      *metrics.Set
	Telemetry    *telemetry.Telemetry
}

// Handle handles a batch of entries. What was learnt is saved before anything that follows from it is published.
// Otherwise a batch that fails in between and is redelivered in parts could lead to an older event being sent after a
// newer one.
func (in *Intake) Handle(msg *message.Message) error {
	ctx, batch := msg.Context(), bus.BatchFrom(msg.Context())

	in.Roster.Lock()
	defer in.Roster.Unlock()

	began := time.Now()

	read, learnt, err := in.learn(ctx, batch)
	if err != nil {
		return err
	}

	follows, err := in.Releaser.Release(ctx)
	if err != nil {
		return err
	}

	if in.Roster.CrowdedWithStrangers() {
		if err := in.Roster.Forget(ctx); err != nil {
			return err
		}
	}

	took := time.Since(began)
	in.Metrics.Batch(read, took)
	in.trace(batch, began, read)

	level := slog.LevelDebug
	if len(follows.Updates)+len(follows.Settled)+len(learnt.Settled) > 0 {
		level = slog.LevelInfo
	}

	in.Roster.Log.Log(ctx, level, "entries resolved", "entries", read, "messages", len(batch.Items), "updates", len(follows.Updates),
		"rows_settled", follows.Settled.Count()+learnt.Settled.Count(), "held_workers", len(in.Roster.Unresolved),
		"milliseconds", took.Milliseconds())

	return nil
}

// learn saves a batch of entries in the state store, and settles the rows that were superseded.
func (in *Intake) learn(ctx context.Context, batch *bus.Batch) (entries int, c roster.Changeset, err error) {
	c = roster.NewChangeset()
	if c.Change.Recovered, err = in.EndsRecovery(ctx, batch); err != nil {
		return 0, c, err
	}

	err = in.Roster.View(func(v store.View) error {
		lookup := func(employee string) (latest.Worker, error) { return in.Roster.Worker(v, employee) }

		r := newReducer(lookup, in.Roster.Holds.Groups.OfRow, c.Settled)
		for _, item := range batch.Items {
			if err := in.take(r, item); err != nil {
				if r.broken {
					return err
				}

				item.Term(err.Error())
			}
		}

		entries = r.entries
		for employee, w := range r.workers {
			if w.Unresolved && in.Roster.Mapping().User(employee) == "" {
				in.Roster.Resolve(&c, employee, *w, false) // there is nobody to send to, so nothing to wait for
			} else {
				c.Change.Workers[employee] = *w
			}
		}

		return nil
	})
	if err != nil {
		return 0, c, fmt.Errorf("reduce a batch of entries: %w", err)
	}

	last := batch.Items[len(batch.Items)-1]
	in.Releaser.Reached(last.Sequence, last.NumPending)

	if err := in.Roster.Commit(ctx, &c); err != nil {
		return 0, c, err
	}

	if c.Change.Recovered {
		in.Roster.Log.Info("the resolver's state store is complete", "workers", len(c.Change.Workers))
	}

	return entries, c, nil
}

// take reads one message of the entries' stream into the reducer.
func (in *Intake) take(r *reducer, item *bus.Item) error {
	if item.Subject == topology.SubjectRecovered {
		return event.Decode(item.Data, &event.Recovered{}) // see EndsRecovery
	}

	var m event.Entries
	if err := event.Decode(item.Data, &m); err != nil {
		return err
	}

	if err := r.add(m, item.Time); err != nil {
		r.broken = true
		return err
	}

	in.Releaser.Part(m.File, m.Last, m.Ahead)

	return nil
}

// trace adds a batch of entries to the traces of the files that the entries come from.
func (in *Intake) trace(batch *bus.Batch, began time.Time, entries int) {
	if !in.Telemetry.Tracing() {
		return
	}

	var files []string
	for _, item := range batch.Items {
		if item.Subject != topology.SubjectRecovered {
			files = append(files, item.Subject[strings.LastIndexByte(item.Subject, '.')+1:])
		}
	}

	in.Telemetry.NoteFiles(files, telemetry.Work{
		Name: "resolve entries", Began: began, Ended: time.Now(), Counts: map[string]int{"entries": entries},
	})
}
