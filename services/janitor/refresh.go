package janitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/janitor/internal/directory"
	"bobosync/services/janitor/internal/duty"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// recordKey is where the janitor notes, in the state bucket, what it published last.
const recordKey = "janitor.mapping"

// recordVersion is the version of the note's form. A note of another version counts as none.
const recordVersion = 1

// record is the note about the mapping that is in force.
type record struct {
	V int `json:"v"`
	// Snapshot names the refresh whose mapping was published, Taken is when that was complete.
	Snapshot string    `json:"snapshot"`
	Taken    time.Time `json:"taken"`
	// Refreshed is the end of the last refresh, also of one that found nothing new.
	Refreshed time.Time `json:"refreshed"`
	// Hash names the mapping's content; see hashOf.
	Hash string `json:"hash"`
	// Users is the number of employee ids that are mapped.
	Users int `json:"users"`
	// Stream is the identity of the stream that holds the snapshot, First and Last are its sequences there.
	Stream string `json:"stream"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
}

// heldBy says whether a stream holds the snapshot whole, and nothing newer.
func (r record) heldBy(info *jetstream.StreamInfo) bool {
	s := info.State
	return r.Snapshot != "" && identity(info) == r.Stream && s.FirstSeq <= r.First && s.LastSeq == r.Last &&
		s.Msgs == s.LastSeq-s.FirstSeq+1
}

// identity tells a stream from another one of the same name that was made later.
func identity(info *jetstream.StreamInfo) string { return info.Created.UTC().Format(time.RFC3339Nano) }

// refresher fetches the mapping and publishes it.
type refresher struct {
	js     jetstream.JetStream
	record cell
	book   *book
	pub    *bus.Publisher
	fetch  func(context.Context) ([]directory.Person, error)
	// found is told what each reading finds.
	found func(findings)
	// done is called after each refresh that succeeded.
	done func(context.Context)
	// mostRemoved is the percentage of employee ids that may be removed without an approval.
	mostRemoved int
	// alone returns an error unless this process may act as the janitor at this moment.
	alone func() error
	now   func() time.Time
	log   *slog.Logger
}

// inForce returns when the mapping that the broker holds was last refreshed, or the zero time if it holds none.
func (r *refresher) inForce(ctx context.Context) (time.Time, error) {
	rec, _, err := r.load(ctx)
	if err != nil {
		return time.Time{}, err
	}
	stream, err := r.stream(ctx)
	if err != nil || !rec.heldBy(stream.CachedInfo()) {
		return time.Time{}, err
	}
	return rec.Refreshed, nil
}

// refresh fetches the users, and publishes their mapping if it is another one than the broker holds. If it fails, or the guard
// holds the mapping back, the mapping in force stays as it is.
func (r *refresher) refresh(ctx context.Context, _ *duty.Order) (result, error) {
	began := time.Now()
	people, err := r.fetch(ctx)
	if err != nil {
		return result{}, err
	}
	taken := r.now()
	mapping, found := build(people)
	r.tell(found)
	before, err := r.current(ctx)
	if err != nil {
		return result{}, err
	}
	c, hash := compare(before, mapping), hashOf(mapping)
	res := result{counts: map[string]int{
		"users": found.users, "mapped": c.after, "without_id": found.without, "ambiguous_ids": len(found.ambiguous),
		"added": c.added, "changed": c.changed, "removed": c.removed,
	}}
	same := before != nil && c.added+c.changed+c.removed == 0
	if reason := c.guard(r.mostRemoved); reason != "" && !same {
		h := r.book.read().Held
		if !h.lets(hash, c) {
			return r.hold(ctx, res, held{
				Hash: hash, Since: taken.UTC(), Seen: taken.UTC(), Before: c.before, After: c.after, Added: c.added,
				Changed: c.changed, Removed: c.removed, Reason: reason,
			}, found)
		}
		res.text = fmt.Sprintf("approved by %s: %s", h.ApprovedBy, reason)
	}
	published, err := r.store(ctx, mapping, taken)
	if err != nil {
		return res, err
	}
	if err := r.release(ctx); err != nil {
		return res, err
	}
	r.done(ctx)
	r.log.Info("mapping of employee ids to AtHoc users refreshed", "published", published, "users", found.users,
		"mapped", c.after, "added", c.added, "changed", c.changed, "removed", c.removed, "without_id", found.without,
		"ambiguous_ids", len(found.ambiguous), "milliseconds", time.Since(began).Milliseconds())
	return res, nil
}

// hold notes that a mapping waits for an approval. It raises the alarm once for each content.
func (r *refresher) hold(ctx context.Context, res result, h held, found findings) (result, error) {
	known := false
	err := r.book.change(ctx, func(n *notes) {
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
		r.log.Error("the new mapping of employee ids to AtHoc users is held back, the one in force stays: look into AtHoc, and at "+
			"COLLAR_ID_FIELD, ORG_CODE and which users the account may see; if it is right, approve it with `bobosync mapping approve`",
			"held", h.id(), "reason", h.Reason, "mapped_now", h.Before, "mapped_then", h.After, "removed", h.Removed,
			"users", found.users, "without_id", found.without)
	}
	res.outcome, res.text = control.OutcomeHeld, h.Reason
	return res, fmt.Errorf("%w (%s): %s", ErrHeld, h.id(), h.Reason)
}

// release forgets what was held back, now that a mapping was put into force.
func (r *refresher) release(ctx context.Context) error {
	if r.book.read().Held == nil {
		return nil
	}
	err := r.book.change(ctx, func(n *notes) { n.Held = nil })
	if err == nil {
		r.log.Info("no mapping is held back any more")
	}
	return err
}

// current reads the mapping in force from its stream: nil if the stream holds none that is whole.
func (r *refresher) current(ctx context.Context) (map[string]string, error) {
	stream, err := r.stream(ctx)
	if err != nil {
		return nil, err
	}
	state := stream.CachedInfo().State
	var whole, part map[string]string
	var snapshot string
	var have int
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the mapping in force: %w", err)
		}
		var chunk event.MappingChunk
		if err := event.Decode(msg.Data, &chunk); err != nil {
			r.log.Warn("a part of the mapping in the broker cannot be read, going on without it", "error", err)
			continue
		}
		if chunk.Snapshot != snapshot {
			snapshot, part, have = chunk.Snapshot, map[string]string{}, 0
		}
		maps.Copy(part, chunk.Users)
		if have++; have == chunk.Chunks {
			whole = part
		}
	}
	return whole, nil
}

// tell reports what an operator may have to mend in AtHoc.
func (r *refresher) tell(f findings) {
	r.found(f)
	if len(f.ambiguous) > 0 {
		r.log.Warn("several AtHoc users have the same employee id; none of them gets its duty status: mend them in AtHoc "+
			"(the names are logged at level DEBUG)", "ids", len(f.ambiguous))
	}
	for _, id := range slices.Sorted(maps.Keys(f.ambiguous)) {
		r.log.Debug("employee id of several users", "employee", id, "users", f.ambiguous[id])
	}
	if len(f.alike) > 0 {
		r.log.Warn("some employee ids in AtHoc differ only in blanks or leading zeros; they count as different "+
			"(the ids are logged at level DEBUG)", "groups", len(f.alike))
	}
	for _, ids := range f.alike {
		r.log.Debug("employee ids that differ only in blanks or leading zeros", "employees", ids)
	}
	if f.unusable > 0 {
		r.log.Warn("some AtHoc users have no username, or a username or an employee id that is too long; they are left out",
			"users", f.unusable)
	}
}

// store brings a mapping into force and notes it. Published is false if it was in force already.
func (r *refresher) store(ctx context.Context, mapping map[string]string, taken time.Time) (published bool, err error) {
	rec, revision, err := r.load(ctx)
	if err != nil {
		return false, err
	}
	stream, err := r.stream(ctx)
	if err != nil {
		return false, err
	}
	if err := r.alone(); err != nil {
		return false, fmt.Errorf("publish the mapping: %w", err)
	}
	if hash := hashOf(mapping); hash != rec.Hash || !rec.heldBy(stream.CachedInfo()) {
		rec = record{Taken: taken.UTC(), Hash: hash, Users: len(mapping), Stream: identity(stream.CachedInfo())}
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

// publish stores the mapping as one atomic batch, so that nobody ever sees a part of it.
func (r *refresher) publish(ctx context.Context, rec *record, mapping map[string]string) error {
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
	last, err := r.pub.PublishBatch(ctx, msgs...)
	if err != nil {
		return fmt.Errorf("publish the mapping: %w", err)
	}
	rec.Last = last
	rec.First = rec.Last - uint64(len(chunks)) + 1
	return nil
}

// purge drops older mappings. A failure does no harm: readers go by the latest, and the next refresh purges again.
func (r *refresher) purge(ctx context.Context, stream jetstream.Stream, first uint64) {
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(first)); err != nil && ctx.Err() == nil {
		r.log.Warn("older mappings could not be removed from the broker; it is tried again at the next refresh", "error", err)
	}
}

func (r *refresher) stream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := r.js.Stream(ctx, topology.StreamMapping)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", topology.StreamMapping, err)
	}
	return stream, nil
}

// load reads the note; it is zero if there is none that can be read.
func (r *refresher) load(ctx context.Context) (record, uint64, error) {
	value, revision, err := r.record.load(ctx)
	if err != nil || revision == 0 {
		return record{}, 0, err
	}
	var rec record
	if err := json.Unmarshal(value, &rec); err != nil || rec.V != recordVersion {
		r.log.Debug("the note on the mapping cannot be read and is made anew", "version", rec.V, "error", err)
		return record{}, revision, nil
	}
	return rec, revision, nil
}

// save writes the note in the place of the one that was read; another janitor's note in between makes it fail.
func (r *refresher) save(ctx context.Context, rec record, revision uint64) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write the note on the mapping: %w", err)
	}
	_, err = r.record.save(ctx, data, revision)
	return err
}
