package mapping

// How the mapping is fetched, compared with the one in force, published and recorded.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/mapping"
	"bobosync/shared/topology"
)

// Refresher fetches the mapping and publishes it.
type Refresher struct {
	JS     jetstream.JetStream
	Record state.Entry
	State  *state.Store
	Pub    *bus.Publisher
	// Fetch reads the users. If its error is a *users.Short, some users may be missing.
	Fetch func(context.Context) ([]users.Person, error)
	// KeepFindings stores the findings of each refresh.
	KeepFindings func(journal.Findings) error
	// Refreshed is called after each refresh that succeeded.
	Refreshed func(context.Context)
	// MaxChanged is the percentage of employee ids that may lose their user, or get another one, without an approval.
	MaxChanged int
	// CheckLeader returns an error unless this process leads at this moment.
	CheckLeader func() error
	Now         func() time.Time
	Log         *slog.Logger

	// difference is what the mapping that was last held back would change, and differs is the hash of that mapping.
	// They are kept only in memory, since difference names workers. mu guards both.
	mu         sync.Mutex
	differs    string
	difference control.MappingDifference
}

// InForce returns when the mapping that the broker holds was last refreshed, or the zero time if it holds none.
func (r *Refresher) InForce(ctx context.Context) (time.Time, error) {
	rec, _, err := r.LoadRecord(ctx)
	if err != nil {
		return time.Time{}, err
	}

	stream, err := r.stream(ctx)
	if err != nil || !rec.heldBy(stream.CachedInfo()) {
		return time.Time{}, err
	}

	return rec.Refreshed, nil
}

// Empty reports whether the broker holds no mapping at all, not even a part of one.
func (r *Refresher) Empty(ctx context.Context) (bool, error) {
	stream, err := r.stream(ctx)
	if err != nil {
		return false, err
	}

	return stream.CachedInfo().State.Msgs == 0, nil
}

// Refresh fetches the users, and publishes their mapping if it differs from the one that the broker holds. If Refresh
// fails, or the guard holds the mapping back, the mapping in force stays as it is.
func (r *Refresher) Refresh(ctx context.Context, _ *periodic.Run) (periodic.Result, error) {
	began := time.Now()

	people, err := r.Fetch(ctx)
	short, some := errors.AsType[*users.Short](err)
	if err != nil && !some {
		return periodic.Result{}, err
	}

	taken := r.Now()
	mapping, found := build(people)
	r.report(found)

	before, err := r.Current(ctx)
	if err != nil {
		return periodic.Result{}, err
	}

	c, hash := compare(before, mapping), hashOf(mapping)
	if before == nil {
		rec, _, err := r.LoadRecord(ctx)
		if err != nil {
			return periodic.Result{}, err
		}

		c = c.sinceLost(rec.Users)
	}

	res := periodic.Result{Counts: map[string]int{
		"users": found.Users, "mapped": c.after, "without_id": found.Without, "ambiguous_ids": len(found.Ambiguous),
		"added": c.added, "changed": c.changed, "removed": c.removed,
	}}
	same := before != nil && c.added+c.changed+c.removed == 0
	if reason := cmp.Or(c.guard(r.MaxChanged), c.guardShort(short)); reason != "" && !same {
		h := r.State.Read().Held
		if !approves(h, hash) {
			r.keepDifference(hash, before, mapping)
			return r.hold(ctx, res, newHeld(hash, taken, c, reason), found)
		}

		res.Text = fmt.Sprintf("approved by %s: %s", h.ApprovedBy, reason)
	}

	published, err := r.store(ctx, mapping, taken)
	if err != nil {
		return res, err
	}

	if err := r.release(ctx); err != nil {
		return res, err
	}

	r.Refreshed(ctx)
	r.Log.Info("mapping of employee ids to AtHoc users refreshed", "published", published, "users", found.Users,
		"mapped", c.after, "added", c.added, "changed", c.changed, "removed", c.removed, "without_id", found.Without,
		"ambiguous_ids", len(found.Ambiguous), "milliseconds", time.Since(began).Milliseconds())

	return res, nil
}

func newHeld(hash string, taken time.Time, c change, reason string) state.Held {
	return state.Held{Hash: hash, HeldMapping: control.HeldMapping{
		ID: state.HeldID(hash), Since: taken.UTC(), Seen: taken.UTC(), Before: c.before, After: c.after, Added: c.added,
		Changed: c.changed, Removed: c.removed, Reason: reason,
	}}
}

// hold records that a mapping waits for an approval. It raises the alarm once for each content.
func (r *Refresher) hold(ctx context.Context, res periodic.Result, h state.Held, found journal.Findings) (periodic.Result, error) {
	known := false

	err := r.State.Update(ctx, func(n *state.State) {
		now := h
		if known = n.Held != nil && n.Held.Hash == h.Hash; known {
			now = *n.Held
			now.Seen = h.Seen
		}

		n.Held = &now
	})
	if err != nil {
		return res, err
	}

	if !known {
		r.Log.Error("the new mapping of employee ids to AtHoc users is held back, the one in force stays: look into AtHoc, and at "+
			"COLLAR_ID_FIELD, ORG_CODE and which users the account may see; if it is right, approve it with `bobosync mapping approve`",
			"held", h.ID, "reason", h.Reason, "mapped_now", h.Before, "mapped_then", h.After, "removed", h.Removed, "changed", h.Changed,
			"users", found.Users, "without_id", found.Without)
	}

	res.Outcome, res.Text = control.OutcomeHeld, h.Reason

	return res, fmt.Errorf("%w (%s): %s", ErrHeld, h.ID, h.Reason)
}

// release forgets the mapping that was held back, because a mapping has been put into force.
func (r *Refresher) release(ctx context.Context) error {
	r.keepDifference("", nil, nil)

	if r.State.Read().Held == nil {
		return nil
	}

	err := r.State.Update(ctx, func(n *state.State) { n.Held = nil })
	if err == nil {
		r.Log.Info("no mapping is held back any more")
	}

	return err
}

// Current reads the mapping in force from its stream. It is nil if the stream holds no whole mapping.
func (r *Refresher) Current(ctx context.Context) (map[string]string, error) {
	_, users, err := mapping.Latest(ctx, r.JS, r.Log)
	return users, err
}

// report stores the findings, and logs what an operator may have to fix in AtHoc.
func (r *Refresher) report(f journal.Findings) {
	if err := r.KeepFindings(f); err != nil {
		r.Log.Warn("what was found of AtHoc's users cannot be kept for operators", "error", err)
	}

	if len(f.Ambiguous) > 0 {
		r.Log.Warn("several AtHoc users have the same employee id; none of them gets its duty status: correct them in AtHoc "+
			"(the names are logged at level DEBUG)", "ids", len(f.Ambiguous))
	}

	for _, id := range slices.Sorted(maps.Keys(f.Ambiguous)) {
		r.Log.Debug("employee id of several users", "employee", id, "users", f.Ambiguous[id])
	}

	if len(f.Alike) > 0 {
		r.Log.Warn("some employee ids in AtHoc differ only in blanks or leading zeros; they count as different "+
			"(the ids are logged at level DEBUG)", "groups", len(f.Alike))
	}

	for _, ids := range f.Alike {
		r.Log.Debug("employee ids that differ only in blanks or leading zeros", "employees", ids)
	}

	if f.Unusable > 0 {
		r.Log.Warn("some AtHoc users have no username, or a username or an employee id that is too long or has invisible characters; they are left out",
			"users", f.Unusable)
	}
}

// store puts a mapping into force and records it. Published is false if it was already in force.
func (r *Refresher) store(ctx context.Context, mapping map[string]string, taken time.Time) (published bool, err error) {
	rec, revision, err := r.LoadRecord(ctx)
	if err != nil {
		return false, err
	}

	stream, err := r.stream(ctx)
	if err != nil {
		return false, err
	}

	if err := r.CheckLeader(); err != nil {
		return false, fmt.Errorf("publish the mapping: %w", err)
	}

	if hash := hashOf(mapping); hash != rec.Hash || !rec.heldBy(stream.CachedInfo()) {
		rec = Record{Taken: taken.UTC(), Hash: hash, Users: len(mapping), Stream: identity(stream.CachedInfo())}
		if err := r.publish(ctx, &rec, mapping); err != nil {
			return false, err
		}

		published = true
	}

	rec.V, rec.Refreshed = recordVersion, taken.UTC()
	if err := r.save(ctx, rec, revision); err != nil {
		return published, err
	}

	r.purge(ctx, stream, rec.First)

	return published, nil
}

// publish stores the mapping as one atomic batch, so that no reader ever sees a part of it.
func (r *Refresher) publish(ctx context.Context, rec *Record, mapping map[string]string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("name the mapping: %w", err)
	}

	rec.Snapshot = id.String()

	chunks := chunksOf(mapping, rec.Snapshot, rec.Taken)
	if len(chunks) > bus.MaxBatch {
		return fmt.Errorf("publish the mapping: %d messages are more than fit into one batch", len(chunks))
	}

	msgs := make([]*message.Message, len(chunks))
	for i := range chunks {
		msgs[i] = bus.NewMessage(topology.SubjectMapping, event.Encode(&chunks[i]))
	}

	last, err := r.Pub.PublishBatch(ctx, msgs...)
	if err != nil {
		return fmt.Errorf("publish the mapping: %w", err)
	}

	rec.Last = last
	rec.First = rec.Last - uint64(len(chunks)) + 1

	return nil
}

// purge deletes older mappings. A failure does no harm: readers use the latest mapping, and the next refresh purges
// again.
func (r *Refresher) purge(ctx context.Context, stream jetstream.Stream, first uint64) {
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(first)); err != nil && ctx.Err() == nil {
		r.Log.Warn("older mappings could not be removed from the broker; it is tried again at the next refresh", "error", err)
	}
}

func (r *Refresher) stream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := r.JS.Stream(ctx, topology.StreamMapping)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", topology.StreamMapping, err)
	}

	return stream, nil
}
