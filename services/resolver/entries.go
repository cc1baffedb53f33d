package resolver

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// followWait is how long to wait for further files that are said to be about to follow.
const followWait = 300 * time.Millisecond

// entries handles a batch of entries. What was learnt is saved before anything that follows from it is published: were it the
// other way round, a batch that fails in between and comes again in parts would send an older event after a newer one.
func (r *resolver) entries(msg *message.Message) error {
	ctx, batch := msg.Context(), bus.BatchFrom(msg.Context())
	r.mu.Lock()
	defer r.mu.Unlock()
	began := time.Now()
	read, learnt, err := r.learn(ctx, batch)
	if err != nil {
		return err
	}
	var follows outcome
	if r.mayPublish() && !r.holds(batch) && len(r.dirty) > 0 {
		if follows, err = r.resolveDirty(ctx, learnt.change.Workers, event.ReasonEvent); err != nil {
			return err
		}
	}
	took := time.Since(began)
	r.metrics.Batch(read, took)
	r.trace(batch, began, read)
	level := slog.LevelDebug
	if len(follows.updates)+len(follows.settled)+len(learnt.settled) > 0 {
		level = slog.LevelInfo
	}
	r.log.Log(ctx, level, "entries resolved", "entries", read, "messages", len(batch.Items), "updates", len(follows.updates),
		"rows_settled", follows.settled.count()+learnt.settled.count(), "held_workers", len(r.dirty), "milliseconds", took.Milliseconds())
	return nil
}

// trace enters a batch of entries into the traces of the files that it is made of.
func (r *resolver) trace(batch *bus.Batch, began time.Time, entries int) {
	if !r.seen.Tracing() {
		return
	}
	var files []string
	for _, item := range batch.Items {
		if item.Subject != topology.SubjectRecovered {
			files = append(files, item.Subject[strings.LastIndexByte(item.Subject, '.')+1:])
		}
	}
	r.seen.NoteFiles(files, telemetry.Work{
		Name: "resolve entries", Began: began, Ended: time.Now(), Counts: map[string]int{"entries": entries},
	})
}

// learn folds a batch of entries into the memory, and settles the rows that were beaten.
func (r *resolver) learn(ctx context.Context, batch *bus.Batch) (entries int, o outcome, err error) {
	ends, err := r.endsRecovery(ctx, batch)
	if err != nil {
		return 0, o, err
	}
	err = r.memory.View(func(v memory.View) error {
		f := newFold(v.Worker)
		for _, item := range batch.Items {
			if err := r.take(f, item); err != nil {
				if f.broken {
					return err
				}
				item.Term(err.Error())
			}
		}
		entries, o = f.entries, newOutcome(f.settled)
		for employee, w := range f.workers {
			o.change.Workers[employee] = *w
		}
		o.change.Recovered = ends
		return nil
	})
	if err != nil {
		return 0, o, fmt.Errorf("fold a batch of entries: %w", err)
	}
	if err := r.publish(ctx, o); err != nil {
		return 0, o, err
	}
	if o.change.Recovered {
		r.recovered = true
		r.census.recover()
		r.log.Info("the resolver's memory is complete", "workers", len(o.change.Workers))
	}
	return entries, o, nil
}

// resolveDirty publishes what follows from the latest events of all dirty workers. Known are some of them, as they are saved.
func (r *resolver) resolveDirty(ctx context.Context, known map[string]latest.Worker, reason event.Reason) (outcome, error) {
	o := newOutcome(rowBook{})
	for employee, w := range known {
		if w.Dirty {
			o.change.Workers[employee] = w
		}
	}
	if err := r.memory.View(func(v memory.View) error { return r.flush(v, &o, reason) }); err != nil {
		return o, err
	}
	return o, r.publish(ctx, o)
}

// take reads one message of the entries' stream into the fold.
func (r *resolver) take(f *fold, item *bus.Item) error {
	if item.Subject == topology.SubjectRecovered {
		return event.Decode(item.Data, &event.Recovered{}) // see endsRecovery
	}
	var m event.Entries
	if err := event.Decode(item.Data, &m); err != nil {
		return err
	}
	if err := f.add(m); err != nil {
		f.broken = true
		return err
	}
	if m.Last {
		delete(r.partial, m.File)
	} else {
		r.partial[m.File] = time.Now()
	}
	if r.following = (time.Time{}); m.More {
		r.following = time.Now().Add(followWait)
	}
	return nil
}

// holds says whether to read on before resolving: more entries are there or on their way, and the hold is not over.
func (r *resolver) holds(batch *bus.Batch) bool {
	r.waiting = batch.Items[len(batch.Items)-1].NumPending
	return r.readsOn() && (r.held.IsZero() || time.Since(r.held) < holdMost)
}

// readsOn says whether more entries are there or about to come.
func (r *resolver) readsOn() bool {
	maps.DeleteFunc(r.partial, func(_ string, seen time.Time) bool { return time.Since(seen) > holdMost })
	return len(r.partial) > 0 || r.waiting > 0 || time.Now().Before(r.following)
}
