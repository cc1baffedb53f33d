//go:build linux || darwin

package check

import (
	"fmt"

	"golang.org/x/sys/unix"

	"bobosync/shared/disk"
)

// diskSpace queries the file system that holds path.
func diskSpace(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", path, err)
	}

	size := blockSize(&st)

	return Space{Free: st.Bavail * size, Total: st.Blocks * size, NoFiles: disk.NoFiles(path)}, nil
}
