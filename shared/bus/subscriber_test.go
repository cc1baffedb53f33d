package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

func TestMessageArrivesWhole(t *testing.T) {
	r := newRig(t)
	_, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{})
	h := nats.Header{"Tag": {"one", "two"}, bus.MsgIDKey: {"id"}, "Empty": {""}}
	_, err := r.conn.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h, Data: []byte("x")})
	require.NoError(t, err)

	m, b := batch(t, out)
	assert.Equal(t, "S-1", m.UUID, "a message from elsewhere gets a UUID that stays the same")
	assert.Equal(t, message.Metadata{"Tag": "one", "Empty": ""}, m.Metadata, "what is the server's stays out")
	assert.Equal(t, "x", string(m.Payload))

	i := b.Items[0]
	assert.Equal(t, "x", string(i.Data))
	assert.Equal(t, []string{"one", "two"}, i.Headers["Tag"])
	assert.Equal(t, []any{subject, stream, durable, uint64(1), uint64(1)}, []any{i.Subject, i.Stream, i.Consumer, i.Sequence, i.NumDelivered})
	assert.WithinDuration(t, time.Now(), i.Time, time.Minute)
	m.Ack()
	r.settled(t, 1)
}

func TestUnsettledMessageComesAgainAfterAckWait(t *testing.T) {
	r := newRig(t, ackWait(300*time.Millisecond))
	r.publish(t, 1)
	// A consumer that dies while it holds the message: it neither settles the message nor keeps it from being
	// redelivered.
	fetched, err := r.cons.Fetch(1)
	require.NoError(t, err)
	receive(t, fetched.Messages())

	_, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{})
	m, b := batch(t, out)
	assert.EqualValues(t, 2, b.Items[0].NumDelivered)
	m.Ack()
	r.settled(t, 1)
}

func TestNackRestsByNumberOfDeliveries(t *testing.T) {
	r := newRig(t)
	r.publish(t, 1)

	asked := make(chan uint64, 10)
	_, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{Backoff: func(n uint64) time.Duration {
		asked <- n
		return time.Millisecond
	}})
	for n := range uint64(3) {
		receive(t, out).Nack()
		assert.Equal(t, n+1, receive(t, asked))
	}

	receive(t, out).Ack()
	r.settled(t, 1)
}

func TestDefaultBackoff(t *testing.T) {
	for n, want := range map[uint64]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1 << 60: time.Minute} {
		assert.Equal(t, want, bus.DefaultBackoff(n), n)
	}
}

func TestTerm(t *testing.T) {
	r := newRig(t, ackWait(200*time.Millisecond))
	r.publish(t, 2)

	reasons := make(chan string, 2)

	sub, err := r.conn.NC.Subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", func(m *nats.Msg) { reasons <- string(m.Data) })
	require.NoError(t, err)
	defer func() { require.NoError(t, sub.Unsubscribe()) }()

	require.NoError(t, r.conn.NC.Flush())

	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 1}, bus.SubscriberConfig{})
	for range 2 {
		m, b := batch(t, out)
		_, termed := b.Items[0].Termed()
		assert.False(t, termed)
		b.Items[0].Term("bad row")
		reason, termed := b.Items[0].Termed()
		assert.True(t, termed)
		assert.Equal(t, "bad row", reason)
		m.Nack()
		assert.Contains(t, receive(t, reasons), "bad row")
	}

	silent(t, out, 500*time.Millisecond)
	r.settled(t, 2)
}

// Close is called in the middle of the work, through a Router, as a service does it.
func TestCloseLeavesNothingPending(t *testing.T) {
	r := newRig(t, ackWait(time.Minute))
	r.publish(t, 500)
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{Source: r.source(bus.PullConfig{MaxItems: 50, Linger: timeout})})
	require.NoError(t, err)
	router, err := bus.NewRouter(bustest.Logger(), timeout)
	require.NoError(t, err)

	var begun, finished atomic.Int32
	busy, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once

	router.AddConsumerHandler("h", "topic", sub, func(m *message.Message) error {
		items := int32(len(bus.BatchFrom(m.Context()).Items))
		if begun.Add(items) >= 50 {
			once.Do(func() { close(busy) })
		}

		<-proceed

		if err := m.Context().Err(); err != nil {
			return fmt.Errorf("the message's context must outlive the router's: %w", err)
		}

		finished.Add(items)

		return nil
	})

	ran := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ran <- router.Run(ctx) }()

	closed(t, busy)
	cancel()
	close(proceed)
	require.NoError(t, receive(t, ran))
	require.NoError(t, sub.Close())

	ci := r.consumerInfo(t)
	assert.Zero(t, ci.NumAckPending)
	assert.Equal(t, begun.Load(), finished.Load())
	assert.EqualValues(t, finished.Load(), ci.AckFloor.Stream)
	assert.Equal(t, 500-uint64(finished.Load()), ci.NumPending, "what was not begun is still there")
}

func TestCloseEndsTheSubscription(t *testing.T) {
	r := newRig(t)
	sub, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{})
	require.NoError(t, sub.Close())
	require.NoError(t, sub.Close())

	_, open := <-out
	assert.False(t, open)
	_, err := sub.Subscribe(t.Context(), "topic")
	require.ErrorIs(t, err, bus.ErrClosed)
}

func TestRestartOfTheBrokerLosesNothing(t *testing.T) {
	const total = 2000
	r := newRig(t, ackWait(time.Second))
	p := r.publisher(t, bus.PublisherConfig{Timeout: 2 * time.Second})
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{Source: r.source(bus.PullConfig{MaxItems: 32})})
	require.NoError(t, err)
	router, err := bus.NewRouter(bustest.Logger(), timeout)
	require.NoError(t, err)

	var mu sync.Mutex
	seen := map[string]bool{}
	quarter, all := make(chan struct{}), make(chan struct{})

	router.AddConsumerHandler("h", "topic", sub, func(m *message.Message) error {
		mu.Lock()
		defer mu.Unlock()

		before := len(seen)
		for _, item := range bus.BatchFrom(m.Context()).Items {
			seen[string(item.Data)] = true
		}

		if before < total/4 && len(seen) >= total/4 {
			close(quarter)
		}

		if before < total && len(seen) == total {
			close(all)
		}

		return nil
	})

	ran := make(chan error, 1)
	go func() { ran <- router.Run(t.Context()) }()

	var wg sync.WaitGroup
	for w := range 10 {
		wg.Go(func() {
			for i := w; i < total; i += 10 {
				m := message.NewMessage(fmt.Sprint(i), fmt.Append(nil, i))
				m.Metadata.Set(bus.MsgIDKey, fmt.Sprint(i))

				for p.Publish(subject, m) != nil && t.Context().Err() == nil {
				}
			}
		})
	}

	closed(t, quarter)
	r.Restart(t)
	require.NoError(t, r.DropClients())
	wg.Wait()

	select {
	case <-all:
	case <-time.After(timeout):
	}

	mu.Lock()
	assert.Len(t, seen, total)
	mu.Unlock()
	assert.EqualValues(t, total, storedMsgs(t, r), "message ids keep a repeated publish from storing twice")
	r.settled(t, total)
	require.NoError(t, router.Close())
	require.NoError(t, receive(t, ran))
}

func TestLostConsumer(t *testing.T) {
	remove := map[string]func(*rig) error{
		"consumer deleted": func(r *rig) error { return r.conn.JS.DeleteConsumer(context.Background(), stream, durable) },
		"stream deleted":   func(r *rig) error { return r.conn.JS.DeleteStream(context.Background(), stream) },
	}
	for name, remove := range remove {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			lost := make(chan error, 10)
			_, out := r.subscribe(t, bus.PullConfig{OnLost: func(err error) { lost <- err }}, bus.SubscriberConfig{})
			require.NoError(t, remove(r))
			require.ErrorIs(t, receive(t, lost), bus.ErrConsumerLost)

			silent(t, lost, 200*time.Millisecond) // reported once
			r.provision(t)
			r.publish(t, 1)
			receive(t, out).Ack()
			r.settled(t, 1)
		})
	}

	t.Run("never there", func(t *testing.T) {
		r := newRig(t)
		lost := make(chan error, 10)
		r.subscribe(t, bus.PullConfig{Stream: stream, Consumer: "nobody", OnLost: func(err error) { lost <- err }}, bus.SubscriberConfig{})
		require.ErrorIs(t, receive(t, lost), bus.ErrConsumerLost)
	})
	t.Run("of no use", func(t *testing.T) {
		r := newRig(t)
		r.provision(t, func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig) {
			c.Durable, c.AckPolicy = "all", jetstream.AckAllPolicy
		})

		lost := make(chan error, 10)
		r.subscribe(t, bus.PullConfig{Stream: stream, Consumer: "all", OnLost: func(err error) { lost <- err }}, bus.SubscriberConfig{})
		err := receive(t, lost)
		require.ErrorIs(t, err, bus.ErrConsumerLost)
		require.ErrorContains(t, err, "need explicit")
	})
}

func TestClosedConnectionEndsTheSubscription(t *testing.T) {
	r := newRig(t)
	_, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{})
	r.conn.Close()
	await.True(t, func() bool {
		select {
		case _, open := <-out:
			return !open
		default:
			return false
		}
	}, timeout)
}

func TestRouterSurvivesPanics(t *testing.T) {
	r := newRig(t)
	r.publish(t, 1)
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{
		Source: r.source(bus.PullConfig{}), Backoff: func(uint64) time.Duration { return 0 },
	})
	require.NoError(t, err)
	router, err := bus.NewRouter(slog.New(slog.DiscardHandler), timeout)
	require.NoError(t, err)
	var calls atomic.Int32

	router.AddConsumerHandler("h", "topic", sub, func(*message.Message) error {
		if calls.Add(1) == 1 {
			panic("first time")
		}
		return nil
	})

	ran := make(chan error, 1)
	go func() { ran <- router.Run(t.Context()) }()

	r.settled(t, 1)
	assert.EqualValues(t, 2, calls.Load())
	require.NoError(t, router.Close())
	require.NoError(t, receive(t, ran))
}
