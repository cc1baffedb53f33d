package program

import (
	"os"
	"path/filepath"
	"testing"

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
