package resolver

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// mappings handles chunks of mappings. It closes mapped when there is one.
func (r *resolver) mappings(mapped chan struct{}) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		ctx, batch := msg.Context(), bus.BatchFrom(msg.Context())
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, item := range batch.Items {
			var chunk event.MappingChunk
			if err := event.Decode(item.Data, &chunk); err != nil {
				item.Term(err.Error())
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
	inForce := r.directory.Load()
	err := r.memory.View(func(v memory.View) error {
		added, changed, removed = v.CompareMapping(mapping)
		return v.EachWorker(func(employee string, w latest.Worker) error {
			if remap(&w, inForce.users[employee], mapping[employee]) {
				o.change.Workers[employee] = w
			}
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
	inForce = newDirectory(snapshot, mapping)
	r.directory.Store(inForce)
	r.census.remap(inForce)
	var follows outcome
	if r.mayPublish() && !holding && len(r.dirty) > 0 { // otherwise they are sent when the hold ends
		if follows, err = r.resolveDirty(ctx, o.change.Workers, event.ReasonMapped); err != nil {
			return err
		}
	}
	r.log.Info("mapping of employee ids to AtHoc users taken over", "users", len(mapping),
		"added", added, "changed", changed, "removed", removed, "updates", len(follows.updates))
	return nil
}

// remap makes a worker one to be resolved if the new mapping names another user than the one before, or than the one that was sent
// last; it says whether it did. AtHoc's last answer then counts no longer: the user may have been another worker's meanwhile, and
// hold that worker's status.
func remap(w *latest.Worker, before, user string) bool {
	if user == "" {
		return false // nobody to send to
	}
	another := topology.NormalUsername(before) != topology.NormalUsername(user)
	elsewhere := w.Sent != nil && topology.NormalUsername(w.Sent.User) != topology.NormalUsername(user)
	if !another && !elsewhere && !w.Unmapped {
		return false
	}
	w.Dirty = true
	if another {
		w.Confirmed, w.Sending = nil, true
	}
	return true
}
