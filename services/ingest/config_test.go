package ingest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatAKilledTryLeavesBehindIsRemoved checks that the files with which directories are tried do not pile up
// there.
func TestWhatAKilledTryLeavesBehindIsRemoved(t *testing.T) {
	t.Parallel()

	cfg := Config{CSVDirectory: t.TempDir(), ProcessedDirectory: t.TempDir(), FailedDirectory: t.TempDir(), Move: true}
	left := filepath.Join(cfg.ProcessedDirectory, probe+"123")
	other := filepath.Join(cfg.ProcessedDirectory, "bobo.csv")
	for _, path := range []string{left, other} {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}

	require.NoError(t, cfg.prepare())
	require.NoFileExists(t, left)
	require.FileExists(t, other)

	entries, err := os.ReadDir(cfg.FailedDirectory)
	require.NoError(t, err)
	require.Empty(t, entries)
}
