package program

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
)

// TestBound: the live heap can raise the usual limit, and the container's limit caps both.
func TestBound(t *testing.T) {
	t.Parallel()

	const mib = 1 << 20
	for _, tc := range []struct{ soft, kept, most, want int64 }{
		{48 * mib, 0, 0, 48 * mib}, {48 * mib, 32 * mib, 0, 48 * mib}, {48 * mib, 80 * mib, 0, 120 * mib},
		{48 * mib, 60 * mib, 102 * mib, 90 * mib}, {48 * mib, 80 * mib, 102 * mib, 102 * mib}, {160 * mib, 0, 102 * mib, 102 * mib},
	} {
		require.Equal(t, tc.want, bound(tc.soft, tc.kept, tc.most), tc)
	}
}

// TestAtEachCollection: f is called after one collection, and after the next.
func TestAtEachCollection(t *testing.T) {
	t.Parallel()

	called := make(chan struct{}, 1)
	atEachCollection(func() {
		select {
		case called <- struct{}{}:
		default:
		}
	})

	for range 3 {
		await.True(t, func() bool {
			runtime.GC()

			select {
			case <-called:
				return true
			default:
				return false
			}
		}, time.Minute)
	}

	require.Positive(t, kept())
}
