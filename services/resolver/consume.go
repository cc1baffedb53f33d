package resolver

import (
	"context"
	"errors"
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
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// The most messages in a batch. A message of entries holds up to 500 of them, so a batch holds up to 50,000 in some
// 4 MB; reading on beyond that is the hold's matter.
const (
	entriesBatch = 100
	otherBatch   = 200
)

// answerLinger lets the answers of several calls to AtHoc be saved at once: nobody waits for that.
const answerLinger = 100 * time.Millisecond

// clockLook is how often it is looked for what has fallen due.
const clockLook = 100 * time.Millisecond

// followWait is how long to wait for further files that are said to be about to follow.
const followWait = 300 * time.Millisecond

// consume runs the handlers until ctx ends.
func (r *resolver) consume(ctx context.Context, conn *bus.Conn, lost func(error)) error {
	router, err := bus.NewRouter(r.log, session.CloseTimeout+5*time.Second)
	if err != nil {
		return err
	}
	mapped := make(chan struct{})
	snapshot, err := r.memory.Snapshot()
	if err != nil {
		return err
	}
	if snapshot != "" {
		close(mapped)
	}
	add := func(topic, stream, consumer string, most int, linger time.Duration, gate <-chan struct{}, handle message.NoPublishHandlerFunc) error {
		open := bus.PullSource(conn, bus.PullConfig{
			Resolve: func(context.Context, string) (bus.ConsumerRef, error) {
				return bus.ConsumerRef{Stream: stream, Name: consumer}, nil
			},
			MaxItems: most, Linger: linger, OnLost: lost, Logger: r.log,
		})
		sub, err := bus.NewBatchSubscriber(conn, bus.BatchConfig{
			NewSource: func(ctx context.Context, topic string) (bus.Source, error) {
				source, err := open(ctx, topic)
				return gated{source, gate}, err
			},
			CloseTimeout: session.CloseTimeout, OnLost: lost, Logger: r.log,
		})
		if err != nil {
			return err
		}
		router.AddConsumerHandler(topic, topic, sub, handle)
		return nil
	}
	open := make(chan struct{})
	close(open)
	if err := add("mapping", topology.StreamMapping, topology.ConsumerResolverMapping, otherBatch, 0, open, r.mappings(mapped)); err != nil {
		return err
	}
	if err := add("answers", topology.StreamAcks, topology.ConsumerResolverAcks, otherBatch, answerLinger, open, r.answers); err != nil {
		return err
	}
	// Without any mapping nobody could be told from an unknown worker, and rows would be settled as unmapped: entries wait.
	if err := add("entries", topology.StreamEntries, topology.ConsumerResolverEntries, entriesBatch, 0, mapped, r.entries); err != nil {
		return err
	}
	if snapshot == "" {
		r.log.Info("waiting for the first mapping of employee ids to AtHoc users; entries are read when it comes")
	}
	return r.runHandlers(ctx, router, conn)
}

// runHandlers runs the router, and beside it the watch on the clock.
func (r *resolver) runHandlers(ctx context.Context, router *message.Router, conn *bus.Conn) error {
	watch, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.watchClock(watch, conn)
	}()
	err := session.Handle(ctx, router)
	stop()
	<-done
	return err
}

// gated is a source that waits for its gate.
type gated struct {
	bus.Source
	gate <-chan struct{}
}

// Fetch implements bus.Source.
func (g gated) Fetch(ctx context.Context) (*bus.Batch, error) {
	select {
	case <-g.gate:
		return g.Source.Fetch(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// watchClock does what falls due without a message: it ends holds, repeats what is unsure and goes on with
// replays.
func (r *resolver) watchClock(ctx context.Context, conn *bus.Conn) {
	ticker := time.NewTicker(clockLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := errors.Join(r.endHold(ctx), r.repeatUnsure(ctx), r.goOnReplaying(ctx, conn.JS)); err != nil && ctx.Err() == nil {
			r.log.Warn("what has fallen due could not be published, trying again", "error", err)
		}
	}
}

// repeatUnsure sends the last status once more of the workers for whom AtHoc may have worked on a call that was given up.
func (r *resolver) repeatUnsure(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.recovered || len(r.unsure) == 0 {
		return nil
	}
	o := newOutcome(rowBook{})
	now := r.now()
	err := r.memory.View(func(v memory.View) error {
		for employee, until := range r.unsure {
			if now.Unix() < until {
				continue
			}
			w, err := v.Worker(employee)
			if err != nil {
				return err
			}
			if w.Dirty {
				continue // what was sent last may be newer than the memory says; it is resolved first
			}
			if u := w.Repeat(employee, now); u != nil {
				o.updates = append(o.updates, *u)
			}
			o.change.Workers[employee] = w
		}
		return nil
	})
	if err != nil || len(o.change.Workers) == 0 {
		return err
	}
	o.sort()
	if err := r.publish(ctx, o); err != nil {
		return err
	}
	if len(o.updates) > 0 {
		r.log.Info("statuses are sent once more, since AtHoc may have been late with an older one", "users", len(o.updates))
	}
	return nil
}

// endHold ends a hold that no further batch ends: the rest of a file may not come for long.
func (r *resolver) endHold(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.recovered || r.held.IsZero() || r.readsOn() && time.Since(r.held) < holdMost {
		return nil
	}
	o, err := r.resolveDirty(ctx, nil, event.ReasonEvent)
	if err != nil {
		return err
	}
	r.log.Info("held entries resolved", "updates", len(o.updates), "rows_settled", o.settled.count(), "held_workers", len(r.dirty))
	return nil
}

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
	if r.recovered && !r.holds(batch) && len(r.dirty) > 0 {
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
	var dead deadItems
	recovered := r.recovered
	err = r.memory.View(func(v memory.View) error {
		f := newFold(v.Worker)
		for _, item := range batch.Items {
			done, err := r.take(f, item)
			if err != nil {
				if f.broken {
					return err
				}
				dead.add(item, err)
				continue
			}
			recovered = recovered || done
		}
		entries, o = f.entries, newOutcome(f.settled)
		for employee, w := range f.workers {
			o.change.Workers[employee] = *w
		}
		o.change.Recovered = recovered && !r.recovered
		return nil
	})
	if err != nil {
		return 0, o, fmt.Errorf("fold a batch of entries: %w", err)
	}
	if err := dead.bury(ctx, r.out); err != nil {
		return 0, o, err
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

// take reads one message of the entries' stream into the fold. Done says that it closes the recovery of this memory.
func (r *resolver) take(f *fold, item *bus.Item) (done bool, err error) {
	if item.Subject == topology.SubjectRecovered {
		var m event.Recovered
		if err := event.Decode(item.Data, &m); err != nil {
			return false, err
		}
		return m.Memory == r.memory.DB().Memory(), nil
	}
	var m event.Entries
	if err := event.Decode(item.Data, &m); err != nil {
		return false, err
	}
	if err := f.add(m); err != nil {
		f.broken = true
		return false, err
	}
	if m.Last {
		delete(r.partial, m.File)
	} else {
		r.partial[m.File] = time.Now()
	}
	if r.following = (time.Time{}); m.More {
		r.following = time.Now().Add(followWait)
	}
	return false, nil
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

// deadItems are messages that cannot be read.
type deadItems struct {
	items   []*bus.Item
	letters []event.DeadLetter
}

func (d *deadItems) add(item *bus.Item, reason error) {
	d.items = append(d.items, item)
	d.letters = append(d.letters, event.DeadLetter{
		Service: name, Reason: reason.Error(), Subject: item.Subject, Payload: item.Data,
		Attempts: item.NumDelivered, First: item.Time, Died: time.Now().UTC(),
	})
}

// bury stores the dead letters and only then lets go of the messages.
func (d *deadItems) bury(ctx context.Context, out *outbox) error {
	for i := range d.letters {
		if err := out.dead(ctx, d.letters[i]); err != nil {
			return err
		}
	}
	for _, item := range d.items {
		item.Term("not readable")
	}
	return nil
}

// answers handles what AtHoc said to the updates.
func (r *resolver) answers(msg *message.Message) error {
	ctx, batch := msg.Context(), bus.BatchFrom(msg.Context())
	r.mu.Lock()
	defer r.mu.Unlock()
	change := memory.Change{Workers: map[string]latest.Worker{}}
	var dead deadItems
	err := r.memory.View(func(v memory.View) error {
		f := newFold(v.Worker)
		for _, item := range batch.Items {
			var m event.Acks
			if err := event.Decode(item.Data, &m); err != nil {
				dead.add(item, err)
				continue
			}
			for _, a := range m.Answers {
				if a.Employee == "" {
					r.answeredForeign(a)
				}
				for _, employee := range r.concerned(a) {
					w, err := f.worker(employee)
					if err != nil {
						return err
					}
					if w.Answer(a, r.rules) {
						change.Workers[employee] = *w
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read AtHoc's answers: %w", err)
	}
	if err := dead.bury(ctx, r.out); err != nil {
		return err
	}
	if len(change.Workers) == 0 {
		return nil
	}
	if err := r.memory.Save(change); err != nil {
		return err
	}
	for employee, w := range change.Workers {
		r.note(employee, w)
	}
	return nil
}

// concerned returns the workers whom an answer of AtHoc's is about. A call that was given up may still be at work on the user,
// so it is about the worker who is mapped to the user now as well, though it was sent for nobody, or for somebody else. Such a
// worker may be unknown so far: if there is an event soon, it is sent once more, like everybody's.
func (r *resolver) concerned(a event.Answer) []string {
	var out []string
	if a.Employee != "" {
		out = append(out, a.Employee)
	}
	if a.Outcome == event.Pending {
		if now := r.directory.Load().employee(a.User); now != "" && now != a.Employee {
			out = append(out, now)
		}
	}
	return out
}

// mappings handles chunks of mappings. It closes mapped when there is one.
func (r *resolver) mappings(mapped chan struct{}) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		ctx, batch := msg.Context(), bus.BatchFrom(msg.Context())
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, item := range batch.Items {
			var chunk event.MappingChunk
			if err := event.Decode(item.Data, &chunk); err != nil {
				var dead deadItems
				dead.add(item, err)
				if err := dead.bury(ctx, r.out); err != nil {
					return err
				}
				continue
			}
			mapping, err := r.memory.Stage(chunk)
			if err != nil {
				return err
			}
			if mapping == nil {
				continue
			}
			err = r.applyMapping(ctx, chunk.Snapshot, mapping)
			if r.directory.Load().snapshot != "" { // it may be saved though what follows from it is not published yet
				openGate(mapped)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// openGate opens a gate that only this goroutine opens.
func openGate(gate chan struct{}) {
	select {
	case <-gate:
	default:
		close(gate)
	}
}

// applyMapping puts a whole mapping in the place of the one before, and sends the status of the workers whom it concerns. As with
// entries, it is saved first.
func (r *resolver) applyMapping(ctx context.Context, snapshot string, mapping map[string]string) error {
	o := newOutcome(rowBook{})
	o.change.Mapping, o.change.Snapshot = mapping, snapshot
	var added, changed, removed int
	err := r.memory.View(func(v memory.View) error {
		added, changed, removed = v.CompareMapping(mapping)
		return v.EachWorker(func(employee string, w latest.Worker) error {
			if !concerns(w, mapping[employee]) {
				return nil
			}
			w.Dirty = true
			o.change.Workers[employee] = w
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("compare the mapping with the workers: %w", err)
	}
	holding := !r.held.IsZero()
	if err := r.publish(ctx, o); err != nil {
		return err
	}
	inForce := newDirectory(snapshot, mapping)
	r.directory.Store(inForce)
	r.census.remap(inForce)
	var follows outcome
	if r.recovered && !holding && len(r.dirty) > 0 { // otherwise they are sent when the hold ends
		if follows, err = r.resolveDirty(ctx, o.change.Workers, event.ReasonMapped); err != nil {
			return err
		}
	}
	r.log.Info("mapping of employee ids to AtHoc users taken over", "users", len(mapping),
		"added", added, "changed", changed, "removed", removed, "updates", len(follows.updates))
	return nil
}

// concerns says whether a worker has to be sent because of the user that the new mapping names.
func concerns(w latest.Worker, user string) bool {
	switch {
	case user == "" || w.Dirty:
		return false // nobody to send to; or it is sent with the entries
	case w.Unmapped:
		return true
	default:
		return w.Sent != nil && topology.NormalUsername(w.Sent.User) != topology.NormalUsername(user)
	}
}
