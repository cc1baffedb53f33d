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

// provisioned is a subscriber that makes a stream for each topic and a consumer for each group, as deployment does in
// production.
type provisioned struct {
	*bus.Subscriber
	conn  *bus.Conn
	group string
}

// SubscribeInitialize lets the suite provision before it publishes.
func (p provisioned) SubscribeInitialize(topic string) error {
	ctx := context.Background()
	if _, err := p.conn.JS.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: topic, Subjects: []string{topic}}); err != nil {
		return err
	}

	_, err := p.conn.JS.CreateOrUpdateConsumer(ctx, topic, jetstream.ConsumerConfig{
		Durable: p.group, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 3 * time.Second, MaxAckPending: 10000,
	})

	return err
}

func (p provisioned) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := p.SubscribeInitialize(topic); err != nil {
		return nil, err
	}
	return p.Subscriber.Subscribe(ctx, topic)
}

// TestWatermillSuite runs Watermill's own tests for implementations on the publisher and the subscriber that the
// services use, with batches of one message. What is switched off, and why:
//   - ExactlyOnceDelivery: JetStream delivers at least once, and so does this package.
//   - NewSubscriberReceivesOldMessages: a durable consumer remembers what it has delivered, whoever subscribes.
//   - RequireSingleInstance: publishers and subscribers may be any number.
//   - ContextPreserved: a context does not travel over the wire.
//   - RestartServiceCommand: the suite's TestReconnect (Watermill 1.5.1) has a data race of its own and leaves a
//     goroutine behind. TestRestartOfTheBrokerLosesNothing does the same.
func TestWatermillSuite(t *testing.T) {
	conn := bustest.Start(t).Connect(t)
	open := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		pub, err := bus.NewPublisher(conn, bus.PublisherConfig{})
		require.NoError(t, err)
		sub, err := bus.NewSubscriber(conn, bus.SubscriberConfig{
			Source: func(topic string) bus.Source {
				return bus.PullSource(conn, bus.PullConfig{
					Stream: topic, Consumer: group, MaxItems: 1, PullWait: 100 * time.Millisecond, Logger: bustest.Logger(),
				})
			},
			CloseTimeout: 2 * time.Second, Backoff: func(uint64) time.Duration { return 10 * time.Millisecond }, Logger: bustest.Logger(),
		})
		require.NoError(t, err)
		// The suite does not close everything that it opens.
		t.Cleanup(func() { require.NoError(t, errors.Join(pub.Close(), sub.Close())) })

		return pub, provisioned{Subscriber: sub, conn: conn, group: group}
	}
	features := tests.Features{
		ConsumerGroups: true, Persistent: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true,
		ForceShort: testing.Short(),
	}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) { return open(t, "group") }, open)
}
