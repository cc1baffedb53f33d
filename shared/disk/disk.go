// Package disk reports how much room is left, and replaces and removes files.
package disk

import "fmt"

// Free returns the bytes that this process can still write where path lies, which must exist. The error wraps
// errors.ErrUnsupported on systems other than Linux and Windows.
func Free(path string) (uint64, error) {
	n, err := free(path)
	if err != nil {
		return 0, fmt.Errorf("look at the room left at %s: %w", path, err)
	}

	return n, nil
}

// fewFiles are too few for the stores of all programs, each of which makes some files when it is opened.
const fewFiles = 64

// NoFiles reports whether no more files can be made where path lies, or next to none, however much room there is. It is false where the
// system does not say.
func NoFiles(path string) bool { return noFiles(path) }
