package harness

import (
	"errors"
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

// Used returns how many bytes, and how many files, are in use of a file system.
func Used(dir string) (bytes, files uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the room of %s: %w", dir, err)
	}

	return (s.Blocks - s.Bfree) * uint64(s.Bsize), s.Files - s.Ffree, nil
}

// leaveTries is how often Leave looks again when more was written since it looked.
const leaveTries = 1000

// Leave makes a file system that Mount has mounted so small, or so large, that so many bytes can be written to it and so many files made
// in it. Nothing is written for that, and whoever deletes something has its room.
func Leave(dir string, bytes, files uint64) (err error) {
	for range leaveTries {
		usedBytes, usedFiles, err := Used(dir)
		if err != nil {
			return err
		}

		err = syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d,nr_inodes=%d", usedBytes+bytes, usedFiles+files))
		if err == nil {
			return nil
		}

		if !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("change the size of %s: %w", dir, err)
		}
	}

	return fmt.Errorf("more is written to %s all the time", dir)
}
