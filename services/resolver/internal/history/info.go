package history

// What is known of the history as a whole, and how the history is rebuilt after it was lost.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Begin completes the history as far as possible, before any answer is consumed. A new history is filled with the
// answers that the broker still has.
func (k *Keeper) Begin(ctx context.Context) error {
	k.writer.forget()

	now, err := topology.Identity(ctx, k.js, topology.StreamHistory)
	if err != nil {
		return err
	}

	info, known, err := k.reader.loadInfo(ctx)
	if err == nil && !known {
		info, err = k.rebuild(ctx)
	}

	if err == nil {
		err = k.compare(ctx, info)
	}

	if err != nil {
		return err
	}

	k.stream = now

	return k.calls.recordLost(ctx)
}

// Tend does what is due by the clock. It must be called now and then, by the goroutine that called Begin.
func (k *Keeper) Tend(ctx context.Context) error {
	now, err := topology.Identity(ctx, k.js, topology.StreamHistory)
	if err != nil {
		return err
	}

	if now != k.stream {
		return k.Begin(ctx)
	}

	return errors.Join(k.calls.recordLost(ctx), k.mark(ctx))
}

// renewInfo rewrites what is known of the history, which would otherwise be dropped for its age, as everything else is.
func (k *Keeper) renewInfo(ctx context.Context) error {
	info, known, err := k.reader.loadInfo(ctx)
	if err != nil || !known {
		return err
	}

	return k.saveInfo(ctx, info)
}

func (k *Keeper) saveInfo(ctx context.Context, info event.HistoryInfo) error {
	_, err := k.pub.PublishBatch(ctx, bus.NewMessage(topology.SubjectHistoryInfo, event.Encode(&info)))
	if err != nil {
		return fmt.Errorf("write what is known of the history: %w", err)
	}

	return nil
}

// rebuild fills a new history with the answers that the broker still has and that were consumed earlier; the others are
// delivered anyway. The new history is complete from where the stream of answers begins.
func (k *Keeper) rebuild(ctx context.Context) (event.HistoryInfo, error) {
	stream, err := k.js.Stream(ctx, topology.StreamAcks)
	if err != nil {
		return event.HistoryInfo{}, fmt.Errorf("open stream %s: %w", topology.StreamAcks, err)
	}

	consumer, err := stream.Consumer(ctx, topology.ConsumerResolverAcks)
	if err != nil {
		return event.HistoryInfo{}, fmt.Errorf("look up consumer %s: %w", topology.ConsumerResolverAcks, err)
	}

	info := stream.CachedInfo()
	begun := event.HistoryInfo{From: info.Created.UTC()}
	if info.State.FirstSeq > 1 {
		begun.From = info.State.FirstTime.UTC()
	}

	consumed, answers, last := consumer.CachedInfo().AckFloor.Stream, 0, uint64(0)

	var failed error
	err = bus.Scan(ctx, k.js, topology.StreamAcks, bus.ReadFrom{}, func(m *jetstream.RawStreamMsg) bool {
		a := Answered{Sequence: m.Sequence, Stored: m.Time}
		if m.Sequence > consumed {
			return false
		}

		if last > 0 && m.Sequence > last+1 {
			begun.From = m.Time.UTC() // the missing answers were about a worker who was erased, and about others
		}

		last = m.Sequence
		if event.Decode(m.Data, &a.Acks) == nil {
			answers += len(a.Answers)
			failed = k.Record(ctx, []Answered{a})
		}

		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil {
		return begun, fmt.Errorf("rebuild the history: %w", err)
	}

	k.log.Info("the history of what AtHoc was sent begins", "complete_from", begun.From.Format(time.RFC3339), "answers_from_before", answers)

	return begun, nil
}

// unread is how long answers may lie unread in their stream while the resolver runs: an answer that it did not handle
// is redelivered.
const unread = 2 * time.Minute

// compare records a gap if the stream of answers was lost: answers that were not consumed from it are in no history.
// The gap begins before the last record was stored, since that record may be a mark, or an answer that overtook another
// one.
func (k *Keeper) compare(ctx context.Context, info event.HistoryInfo) error {
	stream, err := k.js.Stream(ctx, topology.StreamAcks)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", topology.StreamAcks, err)
	}

	created := stream.CachedInfo().Created.UTC()

	now := created.Format(time.RFC3339Nano)
	if info.Acks == now {
		return nil
	}

	if info.Acks != "" {
		last, err := k.reader.lastStored(ctx)
		if err != nil {
			return err
		}

		info.Gaps = append(info.Gaps, event.Gap{From: min(last, created.UnixMilli()) - unread.Milliseconds(), To: created.UnixMilli()})
		k.log.Warn("the stream of AtHoc's answers was lost: the history may lack some of the time before", "since", created.Format(time.RFC3339))
	}

	info.Acks = now

	return k.saveInfo(ctx, info)
}
