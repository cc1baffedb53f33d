package program

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMemoryLimit: of the unit or of the container.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		member, unit, top string
		want              int64
	}{
		{"0::/\n", "", "134217728\n", 134217728}, {"0::/system.slice/x.service\n", "300\n", "max\n", 300}, {"0::/system.slice/x.service\n", "max\n", "600\n", 600},
		{"0::/elsewhere\n", "", "max\n", 0}, {"", "", "", 0}, {"12:memory:/x\n", "", "", 0},
	} {
		dir := t.TempDir()
		write := func(name, text string) {
			if text == "" {
				return
			}
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		write("member", tc.member)
		write("root/system.slice/x.service/memory.max", tc.unit)
		write("root/memory.max", tc.top)
		require.Equal(t, tc.want, memoryLimit(filepath.Join(dir, "member"), filepath.Join(dir, "root")), tc)
	}
}

// TestBound: what is kept beats what is usual, and the container's limit beats both.
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

// TestAtEachCollection: it is called after one, and after the next.
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
		require.Eventually(t, func() bool {
			runtime.GC()
			select {
			case <-called:
				return true
			default:
				return false
			}
		}, time.Minute, 10*time.Millisecond)
	}
	require.Positive(t, kept())
}
