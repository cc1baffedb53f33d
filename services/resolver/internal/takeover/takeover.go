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
	// session ends with the session. A message's context outlives it by what handlers get to finish, which is far too long here.
	session  context.Context
	js       jetstream.JetStream
	roster   *roster.Roster
	releaser *release.Releaser
	// reread makes ingest read the files again.
	reread func(context.Context) error
	// parts are the chunks of a mapping that is not complete yet, and applied is the last sequence of the one in force.
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

// Mapped is closed when there is a mapping.
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
	defer t.openIfMapped() // also if it is in force and what follows from it is not published yet

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
		return nil // it was redelivered, and a newer mapping is in force
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

// apply replaces the mapping by a whole new one, and sends the status of the workers whom it concerns. As with
// entries, it is saved first.
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

	if forgotten { // first: once the mapping is in force, nobody knows any more who is new in it
		if err := t.reread(ctx); err != nil {
			return err
		}
	}

	// A worker who is marked though the mapping is not stored is resolved again, with the previous mapping.
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

// compare adds the workers whom a new mapping concerns, as they are with it. A call that got no answer may still overwrite what is sent for
// the worker who has its user from now on, so that worker is resent as well when AtHoc cannot be working on it any more.
func compare(ctx context.Context, v store.View, before, next *mapping.Index, workers map[string]latest.Worker) error {
	late := map[string]int64{} // by worker, until when a call for the user may be under way

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

// usersInDoubt are the users for whom a call may be under way that got no answer: the one that the worker was mapped to, and the one that
// the last update went to.
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

// remap marks a worker unresolved if the new mapping names another user than the previous one, or than the last update went to, and
// reports whether it did. AtHoc's last answer then no longer counts: the user may have been another worker's meanwhile, and hold that
// worker's status.
func remap(w *latest.Worker, before, user string) bool {
	if user == "" || !w.Known() {
		return false // no user to send to, or nothing to send: all that is known is a call without an answer, or a rejected event
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
