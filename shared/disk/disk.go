// Package disk reports how much room is left, and replaces and removes files.
package disk

import "fmt"

// Free returns the number of bytes that this process can still write to the file system of path, which must exist. The
// error wraps errors.ErrUnsupported on systems other than Linux and Windows.
func Free(path string) (uint64, error) {
	n, err := free(path)
	if err != nil {
		return 0, fmt.Errorf("look at the room left at %s: %w", path, err)
	}

	return n, nil
}

// fewFiles is a number of free inodes too small for the stores of all programs, each of which makes some files when it
// is opened.
const fewFiles = 64

// NoFiles reports whether no more files, or next to none, can be made on the file system of path, however much room
// there is. It is false where the system does not report that.
func NoFiles(path string) bool { return noFiles(path) }
