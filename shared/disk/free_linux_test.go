package disk

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestBlockSize(t *testing.T) {
	require.Equal(t, uint64(4096), BlockSize(&unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096}))
	require.Equal(t, uint64(512), BlockSize(&unix.Statfs_t{Bsize: 512}), "a file system that does not say")
}
