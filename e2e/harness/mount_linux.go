package harness

import (
	"fmt"
	"syscall"
)

// Mount mounts a file system of so many MiB in memory, for as long as end is not called. Only root may.
func Mount(dir string, mebibytes int) (end func() error, err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		return nil, fmt.Errorf("mount a small file system: %w", err)
	}
	return func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }, nil
}
