package topology

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
)

// TestWhatNobodyAskedForIsFound: each setting by which a stream or a consumer could send or take messages past
// everyone's rights, or lose them, is reported, and fixed where a broker can change it.
func TestWhatNobodyAskedForIsFound(t *testing.T) {
	t.Parallel()
	js := bustest.Start(t).Connect(t).JS
	ctx := t.Context()
	s := Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}
	require.NoError(t, Provision(ctx, js, s, Everyone))

	find := func(name string) Finding {
		all, err := Survey(ctx, js, s)
		require.NoError(t, err)

		for _, f := range all {
			if f.Name == name {
				return f
			}
		}

		require.Fail(t, "no such part", name)

		return Finding{}
	}

	for want, change := range map[string]func(*jetstream.StreamConfig){
		"republish":     func(c *jetstream.StreamConfig) { c.RePublish = &jetstream.RePublish{Source: ">", Destination: "x.>"} },
		"sources":       func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: StreamUpdates}} },
		"allow msg ttl": func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"subject transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "bobo.dead.*", Destination: "x.{{wildcard(1)}}"}
		},
	} {
		stream, err := js.Stream(ctx, StreamDead)
		require.NoError(t, err)

		config := stream.CachedInfo().Config
		change(&config)
		_, err = js.UpdateStream(ctx, config)
		require.NoError(t, err, want)

		f := find(StreamDead)
		require.Len(t, f.Changes, 1, want)
		require.Equal(t, want, f.Changes[0].Setting)

		if err := f.Apply(ctx, js); want == "allow msg ttl" {
			require.Error(t, err, "a broker does not take this back")
			require.NoError(t, js.DeleteStream(ctx, StreamDead))
			require.NoError(t, find(StreamDead).Apply(ctx, js))
		} else {
			require.NoError(t, err, want)
		}

		require.True(t, find(StreamDead).AsWanted(), want)
	}

	for want, change := range map[string]func(*jetstream.ConsumerConfig){
		"headers only": func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
		"max batch":    func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 },
	} {
		consumer, err := js.Consumer(ctx, StreamAcks, ConsumerIngestAcks)
		require.NoError(t, err)

		config := consumer.CachedInfo().Config
		change(&config)
		_, err = js.UpdateConsumer(ctx, StreamAcks, config)
		require.NoError(t, err, want)

		f := find(ConsumerIngestAcks)
		require.Len(t, f.Changes, 1, want)
		require.Equal(t, want, f.Changes[0].Setting)
		require.NoError(t, f.Apply(ctx, js), want)
		require.True(t, find(ConsumerIngestAcks).AsWanted(), want)
	}
}
