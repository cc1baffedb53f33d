package broker

import (
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatIsNoDamage: a store that cannot be read or written for a reason outside the store is left as it is.
func TestWhatIsNoDamage(t *testing.T) {
	t.Parallel()

	for reason, want := range map[error][2]bool{ // no room, not of the store
		syscall.ENOSPC: {true, false}, syscall.EDQUOT: {true, false},
		syscall.EMFILE: {false, true}, syscall.ENFILE: {false, true}, syscall.EACCES: {false, true}, syscall.EPERM: {false, true}, syscall.EROFS: {false, true},
		syscall.EIO: {false, true}, syscall.ENOMEM: {false, true}, syscall.EFBIG: {false, true}, syscall.ESTALE: {false, true}, syscall.ENOTCONN: {false, true},
		syscall.EHOSTDOWN: {false, true}, syscall.ETIMEDOUT: {false, true}, syscall.EBUSY: {false, true}, syscall.ENXIO: {false, true},
		syscall.EISDIR: {false, false}, syscall.ENOTDIR: {false, false}, syscall.ENOENT: {false, false}, fs.ErrInvalid: {false, false},
	} {
		says := fmt.Sprintf("Error recovering stream: %v", &fs.PathError{Op: "open", Path: "/data/1.blk", Err: reason})
		require.Equal(t, want, [2]bool{noRoom(says), notOfStore(says)}, says)
	}

	for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		require.ErrorIs(t, storeError("/data", &fs.PathError{Op: "write", Path: "/data/probe", Err: err}), ErrDiskFull)
	}
}
