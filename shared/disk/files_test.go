package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReplace: a reader sees either the old or the new content in full, and no other file is left.
func TestReplace(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path+".part", []byte("of a try that was killed"), 0o600))
	require.NoError(t, Replace(path, []byte("1")))

	done := make(chan error)
	go func() {
		var err error
		for range 200 {
			err = errors.Join(err, Replace(path, []byte("12345")), Replace(path, []byte("1")))
		}

		done <- err
	}()

	for writing := true; writing; {
		select {
		case err := <-done:
			require.NoError(t, err)

			writing = false
		default:
		}

		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, []string{"1", "12345"}, string(text))
	}

	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Error(t, Replace(filepath.Join(path, "x"), nil))
}

func TestCause(t *testing.T) {
	t.Parallel()
	_, err := os.Open(filepath.Join(t.TempDir(), "none"))
	require.NotContains(t, Cause(err).Error(), "none")
	require.ErrorIs(t, Cause(err), fs.ErrNotExist)
	require.NoError(t, Remove(filepath.Join(t.TempDir(), "none")))
}
