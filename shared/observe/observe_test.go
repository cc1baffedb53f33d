package observe_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/observe"
	"bobosync/shared/topology"
)

// TestEachPartThatIsMissingIsNamed: without any one stream, bucket or consumer, something stops or is not kept.
func TestEachPartThatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	var s topology.Settings

	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{EntriesMaxBytes: 8 << 20}, topology.Everyone))
	require.Empty(t, observe.Facts(t.Context(), conn).Missing)

	var want []string
	for _, stream := range s.Streams() {
		for _, consumer := range s.Consumers()[stream.Name] {
			want = append(want, "consumer "+consumer.Durable)
			require.NoError(t, conn.JS.DeleteConsumer(t.Context(), stream.Name, consumer.Durable))
		}
	}

	for _, bucket := range s.Buckets() {
		want = append(want, "bucket "+bucket.Bucket)
		require.NoError(t, conn.JS.DeleteKeyValue(t.Context(), bucket.Bucket))
	}

	found := observe.Facts(t.Context(), conn)
	require.Nil(t, found.Unreachable)
	require.Equal(t, slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(found.Missing)))
}
