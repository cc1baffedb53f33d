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

// Rebuilder works on a roster. Callers of its methods, but for CheckStore, must hold the roster's lock.
type Rebuilder struct {
	conn   *bus.Conn
	roster *roster.Roster
	// leaseTTL is the life of a lease on a partition.
	leaseTTL time.Duration
	// reconnects counts the connections to the broker when its store was last checked.
	reconnects uint64
	// acks is the identity of the stream of answers when the session began.
	acks string
}

// New returns a rebuilder for the session that begins.
func New(conn *bus.Conn, r *roster.Roster, leaseTTL time.Duration) *Rebuilder {
	return &Rebuilder{conn: conn, roster: r, leaseTTL: leaseTTL}
}

// Begin reconciles the state store and the broker's streams before anything is consumed. lost is called if the broker's store was
// recreated.
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

// rebuild fills a fresh state store with what the table of updates holds. The rest, the events that were never published or beat
// nothing, comes when ingest reads the files again; until then nothing is published.
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
				delete(workers, employee) // a recovery that was interrupted has got further than the table
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

// Reread makes ingest read the files again, since something that was dropped is needed. Until that has ended nothing is published, as
// after the loss of the state store.
func (b *Rebuilder) Reread(ctx context.Context) error {
	if err := b.roster.Store.Renew(); err != nil {
		return err
	}

	b.roster.Recovered = false
	b.roster.Stats.SetRecovered(false)
	b.roster.Log.Warn("workers got a user whose events may have been dropped; waiting until ingest has read the files again")

	return b.announce(ctx)
}

// rereadMapping reads the mapping from the stream: it was acknowledged by a resolver whose state store is gone. The durable consumer
// is left alone, since to delete it while another service provisions it can leave it broken on the broker.
func (b *Rebuilder) rereadMapping(ctx context.Context) error {
	snapshot, users, err := mapping.Latest(ctx, b.conn.JS, b.roster.Log)
	if err != nil || snapshot == "" {
		return err
	}

	return b.roster.Store.ReplaceMapping(ctx, snapshot, users)
}

// recoveredAgain is the delay after which the end of a recovery is redelivered if it has overtaken a part of it.
const recoveredAgain = time.Second

// EndsRecovery reports whether the state store is complete with a batch: it holds the message that says so, and nothing before that is
// still to be redelivered. What a killed process had fetched comes after AckWait, and what a failed batch had comes
// after a pause; either may be the only trace of an event that AtHoc has been sent.
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

// hasAllBefore reports whether each entry before a position in the stream was learnt, or is in the batch.
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

// healStore handles that the broker's table of updates was recreated, or the stream of answers. What was on its way to AtHoc is published
// again: the answer to an update that was sent may be lost, and it would count as under way for ever.
//
// If the table was lost, that is not done at once: with the store went the leases, and a publisher that held one may still be in its call.
// Publishers that run know that and wait; one that was started since does not, and must find nothing to send until that call is over.
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

// again marks those whose updates were not confirmed, to be published again; later: only when no call can be under way any more.
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

	wait := b.leaseTTL + time.Second // which is lost where moments are stored
	if err := b.roster.Store.SetHoldOff(time.Now().Add(wait)); err != nil {
		return err
	}

	b.roster.Log.Warn("the broker's store is another than before; what was not confirmed is published again in a while", "updates", len(change.Workers),
		"seconds", wait.Seconds())

	return nil
}

// holdOff finds out whether a store was lost so recently that nothing may be published yet, also under a previous process.
func (b *Rebuilder) holdOff() error {
	until, err := b.roster.Store.HoldOff()
	left := min(time.Until(until), b.leaseTTL+time.Second) // the clock may have been put back
	if err != nil || left <= 0 {
		return err
	}

	b.roster.HoldOff = time.Now().Add(left)

	return nil
}

// SameStore returns an error if the table of updates was lost and created again. It checks after each new connection, since a
// broker does not lose its store while it runs.
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

// CheckStore returns an error if the table of updates, or the bucket that the resolver answers for, is gone or was recreated. That the
// broker cannot be asked now is no error. It needs no lock.
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
