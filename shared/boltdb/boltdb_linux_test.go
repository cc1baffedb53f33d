package boltdb

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestNoMemoryIsNoDamage: a file that the system does not map, or lock, is as good as it was, and stays where it is. The memory of this
// process is bounded for that, so another one does it.
func TestNoMemoryIsNoDamage(t *testing.T) {
	path := os.Getenv("BOLTDB_TEST_FILE")
	if path == "" {
		path = filepath.Join(t.TempDir(), "x.db")
		fill(t, path)
		require.NoError(t, os.Truncate(path, 8<<30)) // as large as that with free pages
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoMemoryIsNoDamage$")

		again.Env = append(os.Environ(), "BOLTDB_TEST_FILE="+path)
		says, err := again.CombinedOutput()
		require.NoError(t, err, string(says))
		aside, err := filepath.Glob(path + damagedSuffix + "*")
		require.NoError(t, err)
		require.Empty(t, aside)

		return
	}

	require.NoError(t, unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: 4 << 30, Max: 4 << 30}))

	_, err := Open(path, 1, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, unix.ENOMEM)
	require.ErrorContains(t, err, path)
}
