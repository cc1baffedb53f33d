package broker

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatWasSetAsideIsPruned: by age and by size, and the log says so. The latest stays while it is young, and so does
// anything that others put there.
func TestWhatWasSetAsideIsPruned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	aside := func(age time.Duration, bytes int64) string {
		path := filepath.Join(dir, asideDir, now.Add(-age).Format(asideForm))
		require.NoError(t, os.MkdirAll(filepath.Join(path, "streams"), 0o700))
		file := filepath.Join(path, "streams", "1.blk")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.NoError(t, os.Truncate(file, bytes)) // a sparse file takes no room

		return path
	}
	huge := aside(time.Hour, 2*asideBytes)
	tooMuch := aside(2*time.Hour, 1)
	old := aside(asideAge+time.Hour, 1)
	foreign := filepath.Join(dir, asideDir, "notes")
	require.NoError(t, os.Mkdir(foreign, 0o700))

	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	pruneAside(dir, now, log)
	require.DirExists(t, huge, "it is the latest")
	require.DirExists(t, foreign)

	for _, gone := range []string{tooMuch, old} {
		require.NoDirExists(t, gone)
		require.Contains(t, said.String(), filepath.Base(gone))
	}

	pruneAside(dir, now.Add(asideAge), log)
	require.NoDirExists(t, huge, "nothing is kept for ever")
	pruneAside(t.TempDir(), now, log)
}
