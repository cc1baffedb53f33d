package harness

import (
	"errors"
	"fmt"
	"syscall"
)

// Mount mounts a file system in memory, of the given size in MiB, until end is called. Only root may do so.
func Mount(dir string, mebibytes int) (end func() error, err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		return nil, fmt.Errorf("mount a small file system: %w", err)
	}
	return func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }, nil
}

// Used returns how many bytes and how many files of a file system are in use.
func Used(dir string) (bytes, files uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the room of %s: %w", dir, err)
	}

	return (s.Blocks - s.Bfree) * uint64(s.Bsize), s.Files - s.Ffree, nil
}

// leaveTries is how often Leave tries again if more was written after it had measured.
const leaveTries = 1000

// Leave resizes a file system that Mount has mounted, so that the given number of bytes can be written to it and the
// given number of files created. It writes nothing, and whatever is deleted later makes room as usual.
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
