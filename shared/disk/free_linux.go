package disk

import "golang.org/x/sys/unix"

func free(path string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

func noFiles(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Files > 0 && s.Ffree < fewFiles
}
