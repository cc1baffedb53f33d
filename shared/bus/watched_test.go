package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
)

// TestABrokerThatStartsAnewBeginsAnew: failures of the previous server say nothing about a new one, but a mere
// reconnect does not clear them.
func TestABrokerThatStartsAnewBeginsAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)

	never, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()

	_, err := r.conn.JS.Publish(never, "bobo.seldom.a", nil)
	require.Error(t, err)
	require.NoError(t, r.DropClients())
	await.True(t, func() bool { return !r.conn.Restored().IsZero() }, timeout)
	await.True(t, r.conn.Connected, timeout)
	require.Contains(t, r.conn.Unstored(), "bobo.seldom.>")
	dropped := r.conn.Restored()
	r.Down(t)
	r.Up(t)
	await.True(t, func() bool { return r.conn.Restored().After(dropped) }, timeout)
	await.True(t, r.conn.Connected, timeout)
	require.Empty(t, r.conn.Unstored())
}

// TestBucketsAreWatched: writes to a bucket and messages that are published without a Publisher count as well.
func TestBucketsAreWatched(t *testing.T) {
	t.Parallel()
	conn := newRig(t).conn
	_, err := conn.JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "watched", History: 1})
	require.NoError(t, err)
	_, err = conn.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "WATCHED", Subjects: []string{"bobo.watched.*"}})
	require.NoError(t, err)
	kv, err := conn.JS.KeyValue(t.Context(), "watched")
	require.NoError(t, err)

	never, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()

	put := func(ctx context.Context) error { _, err := kv.Put(ctx, "a", nil); return err }
	for name, c := range map[string]struct {
		what  string
		store func(context.Context) error
		works func(context.Context) error
	}{
		"put":    {"bucket watched", put, put},
		"create": {"bucket watched", func(ctx context.Context) error { _, err := kv.Create(ctx, "a", nil); return err }, put},
		"update": {"bucket watched", func(ctx context.Context) error { _, err := kv.Update(ctx, "a", nil, 1); return err }, put},
		"delete": {"bucket watched", func(ctx context.Context) error { return kv.Delete(ctx, "a") }, put},
		"purge":  {"bucket watched", func(ctx context.Context) error { return kv.Purge(ctx, "a") }, put},
		"publish": {"bobo.watched.>", func(ctx context.Context) error { _, err := conn.JS.Publish(ctx, "bobo.watched.a", nil); return err },
			func(ctx context.Context) error { _, err := conn.JS.Publish(ctx, "bobo.watched.a", nil); return err }},
		"publish a message": {"bobo.watched.>", func(ctx context.Context) error {
			_, err := conn.JS.PublishMsg(ctx, nats.NewMsg("bobo.watched.a"))
			return err
		},
			func(ctx context.Context) error {
				_, err := conn.JS.PublishMsg(ctx, nats.NewMsg("bobo.watched.a"))
				return err
			}},
	} {
		require.Error(t, c.store(never), name)
		require.Contains(t, conn.Unstored(), c.what, name)
		require.NoError(t, c.works(t.Context()), name)
		require.Empty(t, conn.Unstored(), name)
	}
}
