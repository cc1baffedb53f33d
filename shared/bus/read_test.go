package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

// TestRead: a whole stream in its order, of more than one batch, and the parts that can be selected.
func TestRead(t *testing.T) {
	t.Parallel()
	js := bustest.Start(t).Connect(t).JS
	ctx := t.Context()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, AllowDirect: true, MaxMsgsPerSubject: 4000})
	require.NoError(t, err)

	read := func(from bus.ReadFrom) (texts []string) {
		require.NoError(t, bus.Read(ctx, js, "S", from, func(data []byte, _ string) {
			texts = append(texts, string(data))
		}))
		return texts
	}
	require.Empty(t, read(bus.ReadFrom{}), "a stream without messages")

	const messages = 2500
	var middle time.Time
	for i := range messages {
		_, err := js.Publish(ctx, fmt.Sprintf("s.%d", i%5), fmt.Append(nil, i))
		require.NoError(t, err)

		if i == 1999 {
			m, err := stream.GetMsg(ctx, 2000)
			require.NoError(t, err)

			middle = m.Time
		}
	}

	all := read(bus.ReadFrom{})
	require.Len(t, all, messages)

	for i, text := range all {
		require.Equal(t, fmt.Sprint(i), text)
	}

	require.Len(t, read(bus.ReadFrom{Subject: "s.3"}), messages/5)
	require.Equal(t, all[1999:], read(bus.ReadFrom{Since: middle}))
	require.Equal(t, all[1500:], read(bus.ReadFrom{After: 1500}))
	var some []uint64
	require.NoError(t, bus.Scan(ctx, js, "S", bus.ReadFrom{After: 990}, func(m *jetstream.RawStreamMsg) bool {
		some = append(some, m.Sequence)
		return m.Sequence < 1002
	}))
	require.Equal(t, []uint64{991, 992, 993, 994, 995, 996, 997, 998, 999, 1000, 1001, 1002}, some, "it ends when told to")
	require.Empty(t, read(bus.ReadFrom{Subject: "s.9"}))
	require.Empty(t, read(bus.ReadFrom{Since: time.Now().Add(time.Hour)}))

	require.NoError(t, stream.Purge(ctx, jetstream.WithPurgeSequence(2401)))
	require.Equal(t, all[2400:], read(bus.ReadFrom{}))
	require.NoError(t, stream.Purge(ctx))
	require.Empty(t, read(bus.ReadFrom{}), "nothing is left of it")
	require.ErrorIs(t, bus.Read(ctx, js, "GONE", bus.ReadFrom{}, nil), jetstream.ErrStreamNotFound)
}
