package bus_test

import (
	"context"
	"errors"
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

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

func TestMessageArrivesWhole(t *testing.T) {
	r := newRig(t)
	_, out := r.subscribe(t, bus.SubscriberConfig{})
	h := nats.Header{"Tag": {"one", "two"}, bus.MsgIDKey: {"id"}, "Empty": {""}}
	_, err := r.conn.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h, Data: []byte("x")})
	require.NoError(t, err)

	m := receive(t, out)
	assert.Equal(t, "S-1", m.UUID, "a message from elsewhere gets a UUID that stays the same")
	assert.Equal(t, message.Metadata{"Tag": "one", "Empty": ""}, m.Metadata, "what is the server's stays out")
	i := info(t, m)
	assert.Equal(t, []string{"one", "two"}, i.Headers["Tag"])
	assert.Equal(t, []any{subject, stream, durable, uint64(1), uint64(1)}, []any{i.Subject, i.Stream, i.Consumer, i.Sequence, i.NumDelivered})
	assert.WithinDuration(t, time.Now(), i.Time, time.Minute)
	m.Ack()
	r.settled(t, 1)
}

func TestUnsettledMessageComesAgainAfterAckWait(t *testing.T) {
	r := newRig(t, ackWait(300*time.Millisecond))
	r.publish(t, 1)
	// A consumer that dies with the message in its hands: it neither settles it nor keeps it alive.
	batch, err := r.cons.Fetch(1)
	require.NoError(t, err)
	receive(t, batch.Messages())

	_, out := r.subscribe(t, bus.SubscriberConfig{})
	m := receive(t, out)
	assert.EqualValues(t, 2, info(t, m).NumDelivered)
	m.Ack()
	r.settled(t, 1)
}

func TestHeartbeatKeepsLongHandlers(t *testing.T) {
	const wait = 300 * time.Millisecond
	r := newRig(t, ackWait(wait))
	r.publish(t, 20)
	_, out := r.subscribe(t, bus.SubscriberConfig{MaxInFlight: 20})
	var msgs []*message.Message
	for range 10 { // the other ten wait to be taken: they must be kept too
		msgs = append(msgs, receive(t, out))
	}
	<-time.After(4 * wait) // the subject of this test is that time passes
	assert.Zero(t, r.consumerInfo(t).NumRedelivered)
	for _, m := range msgs {
		m.Ack()
	}
	for range 10 {
		m := receive(t, out)
		assert.EqualValues(t, 1, info(t, m).NumDelivered)
		m.Ack()
	}
	r.settled(t, 20)
}

func TestNakAfter(t *testing.T) {
	const delay = 400 * time.Millisecond
	r := newRig(t)
	r.publish(t, 1)
	_, out := r.subscribe(t, bus.SubscriberConfig{})
	m := receive(t, out)
	assert.True(t, bus.NakAfter(m.Context(), delay))
	start := time.Now()
	m.Nack()
	again := receive(t, out)
	assert.GreaterOrEqual(t, time.Since(start), delay)
	assert.EqualValues(t, 2, info(t, again).NumDelivered)

	// A handler that failed first and was retried in place: its success counts.
	bus.NakAfter(again.Context(), 0)
	again.Ack()
	r.settled(t, 1)
}

func TestNackRestsByNumberOfDeliveries(t *testing.T) {
	r := newRig(t)
	r.publish(t, 1)
	asked := make(chan uint64, 10)
	_, out := r.subscribe(t, bus.SubscriberConfig{Backoff: func(n uint64) time.Duration {
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

	_, out := r.subscribe(t, bus.SubscriberConfig{})
	for range 2 {
		m := receive(t, out)
		assert.True(t, bus.Term(m.Context(), "bad row"))
		m.Nack()
		assert.Contains(t, receive(t, reasons), "bad row")
	}
	silent(t, out, 500*time.Millisecond)
	r.settled(t, 2)
	assert.False(t, bus.Term(t.Context(), "not a message's context"))
}

func TestUnreadableMessage(t *testing.T) {
	unmarshal := func(m jetstream.Msg) (*message.Message, error) {
		switch string(m.Data()) {
		case "0":
			return nil, errors.New("cannot read this")
		case "1":
			panic("nor this")
		case "2":
			return nil, nil
		}
		return bus.Unmarshal(m)
	}
	t.Run("is dead-lettered", func(t *testing.T) {
		r := newRig(t)
		dead := make(chan string, 10)
		_, out := r.subscribe(t, bus.SubscriberConfig{Unmarshal: unmarshal,
			DeadLetter: func(_ context.Context, m jetstream.Msg, cause error) error {
				dead <- string(m.Data())
				return nil
			}})
		r.publish(t, 4)
		m := receive(t, out)
		assert.Equal(t, "3", string(m.Payload))
		m.Ack()
		assert.ElementsMatch(t, []string{"0", "1", "2"}, []string{receive(t, dead), receive(t, dead), receive(t, dead)})
		r.settled(t, 4)
	})
	t.Run("comes again if it cannot be kept", func(t *testing.T) {
		r := newRig(t)
		var tries atomic.Int32
		_, out := r.subscribe(t, bus.SubscriberConfig{Unmarshal: unmarshal, MaxInFlight: 1,
			Backoff: func(uint64) time.Duration { return time.Millisecond },
			DeadLetter: func(context.Context, jetstream.Msg, error) error {
				switch tries.Add(1) {
				case 1:
					return errors.New("dead letter stream is full")
				case 2:
					panic("broken hook")
				}
				return nil
			}})
		r.publish(t, 1)
		r.settled(t, 1)
		assert.EqualValues(t, 3, tries.Load())
		silent(t, out, 20*time.Millisecond)
	})
	t.Run("is settled without a dead letter hook", func(t *testing.T) {
		r := newRig(t)
		r.subscribe(t, bus.SubscriberConfig{Unmarshal: unmarshal})
		r.publish(t, 3)
		r.settled(t, 3)
	})
}

func TestNeverMoreThanMaxInFlight(t *testing.T) {
	r := newRig(t)
	r.publish(t, 50)
	_, out := r.subscribe(t, bus.SubscriberConfig{MaxInFlight: 5})
	held := make([]*message.Message, 5)
	for i := range held {
		held[i] = receive(t, out)
	}
	silent(t, out, 200*time.Millisecond)
	assert.Equal(t, 5, r.consumerInfo(t).NumAckPending, "nothing is fetched ahead")
	held[2].Ack()
	receive(t, out).Ack()
	for _, i := range []int{0, 1, 3, 4} {
		held[i].Ack()
	}
	for range 44 {
		receive(t, out).Ack()
	}
	r.settled(t, 50)
}

// Close in the middle of the work, through a Router, as a service does it.
func TestCloseLeavesNothingPending(t *testing.T) {
	r := newRig(t, ackWait(time.Minute))
	r.publish(t, 500)
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{Resolve: resolve, MaxInFlight: 50, PullWait: 100 * time.Millisecond})
	require.NoError(t, err)
	router, err := bus.NewRouter(bustest.Logger(), patience)
	require.NoError(t, err)

	var begun, finished atomic.Int32
	busy, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	router.AddConsumerHandler("h", "topic", sub, func(m *message.Message) error {
		if begun.Add(1) >= 50 {
			once.Do(func() { close(busy) })
		}
		<-proceed
		if err := m.Context().Err(); err != nil {
			return fmt.Errorf("the message's context must outlive the router's: %w", err)
		}
		finished.Add(1)
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

func TestCloseGivesBackWhatNobodyTook(t *testing.T) {
	r := newRig(t, ackWait(time.Minute))
	r.publish(t, 10)
	sub, out := r.subscribe(t, bus.SubscriberConfig{MaxInFlight: 10})
	receive(t, out).Ack()
	require.NoError(t, sub.Close())
	require.NoError(t, sub.Close())
	_, open := <-out
	assert.False(t, open)
	_, err := sub.Subscribe(t.Context(), "topic")
	require.ErrorIs(t, err, bus.ErrClosed)

	_, out = r.subscribe(t, bus.SubscriberConfig{})
	for range 9 { // well before AckWait
		receive(t, out).Ack()
	}
	r.settled(t, 10)
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	r := newRig(t, ackWait(500*time.Millisecond))
	r.publish(t, 1)
	sub, out := r.subscribe(t, bus.SubscriberConfig{CloseTimeout: 50 * time.Millisecond})
	m := receive(t, out)
	require.NoError(t, sub.Close())
	require.Error(t, m.Context().Err(), "the handler must be told")
	_, out = r.subscribe(t, bus.SubscriberConfig{})
	receive(t, out).Ack()
	r.settled(t, 1)
}

func TestRestartOfTheBrokerLosesNothing(t *testing.T) {
	const total = 2000
	r := newRig(t, ackWait(time.Second))
	p := r.publisher(t, bus.PublisherConfig{Timeout: 2 * time.Second})
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{Resolve: resolve, MaxInFlight: 32, PullWait: 100 * time.Millisecond})
	require.NoError(t, err)
	router, err := bus.NewRouter(bustest.Logger(), patience)
	require.NoError(t, err)

	var mu sync.Mutex
	seen := map[string]bool{}
	quarter, all := make(chan struct{}), make(chan struct{})
	router.AddConsumerHandler("h", "topic", sub, func(m *message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		before := len(seen)
		seen[string(m.Payload)] = true
		if len(seen) == before {
			return nil
		}
		switch len(seen) {
		case total / 4:
			close(quarter)
		case total:
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
	case <-time.After(patience):
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
			_, out := r.subscribe(t, bus.SubscriberConfig{OnLost: func(err error) { lost <- err }})
			require.NoError(t, remove(r))
			require.ErrorIs(t, receive(t, lost), bus.ErrConsumerLost)

			silent(t, lost, 200*time.Millisecond) // told once
			r.provision(t)
			r.publish(t, 1)
			receive(t, out).Ack()
			r.settled(t, 1)
		})
	}
	t.Run("never there", func(t *testing.T) {
		r := newRig(t)
		sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{Resolve: func(context.Context, string) (bus.ConsumerRef, error) {
			return bus.ConsumerRef{Stream: stream, Name: "nobody"}, nil
		}})
		require.NoError(t, err)
		_, err = sub.Subscribe(t.Context(), "topic")
		require.ErrorIs(t, err, bus.ErrConsumerLost)
	})
}

func TestClosedConnectionEndsTheSubscription(t *testing.T) {
	r := newRig(t)
	_, out := r.subscribe(t, bus.SubscriberConfig{})
	r.conn.Close()
	require.Eventually(t, func() bool {
		select {
		case _, open := <-out:
			return !open
		default:
			return false
		}
	}, patience, tick)
}

func TestRouterSurvivesPanics(t *testing.T) {
	r := newRig(t)
	r.publish(t, 1)
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{
		Resolve: resolve, PullWait: 100 * time.Millisecond, Backoff: func(uint64) time.Duration { return 0 },
	})
	require.NoError(t, err)
	router, err := bus.NewRouter(slog.New(slog.DiscardHandler), patience)
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
