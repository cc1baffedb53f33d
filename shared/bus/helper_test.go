package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

const (
	timeout = 20 * time.Second // for what must happen sooner or later
	tick    = 5 * time.Millisecond
	stream  = "S"
	durable = "C"
	subject = "s.one"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(bustest.LeftBehind))
}

// rig is a broker with one stream and one consumer.
type rig struct {
	*bustest.Server
	conn *bus.Conn
	cons jetstream.Consumer
}

type tweak func(*jetstream.StreamConfig, *jetstream.ConsumerConfig)

func newRig(tb testing.TB, tweaks ...tweak) *rig {
	tb.Helper()
	r := &rig{Server: bustest.Start(tb)}
	r.conn = r.Connect(tb)
	r.provision(tb, tweaks...)

	return r
}

func (r *rig) provision(tb testing.TB, tweaks ...tweak) {
	tb.Helper()

	sc := jetstream.StreamConfig{Name: stream, Subjects: []string{"s.>"}, AllowAtomicPublish: true}
	cc := jetstream.ConsumerConfig{Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 10 * time.Second, MaxAckPending: 10000}
	for _, t := range tweaks {
		t(&sc, &cc)
	}

	bustest.Recreate(tb, func() error {
		_, err := r.conn.JS.CreateOrUpdateStream(tb.Context(), sc)
		return err
	})
	var err error
	r.cons, err = r.conn.JS.CreateOrUpdateConsumer(tb.Context(), stream, cc)
	require.NoError(tb, err)
}

func ackWait(d time.Duration) tweak {
	return func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig) { c.AckWait = d }
}

func (r *rig) publisher(tb testing.TB, cfg bus.PublisherConfig) *bus.Publisher {
	tb.Helper()

	p, err := bus.NewPublisher(r.conn, cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, p.Close()) })

	return p
}

// publish stores n messages with the payloads 0, 1, 2…
func (r *rig) publish(tb testing.TB, n int) {
	tb.Helper()
	require.NoError(tb, r.publisher(tb, bus.PublisherConfig{}).Publish(subject, numbered(n)...))
}

func numbered(n int) []*message.Message {
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = message.NewMessage(fmt.Sprintf("uuid-%d", i), fmt.Append(nil, i))
	}

	return msgs
}

// subscribe hands out the batches that pull makes of the messages of the rig's consumer.
func (r *rig) subscribe(tb testing.TB, pull bus.PullConfig, cfg bus.SubscriberConfig) (*bus.Subscriber, <-chan *message.Message) {
	tb.Helper()

	if cfg.Source == nil {
		cfg.Source = r.source(pull)
	}

	if cfg.CloseTimeout == 0 {
		cfg.CloseTimeout = timeout
	}

	cfg.Logger = bustest.Logger()
	sub, err := bus.NewSubscriber(r.conn, cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, sub.Close()) })

	out, err := sub.Subscribe(context.Background(), "topic")
	require.NoError(tb, err)

	return sub, out
}

func (r *rig) source(pull bus.PullConfig) func(string) bus.Source {
	if pull.Consumer == "" {
		pull.Stream, pull.Consumer = stream, durable
	}

	if pull.PullWait == 0 {
		pull.PullWait = 100 * time.Millisecond
	}

	pull.Logger = bustest.Logger()

	return func(string) bus.Source { return bus.PullSource(r.conn, pull) }
}

// batch receives a message and its batch.
func batch(tb testing.TB, out <-chan *message.Message) (*message.Message, *bus.Batch) {
	tb.Helper()
	m := receive(tb, out)
	b := bus.BatchFrom(m.Context())
	require.NotNil(tb, b)
	require.NotEmpty(tb, b.Items)

	return m, b
}

func receive[T any](tb testing.TB, c <-chan T) T {
	tb.Helper()

	select {
	case v, ok := <-c:
		require.True(tb, ok, "channel is closed")
		return v
	case <-time.After(timeout):
		require.FailNow(tb, "nothing came")
		panic("unreachable")
	}
}

func silent[T any](tb testing.TB, c <-chan T, d time.Duration) {
	tb.Helper()

	select {
	case v, ok := <-c:
		require.Failf(tb, "something came", "%v %v", v, ok)
	case <-time.After(d):
	}
}

func (r *rig) consumerInfo(tb testing.TB) *jetstream.ConsumerInfo {
	tb.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	ci, err := r.cons.Info(ctx)
	require.NoError(tb, err)

	return ci
}

// settled waits until the consumer has nothing pending, and n messages acknowledged.
func (r *rig) settled(tb testing.TB, n int) {
	tb.Helper()
	await.True(tb, func() bool {
		ci := r.consumerInfo(tb)
		return ci.NumAckPending == 0 && ci.NumPending == 0 && ci.AckFloor.Stream == uint64(n)
	}, timeout)
}

// own returns n messages, each with a subject of its own, and with message ids if id is not nil.
func own(n int, id func(int) string) []*message.Message {
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = bus.NewMessage(fmt.Sprintf("s.%d", i), fmt.Append(nil, i))
		if id != nil {
			msgs[i].Metadata.Set(bus.MsgIDKey, id(i))
		}
	}

	return msgs
}

// closed waits until c is closed.
func closed(tb testing.TB, c <-chan struct{}) {
	tb.Helper()

	select {
	case <-c:
	case <-time.After(timeout):
		require.FailNow(tb, "it never happened")
	}
}
