package decisions

// This file keeps a copy of the guard's state in the broker, so that it survives the loss of the state store.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/topology"
)

const (
	// historyEvery is how often the counts are copied; holds are copied at once.
	historyEvery = time.Minute
	// keepAgain is the delay before a failed attempt is repeated.
	keepAgain = 5 * time.Second
)

// keeper writes the copy. Callers must hold the roster's lock.
type keeper struct {
	kv jetstream.KeyValue
	// next is when the counts should be copied next, and again is when a failed attempt may be repeated.
	next, again time.Time
}

// remembered is the head of the copy.
type remembered struct {
	guard.History
	// Groups are the ids of the holds.
	Groups []string `json:"groups,omitempty"`
}

// restore loads the guard's state from the state store or, if that has none, from the broker's copy.
func (k *keeper) restore(ctx context.Context, r *roster.Roster) error {
	h, groups, known, err := r.Store.Guard()
	if err != nil {
		return err
	}

	if !known {
		if h, groups, err = k.read(ctx); err != nil {
			return err
		}

		if !h.Since.IsZero() {
			change := store.GuardChange{Since: h.Since, Recent: h.Recent, Hours: h.Hours, Groups: groups}
			if err := r.Store.Save(ctx, store.Change{Guard: &change}); err != nil {
				return err
			}

			r.Log.Info("what the guard against mass changes knew is taken over from the broker", "since", h.Since, "holds", len(groups))
		}
	}

	r.Holds.Load(h, groups)

	return nil
}

// read reads the broker's copy. What it returns is empty if there is no copy.
func (k *keeper) read(ctx context.Context) (guard.History, []*guard.Group, error) {
	var head remembered
	if err := k.get(ctx, topology.KeyGuardHistory, &head); err != nil {
		return guard.History{}, nil, err
	}

	var groups []*guard.Group
	for _, id := range head.Groups {
		g := &guard.Group{}
		if err := k.get(ctx, topology.GuardHoldKey(id), g); err != nil {
			return guard.History{}, nil, err
		}

		if g.ID != "" {
			groups = append(groups, g)
		}
	}

	return head.History, groups, nil
}

func (k *keeper) get(ctx context.Context, key string, v any) error {
	entry, err := k.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}

	if err == nil {
		err = json.Unmarshal(entry.Value(), v)
	}

	if err != nil {
		return fmt.Errorf("read %s in bucket %s: %w", key, k.kv.Bucket(), err)
	}

	return nil
}

func (k *keeper) put(ctx context.Context, key string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = k.kv.Put(ctx, key, data)
	}

	if err != nil {
		return fmt.Errorf("write %s in bucket %s: %w", key, k.kv.Bucket(), err)
	}

	return nil
}

// keep writes what the copy lacks.
func (k *keeper) keep(ctx context.Context, b *hold.State, now time.Time) error {
	groups, behind := b.Unsynced()
	if now.Before(k.again) || len(groups) == 0 && (!behind || now.Before(k.next)) {
		return nil
	}

	k.again = now.Add(keepAgain)
	var tooLarge error
	for _, g := range groups {
		switch err := k.put(ctx, topology.GuardHoldKey(g.ID), g); {
		case errors.Is(err, nats.ErrMaxPayload):
			tooLarge = err // the others and the counts are copied all the same
		case err != nil:
			return err
		}
	}

	head := remembered{History: b.Guard.History()}
	for _, g := range b.Groups.All() {
		head.Groups = append(head.Groups, g.ID)
	}

	if err := k.put(ctx, topology.KeyGuardHistory, head); err != nil {
		return err
	}

	if tooLarge != nil {
		return tooLarge
	}

	b.Synced()

	k.next, k.again = now.Add(historyEvery), time.Time{}

	return nil
}

// forget drops a hold from the copy.
func (k *keeper) forget(ctx context.Context, id string) error {
	if err := k.kv.Delete(ctx, topology.GuardHoldKey(id)); err != nil {
		return fmt.Errorf("forget a hold in bucket %s: %w", k.kv.Bucket(), err)
	}
	return nil
}
