package bus

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Item is one JetStream message of a batch. Ack, Nak and Term say what becomes of it; they may be called from any
// goroutine until the batch's Watermill message is acked or nacked, and the last call wins.
type Item struct {
	Subject  string
	Headers  nats.Header
	Data     []byte
	Stream   string
	Consumer string
	// Sequence is the position in the stream.
	Sequence uint64
	// Time is when the stream stored the message.
	Time time.Time
	// NumDelivered counts deliveries, this one included.
	NumDelivered uint64
	// NumPending is how many messages of the consumer were still undelivered at the time of this delivery.
	NumPending uint64

	msg         jetstream.Msg
	mu          sync.Mutex
	disposition disposition
}

// disposition is what becomes of a message.
type disposition struct {
	kind   kind
	delay  time.Duration // of a nak
	reason string        // of a term
}

type kind int

const (
	unsettled kind = iota
	acked
	nakked
	termed
)

// deliver fills the item from a delivery.
func (i *Item) deliver(m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read delivery data: %w", err)
	}

	i.Subject, i.Headers, i.Data, i.Stream, i.Consumer, i.msg = m.Subject(), m.Headers(), m.Data(), meta.Stream, meta.Consumer, m
	i.Sequence, i.Time, i.NumDelivered, i.NumPending = meta.Sequence.Stream, meta.Timestamp, meta.NumDelivered, meta.NumPending

	return nil
}

// Ack settles the item as done. It is the default when the batch is acked.
func (i *Item) Ack() { i.set(disposition{kind: acked}) }

// Nak makes the item be redelivered after delay. Items without a disposition in a nacked batch are redelivered after a
// back-off.
func (i *Item) Nak(delay time.Duration) { i.set(disposition{kind: nakked, delay: delay}) }

// Term settles the item for good, because it cannot be processed.
func (i *Item) Term(reason string) { i.set(disposition{kind: termed, reason: reason}) }

func (i *Item) set(d disposition) {
	i.mu.Lock()
	defer i.mu.Unlock()

	i.disposition = d
}

func (i *Item) get() disposition {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.disposition
}

// IsSettled reports whether the item has a disposition.
func (i *Item) IsSettled() bool { return i.get().kind != unsettled }

// Termed returns the reason that was given to Term, and whether the item was settled with it.
func (i *Item) Termed() (reason string, ok bool) {
	d := i.get()
	return d.reason, d.kind == termed
}

// final combines the item's disposition with the Ack or Nack of its batch.
func (i *Item) final(ack bool, backoff Backoff) disposition {
	switch d := i.get(); {
	case d.kind != unsettled:
		return d
	case ack:
		return disposition{kind: acked}
	default:
		return disposition{kind: nakked, delay: backoff(i.NumDelivered)}
	}
}

// apply sends the disposition to the server. If it returns an error, the disposition was not sent: the message is then
// redelivered after the consumer's AckWait.
func (d disposition) apply(m jetstream.Msg) error {
	switch d.kind {
	case termed:
		return m.TermWithReason(d.reason)
	case nakked:
		return m.NakWithDelay(max(d.delay, 0))
	default:
		return m.Ack()
	}
}

// Backoff returns how long a message rests after n deliveries (1 or more) without success.
type Backoff func(n uint64) time.Duration

// DefaultBackoff waits 1 s, doubled with each delivery, up to a minute.
func DefaultBackoff(n uint64) time.Duration {
	return min(time.Second<<min(n-min(n, 1), 6), time.Minute)
}
