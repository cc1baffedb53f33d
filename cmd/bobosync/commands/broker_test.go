package commands

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWrongSettingsHaveTheirStatus checks that a command exits with 2 if its settings cannot be used.
func TestWrongSettingsHaveTheirStatus(t *testing.T) {
	r := newResponders(t)
	file := filepath.Join(t.TempDir(), "a.csv")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	t.Setenv("MAX_CLOCK_SKEW", "long")
	r.fails(2, "", "files", "try", file)
	t.Setenv("STREAM_REPLICAS", "9")
	r.fails(2, "", "console", "open")
}
