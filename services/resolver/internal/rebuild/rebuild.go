// Package rebuild recovers from the loss of the resolver's state store, and of the broker's.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/mapping"
	"bobosync/shared/topology"
)

// Rebuilder works on a roster. Callers of its methods, except CheckStore, must hold the roster's lock.
type Rebuilder struct {
	conn   *bus.Conn
	roster *roster.Roster
	// leaseTTL is the life of a lease on a partition.
	leaseTTL time.Duration
	// reconnects is the number of reconnections to the broker when its store was last checked.
	reconnects uint64
	// acks is the identity of the stream of answers when the session began.
	acks string
}

// New returns a rebuilder for the session that begins.
func New(conn *bus.Conn, r *roster.Roster, leaseTTL time.Duration) *Rebuilder {
	return &Rebuilder{conn: conn, roster: r, leaseTTL: leaseTTL}
}

// Begin reconciles the state store and the broker's streams before anything is consumed. It calls lost if the broker's
// table of updates was recreated.
func (b *Rebuilder) Begin(ctx context.Context, lost func()) error {
	recovered, err := b.roster.Store.Recovered()
	if err == nil {
		b.acks, err = topology.Identity(ctx, b.conn.JS, topology.StreamAcks)
	}

	if err != nil {
		return err
	}

	b.roster.Recovered = recovered
	if !recovered {
		if err := b.rebuild(ctx); err != nil {
			return err
		}
	}

	if err := b.roster.Load(ctx); err != nil {
		return err
	}

	if err := b.announce(ctx); err != nil {
		return err
	}

	if err := b.healStore(ctx, lost); err != nil {
		return err
	}

	return b.holdOff()
}

// rebuild fills a new state store with what the table of updates holds. The rest, such as events that were never
// published, follows when ingest reads the files again; until then nothing is published.
func (b *Rebuilder) rebuild(ctx context.Context) error {
	s := b.roster.Store
	if snapshot, err := s.Snapshot(); err != nil {
		return err
	} else if snapshot == "" {
		if err := b.rereadMapping(ctx); err != nil {
			return err
		}
	}

	workers := map[string]latest.Worker{}

	err := bus.Read(ctx, b.conn.JS, topology.StreamUpdates, bus.ReadFrom{}, func(data []byte, _ string) {
		var u event.Update
		if event.Decode(data, &u) != nil || u.Employee == "" || u.File == "" {
			return // what cannot be read is the publisher's to dead-letter
		}

		w := latest.Rebuilt(u)
		w.Recall(b.roster.Holds.Groups.OfRow(u.File, u.Version.Row))
		workers[u.Employee] = w
	})
	if err != nil {
		return fmt.Errorf("rebuild the state store from the updates: %w", err)
	}

	err = s.View(func(v store.View) error {
		for employee := range workers {
			known, err := v.Worker(employee)
			if err != nil {
				return err
			}

			if known.Known() {
				delete(workers, employee) // an interrupted recovery has got further than the table
			}
		}

		return nil
	})
	if err != nil {
		return err
	}

	b.roster.Log.Info("the resolver begins with a fresh state store; it waits until ingest has read the files again",
		"workers_from_updates", len(workers))

	return s.Save(ctx, store.Change{Workers: workers})
}

// Reread makes ingest read the files again, because something that was dropped is needed. Nothing is published until
// that has ended, as after the loss of the state store.
func (b *Rebuilder) Reread(ctx context.Context) error {
	if err := b.roster.Store.Renew(); err != nil {
		return err
	}

	b.roster.Recovered = false
	b.roster.Stats.SetRecovered(false)
	b.roster.Log.Warn("workers got a user whose events may have been dropped; waiting until ingest has read the files again")

	return b.announce(ctx)
}

// rereadMapping reads the mapping from its stream. It is not redelivered, since a resolver whose state store is gone
// has acknowledged it. The durable consumer is left alone: deleting it while another service provisions it can leave it
// broken on the broker.
func (b *Rebuilder) rereadMapping(ctx context.Context) error {
	snapshot, users, err := mapping.Latest(ctx, b.conn.JS, b.roster.Log)
	if err != nil || snapshot == "" {
		return err
	}

	return b.roster.Store.ReplaceMapping(ctx, snapshot, users)
}

// recoveredAgain is the delay after which the message that ends a recovery is redelivered if it has overtaken a part of
// the recovery.
const recoveredAgain = time.Second

// EndsRecovery reports whether a batch completes the state store: it contains the message that ends the recovery, and
// no earlier message is still to be redelivered. What a killed process had fetched is redelivered after AckWait, and
// what was in a failed batch after a pause. Either may be the only trace of an event that AtHoc has been sent.
func (b *Rebuilder) EndsRecovery(ctx context.Context, batch *bus.Batch) (bool, error) {
	if b.roster.Recovered {
		return false, nil
	}

	for _, item := range batch.Items {
		var m event.Recovered
		if item.Subject != topology.SubjectRecovered || event.Decode(item.Data, &m) != nil || m.Epoch != b.roster.Store.DB().Epoch() {
			continue
		}

		whole, err := b.hasAllBefore(ctx, batch, item.Sequence)
		if err != nil || whole {
			return whole, err
		}

		b.roster.Log.Debug("the end of the recovery has overtaken a part of it, waiting for that", "sequence", item.Sequence)
		item.Nak(recoveredAgain)
	}

	return false, nil
}

// hasAllBefore reports whether each entry before a position in the stream is acknowledged, or is in the batch.
func (b *Rebuilder) hasAllBefore(ctx context.Context, batch *bus.Batch, end uint64) (bool, error) {
	stream, err := b.conn.JS.Stream(ctx, topology.StreamEntries)
	if err != nil {
		return false, fmt.Errorf("look up stream %s: %w", topology.StreamEntries, err)
	}

	consumer, err := stream.Consumer(ctx, topology.ConsumerResolverEntries)
	if err != nil {
		return false, fmt.Errorf("look up consumer %s: %w", topology.ConsumerResolverEntries, err)
	}

	held := map[uint64]bool{}
	for _, item := range batch.Items {
		held[item.Sequence] = true
	}

	for at := max(consumer.CachedInfo().AckFloor.Stream+1, stream.CachedInfo().State.FirstSeq); at < end; at++ {
		if !held[at] {
			return false, nil
		}
	}

	return true, nil
}

// announce announces the epoch of the state store to ingest. An unknown epoch makes ingest read the files again.
func (b *Rebuilder) announce(ctx context.Context) error {
	kv, err := b.conn.JS.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	db := b.roster.Store.DB()

	mine := event.StoreEpoch{Epoch: db.Epoch(), Since: db.Since()}
	entry, err := kv.Get(ctx, topology.KeyResolverEpoch)
	var stored event.StoreEpoch
	if err == nil && event.Decode(entry.Value(), &stored) == nil && stored.Epoch == mine.Epoch {
		return nil
	}

	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("read %s: %w", topology.KeyResolverEpoch, err)
	}

	if _, err := kv.Put(ctx, topology.KeyResolverEpoch, event.Encode(&mine)); err != nil {
		return fmt.Errorf("write %s: %w", topology.KeyResolverEpoch, err)
	}

	return nil
}

// healStore handles the case that the broker's table of updates or its stream of answers was recreated. Updates that
// AtHoc had not confirmed are published again: the answer to an update that was sent may be lost, and the update would
// count as under way for ever.
//
// If the table was lost, they are not published at once. The leases were lost with it, and a publisher that held one
// may still be in its call. Publishers that were running know that and wait. A publisher that was started since does
// not, and must find nothing to send until that call is over.
func (b *Rebuilder) healStore(ctx context.Context, lost func()) error {
	b.reconnects = b.conn.NC.Stats().Reconnects
	s := b.roster.Store

	table, err := topology.Identity(ctx, b.conn.JS, topology.StreamUpdates)
	if err != nil {
		return err
	}

	knownTable, err := s.Identity(topology.StreamUpdates)
	if err != nil {
		return err
	}

	knownAcks, err := s.Identity(topology.StreamAcks)
	if err != nil {
		return err
	}

	newTable, newAcks := knownTable != table, knownAcks != b.acks
	if newTable {
		lost()
	}

	if tableLost := newTable && knownTable != ""; tableLost || newAcks && knownAcks != "" {
		if err := b.again(ctx, tableLost); err != nil {
			return err
		}
	}

	if newTable {
		err = s.SetIdentity(topology.StreamUpdates, table)
	}

	if err == nil && newAcks {
		err = s.SetIdentity(topology.StreamAcks, b.acks)
	}

	return err
}

// again marks the workers whose updates were not confirmed, so that these are published again. later: not before the
// last call that may be under way has ended.
func (b *Rebuilder) again(ctx context.Context, later bool) error {
	change := store.Change{Workers: map[string]latest.Worker{}}

	err := b.roster.View(func(v store.View) error {
		return v.EachWorker(ctx, func(employee string, w latest.Worker) error {
			if w.Unconfirmed() {
				w.Unresolved, w.Sending = true, true
				change.Workers[employee] = w
			}

			return nil
		})
	})
	if err == nil {
		err = b.roster.Save(ctx, change)
	}

	if err != nil {
		return err
	}

	if !later {
		b.roster.Log.Warn("the stream of AtHoc's answers is another than before; what was not confirmed is published again", "updates", len(change.Workers))
		return nil
	}

	wait := b.leaseTTL + time.Second // the second is lost when the time is stored in whole seconds
	if err := b.roster.Store.SetHoldOff(time.Now().Add(wait)); err != nil {
		return err
	}

	b.roster.Log.Warn("the broker's store is another than before; what was not confirmed is published again in a while", "updates", len(change.Workers),
		"seconds", wait.Seconds())

	return nil
}

// holdOff finds out whether the broker's store was lost so recently, perhaps under a previous process, that nothing may
// be published yet.
func (b *Rebuilder) holdOff() error {
	until, err := b.roster.Store.HoldOff()
	left := min(time.Until(until), b.leaseTTL+time.Second) // the clock may have been put back
	if err != nil || left <= 0 {
		return err
	}

	b.roster.HoldOff = time.Now().Add(left)

	return nil
}

// SameStore returns an error if the table of updates was lost and created again. It asks the broker only after a new
// connection, since a broker does not lose its store while it runs.
func (b *Rebuilder) SameStore(ctx context.Context) error {
	connections := b.conn.NC.Stats().Reconnects
	if connections == b.reconnects {
		return nil
	}

	now, err := topology.Identity(ctx, b.conn.JS, topology.StreamUpdates)
	if err != nil {
		return err
	}

	before, err := b.roster.Store.Identity(topology.StreamUpdates)
	if err != nil {
		return err
	}

	if now != before {
		return fmt.Errorf("stream %s was created again", topology.StreamUpdates)
	}

	b.reconnects = connections

	return nil
}

// CheckStore returns an error if the table of updates or the stream of answers is gone or was recreated, or if the
// state bucket is gone. It is no error if the broker cannot be asked now. CheckStore needs no lock.
func (b *Rebuilder) CheckStore(ctx context.Context) error {
	now, err := topology.Identity(ctx, b.conn.JS, topology.StreamUpdates)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}

	if err == nil {
		before, err := b.roster.Store.Identity(topology.StreamUpdates)
		if err == nil && before != now {
			return fmt.Errorf("stream %s was created again", topology.StreamUpdates)
		}
	}

	switch now, err := topology.Identity(ctx, b.conn.JS, topology.StreamAcks); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	case err == nil && now != b.acks:
		return fmt.Errorf("stream %s was created again", topology.StreamAcks)
	}

	if _, err := b.conn.JS.KeyValue(ctx, topology.BucketState); errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("look up bucket %s: %w", topology.BucketState, err)
	}

	return nil
}
