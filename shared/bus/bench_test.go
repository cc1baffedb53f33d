package bus_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

var payload = make([]byte, 200)

func benchRig(b *testing.B, opts ...bustest.Option) *rig {
	b.Helper()
	r := &rig{Server: bustest.Start(b, opts...)}
	r.conn = r.Connect(b)
	r.provision(b, func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig) { c.MaxAckPending = 50_000 })

	return r
}

// BenchmarkPublish measures messages; a call carries 500.
func BenchmarkPublish(b *testing.B) {
	const call = 500
	for name, opts := range map[string][]bustest.Option{"lazy": nil, "synced": {bustest.SyncAlways()}} {
		b.Run(name+"/each", func(b *testing.B) {
			p := benchRig(b, opts...).publisher(b, bus.PublisherConfig{})
			for n := 0; n < b.N; n += call {
				msgs := make([]*message.Message, call)
				for i := range msgs {
					msgs[i] = message.NewMessage("u", payload)
				}

				require.NoError(b, p.Publish(subject, msgs...))
			}

			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
		b.Run(name+"/batch", func(b *testing.B) {
			p := benchRig(b, opts...).publisher(b, bus.PublisherConfig{})
			for n := 0; n < b.N; n += call {
				msgs := make([]*message.Message, call)
				for i := range msgs {
					msgs[i] = bus.NewMessage(subject, payload)
				}

				_, err := p.PublishBatch(b.Context(), msgs...)
				require.NoError(b, err)
			}

			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func fill(b *testing.B, r *rig) {
	b.Helper()

	p := r.publisher(b, bus.PublisherConfig{Timeout: time.Minute})
	for left := b.N; left > 0; left -= bus.MaxBatch {
		msgs := make([]*message.Message, min(left, bus.MaxBatch))
		for i := range msgs {
			msgs[i] = bus.NewMessage(subject, payload)
		}

		_, err := p.PublishBatch(b.Context(), msgs...)
		require.NoError(b, err)
	}

	b.ResetTimer()
}

// BenchmarkSubscribe measures messages through a Router with an idle handler.
func BenchmarkSubscribe(b *testing.B) {
	for _, items := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(items), func(b *testing.B) {
			r := benchRig(b)
			fill(b, r)
			sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{Source: r.source(bus.PullConfig{MaxItems: items})})
			require.NoError(b, err)
			consume(b, sub, func(m *message.Message) int { return len(bus.BatchFrom(m.Context()).Items) })
		})
	}
}

// consume runs sub in a Router until b.N messages were handled.
func consume(b *testing.B, sub message.Subscriber, count func(*message.Message) int) {
	b.Helper()

	router, err := bus.NewRouter(bustest.Logger(), timeout)
	require.NoError(b, err)

	handled := make(chan int, 1000)

	router.AddConsumerHandler("h", "topic", sub, func(m *message.Message) error {
		handled <- count(m)
		return nil
	})

	ran := make(chan error, 1)
	go func() { ran <- router.Run(context.Background()) }()

	for n := 0; n < b.N; {
		n += <-handled
	}

	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	require.NoError(b, router.Close())
	require.NoError(b, <-ran)
}
