package topology_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/broker"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

// TestASmallBrokerGetsSmallerStreams: the size of the entries' stream follows the room that there is, and grows with
// it. The setting is reported together with what is lacking.
func TestASmallBrokerGetsSmallerStreams(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	wanted := settings
	wanted.EntriesMaxBytes = 2 << 30
	for _, c := range []struct{ room, size int64 }{
		{90 << 20, 64 << 20}, {90 << 20, 64 << 20}, {1 << 30, 1 << 30}, {90 << 20, 1 << 30}, {4 << 30, 2 << 30},
	} {
		server, err := broker.Start(t.Context(), broker.Options{
			StoreDir: dir, Port: broker.RandomPort, MaxStore: c.room, SyncLazily: true, Logger: bustest.Logger(),
		})
		require.NoError(t, err)
		nc, err := nats.Connect(server.ClientURL())
		require.NoError(t, err)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		var log bytes.Buffer
		require.NoError(t, topology.Provision(t.Context(), js, wanted, topology.Everyone, topology.WithLog(slog.New(slog.NewTextHandler(&log, nil)))))
		entries, err := js.Stream(t.Context(), topology.StreamEntries)
		require.NoError(t, err)
		require.Equal(t, c.size, entries.CachedInfo().Config.MaxBytes, "with room for %d", c.room)

		if c.size < wanted.EntriesMaxBytes {
			require.Contains(t, log.String(), "lower ENTRIES_MAX_BYTES")
			findings, err := topology.Survey(t.Context(), js, wanted)
			require.NoError(t, err)
			require.ErrorIs(t, findings[0].Apply(t.Context(), js), topology.ErrNoRoom)
		} else {
			require.Empty(t, log.String())
		}

		nc.Close()
		require.NoError(t, server.Shutdown(t.Context()))
	}
}

func TestABrokerWithoutRoomIsNamed(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t, func(o *broker.Options) { o.MaxStore = 4 << 20 })
	wanted := settings
	wanted.EntriesMaxBytes = 2 << 30
	err := topology.Provision(t.Context(), server.Connect(t).JS, wanted, topology.Everyone)
	require.ErrorIs(t, err, topology.ErrNoRoom)
	require.ErrorContains(t, err, "make stream ENTRIES: the broker has no room for it: make room on its disk, or lower ENTRIES_MAX_BYTES")
}

// TestTheHistoryTakesTheRoomThatThereIs: at a broker without room for its permitted size, the history is made smaller,
// or without a size. An existing history is not made so small that it could lose something.
func TestTheHistoryTakesTheRoomThatThereIs(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		room, before, want, made int64
	}{
		{4 << 30, 0, 1 << 30, 1 << 30},
		{100 << 20, 0, 1 << 30, 32 << 20},
		{66 << 20, 0, 1 << 30, -1},
		{100 << 20, -1, 1 << 30, -1},
		{4 << 30, -1, 1 << 30, 1 << 30},
		{4 << 30, 1 << 29, 1 << 30, 1 << 30},
	} {
		server := bustest.Start(t, func(o *broker.Options) { o.MaxStore = c.room })
		js := server.Connect(t).JS
		wanted := settings
		wanted.EntriesMaxBytes = 64 << 20
		if wanted.HistoryMaxBytes = c.before; c.before != 0 {
			require.NoError(t, topology.Provision(t.Context(), js, wanted, topology.Everyone))
		}

		wanted.HistoryMaxBytes = c.want
		require.NoError(t, topology.Provision(t.Context(), js, wanted, topology.Everyone))
		s, err := js.Stream(t.Context(), topology.StreamHistory)
		require.NoError(t, err)
		require.Equal(t, c.made, s.CachedInfo().Config.MaxBytes, "%+v", c)
	}
}
