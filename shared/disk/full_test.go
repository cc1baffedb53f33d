package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatAFullDiskSays: as an error, and as the text that a server makes of it.
func TestWhatAFullDiskSays(t *testing.T) {
	t.Parallel()

	for _, full := range append(systemFull, syscall.ENOSPC, syscall.EDQUOT) {
		err := fmt.Errorf("store: %w", &fs.PathError{Op: "write", Path: "1.blk", Err: full})
		require.True(t, IsFull(err), err)
		require.True(t, SaysFull(err.Error()), err)
		require.True(t, SaysFull("Error writing: "+err.Error()+"; frozen"), err)
	}

	for _, other := range []error{nil, fs.ErrPermission, syscall.EIO, syscall.EROFS, syscall.EMFILE, errors.New("JetStream resource limits exceeded")} {
		require.False(t, IsFull(other), other)
		require.False(t, SaysFull(fmt.Sprint(other)), other)
	}
}
