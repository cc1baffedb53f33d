package resolver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// remember fills a fresh memory with what the table of updates holds. The rest, the events that were never published or
// beat nothing, comes when ingest reads the files again; until then nothing is published.
func (r *resolver) remember(ctx context.Context, js jetstream.JetStream) error {
	snapshot, err := r.memory.Snapshot()
	if err != nil {
		return err
	}
	if snapshot == "" {
		if err := r.rereadMapping(ctx, js); err != nil {
			return fmt.Errorf("read the mapping again: %w", err)
		}
	}
	workers := map[string]latest.Worker{}
	err = eachUpdate(ctx, js, func(u event.Update) {
		if u.Employee != "" && u.File != "" {
			var w latest.Worker
			w.Remember(u)
			workers[u.Employee] = w
		}
	})
	if err != nil {
		return fmt.Errorf("rebuild the memory from the updates: %w", err)
	}
	err = r.memory.View(func(v memory.View) error {
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
	r.log.Info("the resolver begins with a fresh memory; it waits until ingest has read the files again",
		"workers_from_updates", len(workers))
	return r.memory.Save(memory.Change{Workers: workers})
}

// rereadMapping reads the mapping from the stream: it was acknowledged by a memory that is gone. The durable consumer is left
// alone, since to delete it while another service provisions it can leave it broken on the broker.
func (r *resolver) rereadMapping(ctx context.Context, js jetstream.JetStream) error {
	var failed error
	change := memory.Change{}
	err := each(ctx, js, topology.StreamMapping, jetstream.OrderedConsumerConfig{}, func(data []byte, _ string) {
		var chunk event.MappingChunk
		if failed != nil || event.Decode(data, &chunk) != nil {
			return
		}
		var mapping map[string]string
		if mapping, failed = r.memory.Stage(chunk); mapping != nil {
			change.Mapping, change.Snapshot = mapping, chunk.Snapshot
		}
	})
	if err := errors.Join(err, failed); err != nil || change.Mapping == nil {
		return err
	}
	return r.memory.Save(change)
}

// eachUpdate calls f for all updates in the table, as it is when it begins. What cannot be read is the publisher's to
// dead-letter.
func eachUpdate(ctx context.Context, js jetstream.JetStream, f func(event.Update)) error {
	return each(ctx, js, topology.StreamUpdates, jetstream.OrderedConsumerConfig{}, func(data []byte, _ string) {
		var u event.Update
		if err := event.Decode(data, &u); err == nil {
			f(u)
		}
	})
}

// each calls f for the messages that a stream holds when it begins, as far as from takes them.
func each(ctx context.Context, js jetstream.JetStream, name string, from jetstream.OrderedConsumerConfig, f func(data []byte, subject string)) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", name, err)
	}
	last := stream.CachedInfo().State.LastSeq
	consumer, err := stream.OrderedConsumer(ctx, from)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	if info.NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", name, err)
		}
		f(msg.Data(), msg.Subject())
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return nil
		}
	}
}

// recoveredAgain is after what time the end of a recovery is looked at again that has overtaken a part of it.
const recoveredAgain = time.Second

// endsRecovery says whether this memory is complete with a batch: it holds the message that says so, and nothing before that is to
// come again. What was in the hands of a process that was killed comes after AckWait, and what a batch held that failed comes
// after a pause; either may be the only trace of an event that AtHoc has been sent.
func (r *resolver) endsRecovery(ctx context.Context, batch *bus.Batch) (bool, error) {
	if r.recovered {
		return false, nil
	}
	for _, item := range batch.Items {
		var m event.Recovered
		if item.Subject != topology.SubjectRecovered || event.Decode(item.Data, &m) != nil || m.Memory != r.memory.DB().Memory() {
			continue
		}
		whole, err := r.hasAllBefore(ctx, batch, item.Sequence)
		if err != nil || whole {
			return whole, err
		}
		r.log.Debug("the end of the recovery has overtaken a part of it, waiting for that", "sequence", item.Sequence)
		item.Nak(recoveredAgain)
	}
	return false, nil
}

// hasAllBefore says whether each entry before a position in the stream was learnt, or is in the batch.
func (r *resolver) hasAllBefore(ctx context.Context, batch *bus.Batch, end uint64) (bool, error) {
	stream, err := r.out.conn.JS.Stream(ctx, topology.StreamEntries)
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

// announce tells ingest which memory is at work. A name that ingest does not know makes it read the files again.
func (r *resolver) announce(ctx context.Context, js jetstream.JetStream) error {
	kv, err := js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}
	mine := event.Memory{Memory: r.memory.DB().Memory(), Since: r.memory.DB().Since()}
	entry, err := kv.Get(ctx, topology.KeyResolverMemory)
	var told event.Memory
	if err == nil && event.Decode(entry.Value(), &told) == nil && told.Memory == mine.Memory {
		return nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("read %s: %w", topology.KeyResolverMemory, err)
	}
	if _, err := kv.Put(ctx, topology.KeyResolverMemory, event.Encode(&mine)); err != nil {
		return fmt.Errorf("write %s: %w", topology.KeyResolverMemory, err)
	}
	return nil
}

// healStore makes good that the broker's table of updates is another than before. What was on its way to AtHoc is published again,
// but not at once: with the store went the leases, and a publisher that held one may still be in its call. Those that run know
// that and wait; one that was started since does not, and must find nothing to send until that call is over.
func (r *resolver) healStore(ctx context.Context, js jetstream.JetStream) error {
	r.reconnects = r.out.conn.NC.Stats().Reconnects
	now, err := topology.Identity(ctx, js, topology.StreamUpdates)
	if err != nil {
		return err
	}
	before, err := r.memory.Identity(topology.StreamUpdates)
	if err != nil || before == now {
		return err
	}
	clear(r.clears) // what was on its way is lost; the janitor finds these users again
	if before != "" {
		change := memory.Change{Workers: map[string]latest.Worker{}}
		err := r.memory.View(func(v memory.View) error {
			return v.EachWorker(func(employee string, w latest.Worker) error {
				if w.Unconfirmed() {
					w.Dirty, w.Sending = true, true
					change.Workers[employee] = w
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		wait := r.settings().LeaseTTL() + time.Second // which is lost where moments are stored
		if err := errors.Join(r.save(change), r.memory.SetQuiet(time.Now().Add(wait))); err != nil {
			return err
		}
		r.log.Warn("the broker's store is another than before; what was not confirmed is published again in a while", "updates", len(change.Workers),
			"seconds", wait.Seconds())
	}
	return r.memory.SetIdentity(topology.StreamUpdates, now)
}

// keepQuiet finds out whether a store was lost so lately that nothing may be published yet, also by a process before this one.
func (r *resolver) keepQuiet() error {
	until, err := r.memory.Quiet()
	left := min(time.Until(until), r.settings().LeaseTTL()+time.Second) // the clock may have been put back
	if err != nil || left <= 0 {
		return err
	}
	r.quiet = time.Now().Add(left)
	return nil
}

// sameStore refuses to publish to a table of updates that was lost and made anew. It is looked at after each new connection, since a
// broker does not lose its store while it runs.
func (r *resolver) sameStore(ctx context.Context) error {
	connections := r.out.conn.NC.Stats().Reconnects
	if connections == r.reconnects {
		return nil
	}
	now, err := topology.Identity(ctx, r.out.conn.JS, topology.StreamUpdates)
	if err != nil {
		return err
	}
	before, err := r.memory.Identity(topology.StreamUpdates)
	if err != nil {
		return err
	}
	if now != before {
		return fmt.Errorf("stream %s was made anew", topology.StreamUpdates)
	}
	r.reconnects = connections
	return nil
}
