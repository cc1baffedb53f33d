package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/shared/pause"
)

const (
	defaultCloseTimeout = 20 * time.Second
	// abandonGrace is how long handlers get to react to the end of their context.
	abandonGrace = time.Second
	// firstRetry and longRetry bound the waits after a source has failed.
	firstRetry, longRetry = time.Second, 5 * time.Second
)

// SubscriberConfig says how batches are handed out. Source is required.
type SubscriberConfig struct {
	// Source returns the source of a topic; see PullSource.
	Source func(topic string) Source
	// CloseTimeout is how long a handler may go on after Close or the end of the subscription's context; then its context
	// ends. What it does not settle is redelivered after AckWait. Default 20 s.
	CloseTimeout time.Duration
	// Backoff is the delay of items without a disposition in a nacked batch; default DefaultBackoff.
	Backoff Backoff
	// Logger, default slog.Default.
	Logger *slog.Logger
}

// Subscriber is a message.Subscriber that yields one Watermill message for each batch, so that Watermill's middlewares
// act on a unit of work, such as a transaction or a call to a remote API. The message's payload is that of the batch's
// items, one per line; the payload of a batch of one is that of its item. BatchFrom finds the items, each of which can
// be settled by itself.
//
// The batches of a topic are handed out one after another. While a handler works on a batch, its AckWait is extended,
// for as long as that takes: bound handlers with a timeout of their own. The message's context outlives the
// subscription's by CloseTimeout. The output channel is closed last, when all acknowledgements are sent.
type Subscriber struct {
	conn *Conn
	cfg  SubscriberConfig

	closing context.Context // ends all subscriptions
	close   context.CancelFunc
	mu      sync.Mutex // orders Subscribe against Close
	running sync.WaitGroup
}

// NewSubscriber returns a subscriber on conn.
func NewSubscriber(conn *Conn, cfg SubscriberConfig) (*Subscriber, error) {
	if cfg.Source == nil {
		return nil, errors.New("open subscriber: no source given")
	}

	if cfg.CloseTimeout <= 0 {
		cfg.CloseTimeout = defaultCloseTimeout
	}

	if cfg.Backoff == nil {
		cfg.Backoff = DefaultBackoff
	}

	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}

	cfg.Logger = cfg.Logger.With("component", "bus")
	s := &Subscriber{conn: conn, cfg: cfg}
	s.closing, s.close = context.WithCancel(context.Background())

	return s, nil
}

// Subscribe hands out the topic's batches until ctx ends or Close is called.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closing.Err() != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, ErrClosed)
	}

	ctx, stop := context.WithCancel(ctx)
	context.AfterFunc(s.closing, stop)

	out := make(chan *message.Message)
	s.running.Go(func() {
		defer close(out)
		defer stop()

		source := s.cfg.Source(topic)
		for s.next(ctx, source, out) {
		}
	})

	return out, nil
}

// Close stops fetching, waits up to CloseTimeout for the batches handed out, settles them and closes the output
// channels. It is safe to call twice.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	s.running.Wait()

	return nil
}

// next fetches a batch, hands it out and settles it. It returns false at the end of the subscription.
func (s *Subscriber) next(stop context.Context, source Source, out chan<- *message.Message) bool {
	b, ok := s.fetch(stop, source)
	if !ok {
		return false
	}

	ctx, abandon := context.WithCancel(context.WithValue(context.WithoutCancel(stop), batchKey{}, b))
	defer abandon()

	msg := unmarshal(ctx, b)
	select {
	case out <- msg:
	case <-stop.Done():
		b.Return(stop)
		return false
	}

	if ack, ok := s.await(stop, msg, abandon); ok {
		b.settle(stop, ack, s.cfg.Backoff)
	} else {
		b.abandon(stop)
	}

	return true
}

// fetch gets a batch with at least one item. Failures are logged when they begin and retried with a back-off.
func (s *Subscriber) fetch(stop context.Context, source Source) (*Batch, bool) {
	retry := pause.Doubling(firstRetry, longRetry)
	for failed := false; stop.Err() == nil; failed = true {
		b, err := source.Fetch(stop)
		switch {
		case err == nil && b != nil && len(b.Items) > 0:
			return b, true
		case stop.Err() != nil:
			return nil, false
		case s.conn.NC.IsClosed():
			s.cfg.Logger.Error("connection closed, stop consuming", "error", err)
			return nil, false
		case err != nil && !failed:
			s.cfg.Logger.Error("no batch to be had, trying again", "error", err)
		}

		if retry.Wait(stop) != nil {
			return nil, false
		}
	}

	return nil, false
}

// await waits for Ack (true) or Nack. After stop it waits for CloseTimeout, ends the message's context, and waits a
// little longer; then ok is false.
func (s *Subscriber) await(stop context.Context, msg *message.Message, abandon context.CancelFunc) (ack, ok bool) {
	if ack, ok = answered(msg, stop.Done()); ok {
		return ack, ok
	}

	if ack, ok = answered(msg, time.After(s.cfg.CloseTimeout)); ok {
		return ack, ok
	}

	abandon()

	return answered(msg, time.After(abandonGrace))
}

// answered waits for Ack or Nack until end yields something.
func answered[T any](msg *message.Message, end <-chan T) (ack, ok bool) {
	select {
	case <-msg.Acked():
		return true, true
	case <-msg.Nacked():
		return false, true
	case <-end:
		return false, false
	}
}
