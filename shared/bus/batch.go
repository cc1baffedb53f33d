package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrAbandoned is what an Owner gets when its batch's handler did not finish in time: the handler may still be running.
var ErrAbandoned = errors.New("handler did not finish in time")

const (
	// minPull is the shortest pull, long enough for a server under load to check what it has.
	minPull = 10 * time.Millisecond
	// settleTime is how long the acknowledgements of a batch may take.
	settleTime = 10 * time.Second
)

// Batch is a number of messages that are handled together. From Fill until the batch is settled, its messages are kept
// from being delivered again. A Source builds a batch; then it belongs to the handler.
type Batch struct {
	// Items in the order of their arrival.
	Items []*Item
	// Bytes is the size of all payloads.
	Bytes int
	// Owner, if the Source sets it, is notified when the batch is over. A handler that knows the Source finds in it
	// what belongs to the batch besides its messages.
	Owner Owner

	index    map[messageKey]*Item
	ackWait  time.Duration
	logger   *slog.Logger
	beat     heartbeat
	stopBeat context.CancelFunc
	beating  sync.WaitGroup
}

// Owner lent what a batch is worked on with, and is notified when the batch is over.
type Owner interface {
	// Settled is called once, when the batch is over. A nil error means that the server has confirmed all
	// acknowledgements. After ErrAbandoned the handler may still be working.
	Settled(ctx context.Context, err error)
}

// messageKey identifies a message.
type messageKey struct {
	stream, consumer, subject string
	sequence                  uint64
}

// NewBatch returns an empty batch for messages of consumers with the given AckWait (the shortest, if there are
// several).
func NewBatch(ackWait time.Duration, logger *slog.Logger) *Batch {
	return &Batch{ackWait: ackWait, logger: logger, index: map[messageKey]*Item{}}
}

// Fill adds up to n messages of a consumer and returns how many it has added. It waits for them for at most wait, but
// not less than a few milliseconds: a pull that asks not to wait at all sometimes comes back empty although there are
// messages. maxBytes, if not 0, limits their size on the wire; a message larger than that is then not fetched. Keep the
// wait short: cutting it short would risk that a message is delayed by AckWait.
func (b *Batch) Fill(cons jetstream.Consumer, n, maxBytes int, wait time.Duration) (int, error) {
	opts := []jetstream.FetchOpt{jetstream.FetchMaxWait(max(wait, minPull))}
	if maxBytes > 0 {
		opts = append(opts, jetstream.FetchMaxBytes(maxBytes))
	}

	msgs, err := cons.Fetch(n, opts...)
	if err != nil {
		return 0, fmt.Errorf("fetch: %w", err)
	}

	before := len(b.Items)
	for m := range msgs.Messages() {
		if addErr := b.add(m); addErr != nil {
			err = addErr
		}
	}

	if err = errors.Join(err, msgs.Error()); err != nil {
		err = fmt.Errorf("fetch: %w", err)
	}

	return len(b.Items) - before, err
}

// add adds a message and begins to keep it from being delivered again. A broker that was killed meanwhile may redeliver
// a message that the batch already holds. Such a message stays one item: if there were two, a handler could take one
// for the other's successor and acknowledge both.
func (b *Batch) add(m jetstream.Msg) error {
	item := &Item{}
	if err := item.deliver(m); err != nil {
		return err
	}

	if b.stopBeat == nil {
		ctx, cancel := context.WithCancel(context.Background())
		b.stopBeat = cancel
		b.beating.Go(func() { b.beat.run(ctx, b.ackWait, b.logger) })
	}

	b.beat.add(m)

	key := messageKey{item.Stream, item.Consumer, item.Subject, item.Sequence}
	if again := b.index[key]; again != nil {
		return b.redelivered(again, item)
	}

	b.index[key] = item
	b.Items = append(b.Items, item)
	b.Bytes += len(item.Data)

	return nil
}

// redelivered puts a later delivery into an item: for the broker, only the last delivery counts. If the times differ,
// the stream was lost meanwhile and has reached the same sequence again: it is another message, and the latest to
// arrive.
func (b *Batch) redelivered(item, later *Item) error {
	if !later.Time.Equal(item.Time) {
		at := slices.Index(b.Items, item)
		b.Items = append(slices.Delete(b.Items, at, at+1), item)
	}

	b.Bytes += len(later.Data) - len(item.Data)

	return item.deliver(later.msg)
}

// payload returns the data of all items, one per line, and makes each item's data a part of it.
func (b *Batch) payload() []byte {
	if len(b.Items) == 1 {
		return b.Items[0].Data
	}

	buf := bytes.NewBuffer(make([]byte, 0, b.Bytes+len(b.Items)))
	for _, i := range b.Items {
		start := buf.Len()
		buf.Write(i.Data)
		i.Data = buf.Bytes()[start:buf.Len():buf.Len()]
		buf.WriteByte('\n')
	}

	return buf.Bytes()
}

// Return gives all messages back, to be redelivered at once. It is for a batch that no handler has seen.
func (b *Batch) Return(ctx context.Context) {
	for _, i := range b.Items {
		i.Nak(0)
	}

	b.settle(ctx, false, DefaultBackoff)
}

// settle sends all dispositions. The server does not confirm plain acknowledgements. The last acknowledgement for each
// consumer is therefore sent at the end and confirmed, which covers those before it.
func (b *Batch) settle(ctx context.Context, ack bool, backoff Backoff) {
	b.stop()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()

	var errs failures
	barriers := map[string]jetstream.Msg{}
	for _, i := range b.Items {
		d := i.final(ack, backoff)
		m := i.msg
		if d.kind == acked {
			key := i.Stream + "/" + i.Consumer
			m, barriers[key] = barriers[key], m
		}

		if m == nil {
			continue
		}

		if err := d.apply(m); err != nil {
			errs.add("", err)
		}
	}

	for _, m := range barriers {
		if err := m.DoubleAck(ctx); err != nil {
			errs.add("", err)
		}
	}

	err := errs.causes()
	if err != nil {
		b.logger.Warn("batch not settled completely, some of it is redelivered", "items", len(b.Items), "error", err)
	}

	b.over(ctx, err)
}

// abandon ends a batch whose handler is late: no dispositions, no more heartbeats.
func (b *Batch) abandon(ctx context.Context) {
	b.stop()
	b.logger.Warn("handler did not finish in time, its batch is redelivered after ack wait", "items", len(b.Items))
	b.over(context.WithoutCancel(ctx), ErrAbandoned)
}

func (b *Batch) stop() {
	if b.stopBeat != nil {
		b.stopBeat()
		b.beating.Wait()
	}
}

func (b *Batch) over(ctx context.Context, err error) {
	if b.Owner != nil {
		b.Owner.Settled(ctx, err)
	}
}

// heartbeat keeps messages from being delivered again while they are being worked on.
type heartbeat struct {
	mu   sync.Mutex
	msgs []jetstream.Msg
}

func (h *heartbeat) add(m jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.msgs = append(h.msgs, m)
}

// run renews all messages three times per AckWait, until ctx ends.
func (h *heartbeat) run(ctx context.Context, ackWait time.Duration, logger *slog.Logger) {
	t := time.NewTicker(max(ackWait/3, time.Millisecond))
	defer t.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := h.renew(); err != nil {
				logger.Warn("messages in work could not be renewed and may be delivered again", "error", err)
			}
		}
	}
}

func (h *heartbeat) renew() error {
	h.mu.Lock()
	defer h.mu.Unlock()

	var last error
	for _, m := range h.msgs {
		if err := m.InProgress(); err != nil {
			last = err
		}
	}

	return last
}

type batchKey struct{}

// BatchFrom returns the batch of a Subscriber's message, given the message's context; nil for any other context.
func BatchFrom(ctx context.Context) *Batch {
	b, _ := ctx.Value(batchKey{}).(*Batch)
	return b
}
