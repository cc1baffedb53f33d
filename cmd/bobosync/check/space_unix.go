//go:build linux || darwin

package check

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diskSpace asks the file system that holds path.
func diskSpace(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}
	size := uint64(st.Bsize)
	return Space{Free: st.Bavail * size, Total: st.Blocks * size, NoFiles: st.Files > 0 && st.Ffree == 0}, nil
}
