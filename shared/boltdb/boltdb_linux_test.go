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

// TestNoMemoryIsNoDamage: a file that the system cannot map, or lock, is undamaged, and stays where it is. The test
// bounds the memory of the process that opens it, so it does that in another process.
func TestNoMemoryIsNoDamage(t *testing.T) {
	path := os.Getenv("BOLTDB_TEST_FILE")
	if path == "" {
		path = filepath.Join(t.TempDir(), "x.db")
		fill(t, path)
		require.NoError(t, os.Truncate(path, 8<<30)) // as large as a file with that many free pages
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
