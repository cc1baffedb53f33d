package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFree(t *testing.T) {
	dir := t.TempDir()
	n, err := Free(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}

	require.NoError(t, err)
	require.Greater(t, n, uint64(4096), "a test needs some room")

	missing := filepath.Join(dir, "missing")
	_, err = Free(missing)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, missing)
}
