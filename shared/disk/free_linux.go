package disk

import "golang.org/x/sys/unix"

func free(path string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}

	return s.Bavail * BlockSize(&s), nil
}

// BlockSize returns the size of the blocks in which a file system counts its space. That is not the size in which it is
// best written, which is 256 times as large on some file systems that a program provides.
func BlockSize(s *unix.Statfs_t) uint64 {
	if s.Frsize == 0 {
		return uint64(s.Bsize)
	}
	return uint64(s.Frsize)
}

func noFiles(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Files > 0 && s.Ffree < fewFiles
}
