// Package takeover puts a new mapping of employee ids to AtHoc users in force.
package takeover

import (
	"context"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/release"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/mapping"
	"bobosync/shared/topology"
)

// Takeover handles the chunks of mappings.
type Takeover struct {
	// session is a context that ends with the session. A message's context outlives the session by the time that
	// handlers get to finish, which is far too long here.
	session  context.Context
	js       jetstream.JetStream
	roster   *roster.Roster
	releaser *release.Releaser
	// reread makes ingest read the files again.
	reread func(context.Context) error
	// parts has the chunks of a mapping that is not complete yet; applied is the stream sequence of the last chunk of
	// the mapping in force.
	parts   mapping.Assembler
	applied uint64
	// mapped is closed when there is a mapping.
	mapped chan struct{}
	once   sync.Once
}

// New returns a takeover for the session that begins.
func New(
	session context.Context, js jetstream.JetStream, r *roster.Roster, releaser *release.Releaser, reread func(context.Context) error,
) *Takeover {
	t := &Takeover{session: session, js: js, roster: r, releaser: releaser, reread: reread, mapped: make(chan struct{})}
	t.openIfMapped()
	return t
}

// Mapped returns a channel that is closed when there is a mapping.
func (t *Takeover) Mapped() <-chan struct{} { return t.mapped }

func (t *Takeover) openIfMapped() {
	if t.roster.Mapping().Snapshot() != "" {
		t.once.Do(func() { close(t.mapped) })
	}
}

// Handle handles chunks of mappings.
func (t *Takeover) Handle(msg *message.Message) error {
	batch := bus.BatchFrom(msg.Context())

	ctx, cancel := context.WithCancel(msg.Context())
	defer cancel()
	defer context.AfterFunc(t.session, cancel)()

	t.roster.Lock()
	defer t.roster.Unlock()
	defer t.openIfMapped() // also if the mapping is in force, but what follows from it could not be published yet

	for _, item := range batch.Items {
		if err := t.take(ctx, item); err != nil {
			return err
		}
	}

	return nil
}

func (t *Takeover) take(ctx context.Context, item *bus.Item) error {
	var chunk event.MappingChunk
	if err := event.Decode(item.Data, &chunk); err != nil {
		item.Term(err.Error())
		return nil
	}

	if item.Sequence <= t.applied {
		return nil // it was redelivered, and this mapping or a newer one is in force
	}

	users := t.parts.Add(chunk)
	if users == nil && item.NumPending == 0 && chunk.Snapshot != t.roster.Mapping().Snapshot() {
		// The chunks before it may have been acknowledged by a session that has ended.
		snapshot, all, err := mapping.Latest(ctx, t.js, t.roster.Log)
		if err != nil {
			return err
		}

		if snapshot == chunk.Snapshot {
			users = all
		}
	}

	if users == nil {
		return nil
	}

	if err := t.apply(ctx, mapping.NewIndex(chunk.Snapshot, users), users); err != nil {
		return err
	}

	t.applied = item.Sequence

	return nil
}

// apply puts a complete new mapping in force, and sends the status of the workers whom it affects. As with entries,
// what was learnt is saved first.
func (t *Takeover) apply(ctx context.Context, next *mapping.Index, users map[string]string) error {
	r, before := t.roster, t.roster.Mapping()
	added, changed, removed := before.Difference(next)
	change := store.Change{Workers: map[string]latest.Worker{}}
	forgotten := false

	err := r.View(func(v store.View) (err error) {
		if forgotten, err = r.MayHaveForgotten(v, next); err != nil {
			return err
		}
		return compare(ctx, v, before, next, change.Workers)
	})
	if err != nil {
		return fmt.Errorf("compare the mapping with the workers: %w", err)
	}

	if forgotten { // first: once the mapping is in force, nothing shows any more who is new in it
		if err := t.reread(ctx); err != nil {
			return err
		}
	}

	// If the mapping then cannot be stored, the workers who are marked are resolved again with the previous mapping.
	if err := r.Save(ctx, change); err != nil {
		return err
	}

	if err := r.Store.ReplaceMapping(ctx, next.Snapshot(), users); err != nil {
		return err
	}

	r.SetMapping(next)

	follows, err := t.releaser.Release(ctx)
	if err != nil {
		return err
	}

	r.Log.Info("mapping of employee ids to AtHoc users taken over", "users", next.Len(),
		"added", added, "changed", changed, "removed", removed, "updates", len(follows.Updates))

	return nil
}

// compare adds to workers those whom a new mapping affects, as they are with it. A call that got no answer may still
// overwrite what is sent for the worker to whom its user now belongs. That worker is therefore resent as well, once
// AtHoc can no longer be working on the call.
func compare(ctx context.Context, v store.View, before, next *mapping.Index, workers map[string]latest.Worker) error {
	late := map[string]int64{} // by worker, until when (in Unix seconds) a call for the user may be under way

	err := v.EachWorker(ctx, func(employee string, w latest.Worker) error {
		for _, user := range usersInDoubt(w, before.User(employee)) {
			if now := next.Employee(user); now != "" && now != employee {
				late[now] = max(late[now], w.InDoubt)
			}
		}

		if remap(&w, before.User(employee), next.User(employee)) {
			workers[employee] = w
		}

		return nil
	})
	if err != nil {
		return err
	}

	for employee, until := range late {
		w, concerned := workers[employee]
		if !concerned {
			if w, err = v.Worker(employee); err != nil {
				return err
			}
		}

		if w.InDoubt < until {
			w.InDoubt = until
			workers[employee] = w
		}
	}

	return nil
}

// usersInDoubt returns the users for whom a call that got no answer may be under way: the user whom the worker was
// mapped to, and the user whom the last update went to.
func usersInDoubt(w latest.Worker, mapped string) []string {
	switch {
	case w.InDoubt == 0:
		return nil
	case w.Sent != nil:
		return []string{mapped, w.Sent.User}
	default:
		return []string{mapped}
	}
}

// remap marks a worker unresolved if the new mapping names another user than the previous one, or than the last update
// went to, and reports whether it did. If the user is another than in the previous mapping, AtHoc's last answer no
// longer counts: the user may have been another worker's meanwhile, and hold that worker's status.
func remap(w *latest.Worker, before, user string) bool {
	if user == "" || !w.Known() {
		return false // no user to send to; or nothing to send, since only a call without an answer or a rejected event is known
	}

	another := topology.NormalUsername(before) != topology.NormalUsername(user)
	elsewhere := w.Sent != nil && topology.NormalUsername(w.Sent.User) != topology.NormalUsername(user)
	if !another && !elsewhere && !w.Unmapped {
		return false
	}

	w.Unresolved = true
	if another {
		w.Confirmed, w.Sending = nil, true
	}

	return true
}
