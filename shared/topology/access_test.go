package topology

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
)

func TestMatches(t *testing.T) {
	t.Parallel()

	for _, tc := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.b.c", false},
		{"a.b.c", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"a.*.c", "a.b.c", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{">", "a", true},
		{"*", "a.b", false},
		{"$JS.API.CONSUMER.CREATE.UPDATES.*", "$JS.API.CONSUMER.CREATE.UPDATES.publisher-1", true},
	} {
		require.Equal(t, tc.want, covers(tc.pattern, tc.subject), "%s %s", tc.pattern, tc.subject)
	}
}

func TestAccessIsWhatTheServerTells(t *testing.T) {
	t.Parallel()

	for name, tc := range map[string]struct {
		answer   string
		may, not []string
	}{
		"nothing is forbidden":  {`{"server":{},"data":{"user":"x","account":"$G"}}`, []string{"a"}, nil},
		"only receiving is":     {`{"data":{"permissions":{"subscribe":{"allow":["x"]}}}}`, []string{"a"}, nil},
		"some is allowed":       {`{"data":{"permissions":{"publish":{"allow":["a.*","b"]}}}}`, []string{"a.x", "b"}, []string{"a", "c"}},
		"some of it is not":     {`{"data":{"permissions":{"publish":{"allow":["a.*"],"deny":["a.c"]}}}}`, []string{"a.b"}, []string{"a.c"}},
		"only some is denied":   {`{"data":{"permissions":{"publish":{"deny":["a.>"]}}}}`, []string{"b"}, []string{"a.b"}},
		"permissions are empty": {`{"data":{"permissions":{}}}`, []string{"a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAccess([]byte(tc.answer))
			require.NoError(t, err)

			for _, s := range tc.may {
				require.True(t, got.may(s), s)
			}

			for _, s := range tc.not {
				require.False(t, got.may(s), s)
			}
		})
	}

	_, err := readAccess([]byte("gibberish"))
	require.Error(t, err)
}

// TestOldServersAreRefused: a server that silently drops atomic batches is recognised by its API level.
func TestOldServersAreRefused(t *testing.T) {
	t.Parallel()

	for _, tc := range []struct {
		version string
		level   int
		good    bool
	}{
		{"2.10.29", 0, false}, {"2.11.9", 1, false}, {"2.12.0-preview", 2, false},
		{"2.12.0", 3, true}, {"2.14.0", 4, true}, {"2.15.2", 5, true},
	} {
		err := checkLevel(tc.level, tc.version)
		if tc.good {
			require.NoError(t, err, tc.version)
			continue
		}

		require.ErrorContains(t, err, "use nats-server 2.12 or newer")
		require.ErrorContains(t, err, tc.version)
	}
}

// TestBucketsAreLaidOutAsNATSDoes: the client library makes the same stream for a bucket.
func TestBucketsAreLaidOutAsNATSDoes(t *testing.T) {
	t.Parallel()

	js := bustest.Start(t).Connect(t).JS
	for i, b := range (Settings{Replicas: 1, CallTimeout: 1}).Buckets() {
		t.Run(fmt.Sprint(b.Bucket), func(t *testing.T) {
			b.Replicas = max(b.Replicas, 1)
			_, err := js.CreateKeyValue(t.Context(), b)
			require.NoError(t, err)
			s, err := js.Stream(t.Context(), bucketStream(b.Bucket))
			require.NoError(t, err)

			want := s.CachedInfo().Config
			want.Metadata = nil      // the server's own
			want.AllowRollup = false // with a header, anybody who writes one key could remove all others

			var mine jetstream.StreamConfig
			for _, p := range (Settings{Replicas: 1, CallTimeout: 1}).resources() {
				if p.Name == b.Bucket {
					mine = p.stream
				}
			}

			got, err := js.UpdateStream(t.Context(), mine)
			require.NoError(t, err)

			config := got.CachedInfo().Config
			config.Metadata = nil
			require.Equal(t, want, config, "bucket %d", i)
		})
	}
}
