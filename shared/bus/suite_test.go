package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

// provisioner makes a stream for each topic and a consumer for each group, as deployment does in production.
type provisioner struct {
	conn  *bus.Conn
	group string
}

func (p provisioner) resolve(ctx context.Context, topic string) (bus.ConsumerRef, error) {
	_, err := p.conn.JS.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: topic, Subjects: []string{topic}})
	if err != nil {
		return bus.ConsumerRef{}, err
	}
	_, err = p.conn.JS.CreateOrUpdateConsumer(ctx, topic, jetstream.ConsumerConfig{
		Durable: p.group, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 3 * time.Second, MaxAckPending: 10000,
	})
	return bus.ConsumerRef{Stream: topic, Name: p.group}, err
}

// initialized lets the suite provision before it publishes.
type initialized struct {
	message.Subscriber
	provisioner
}

func (s initialized) SubscribeInitialize(topic string) error {
	_, err := s.resolve(context.Background(), topic)
	return err
}

func suite(t *testing.T, b *bustest.Server, maxInFlight int, features tests.Features) {
	conn := b.Connect(t)
	open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		pub, err := bus.NewPublisher(conn, bus.PublisherConfig{})
		require.NoError(t, err)
		p := provisioner{conn: conn, group: group}
		sub, err := bus.NewSubscriber(conn, bus.SubscriberConfig{
			Resolve: p.resolve, MaxInFlight: maxInFlight, Logger: bustest.Logger(),
			PullWait: 100 * time.Millisecond, CloseTimeout: 2 * time.Second,
			Backoff: func(uint64) time.Duration { return 10 * time.Millisecond },
		})
		require.NoError(t, err)
		// The suite does not close all that it opens.
		t.Cleanup(func() { require.NoError(t, errors.Join(pub.Close(), sub.Close())) })
		return pub, initialized{Subscriber: sub, provisioner: p}
	}
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) { return open(t, "group") },
		open)
}

// TestWatermillSuite runs Watermill's own tests for implementations. What is switched off, and why:
//   - ExactlyOnceDelivery: JetStream delivers at least once, and so does this package.
//   - GuaranteedOrder (first run): several messages are in handlers at once. With one in flight (second run) it holds,
//     for a single subscriber.
//   - NewSubscriberReceivesOldMessages: a durable consumer remembers what it has delivered, whoever subscribes.
//   - RequireSingleInstance: publishers and subscribers may be any number.
//   - ContextPreserved: a context does not travel over the wire.
//   - RestartServiceCommand: the suite's TestReconnect (Watermill 1.5.1) has a data race of its own and leaves a
//     goroutine behind. TestRestartOfTheBrokerLosesNothing does the same.
func TestWatermillSuite(t *testing.T) {
	features := tests.Features{
		ConsumerGroups: true,
		Persistent:     true,
		ForceShort:     testing.Short(),
	}
	t.Run("many in flight", func(t *testing.T) {
		suite(t, bustest.Start(t), 100, features)
	})
	t.Run("in order", func(t *testing.T) {
		f := features
		f.GuaranteedOrder, f.GuaranteedOrderWithSingleSubscriber = true, true
		suite(t, bustest.Start(t), 1, f)
	})
}
