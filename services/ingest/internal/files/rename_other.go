//go:build !linux && !windows

package files

import (
	"errors"
	"os"
	"syscall"
)

// renameNew returns errors.ErrUnsupported: these systems have no such rename in one step.
func renameNew(_ *Dir, _ string, _ *Dir, _ string) error { return errors.ErrUnsupported }

func link(from *Dir, name string, into *Dir, to string) error {
	return os.Link(from.Path(name), into.Path(to))
}

func rename(from *Dir, name string, into *Dir, to string) error {
	return os.Rename(from.Path(name), into.Path(to))
}

func isOtherFileSystem(err error) bool { return errors.Is(err, syscall.EXDEV) }

func isNameRefused(err error) bool {
	return errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.EILSEQ) || errors.Is(err, syscall.EINVAL)
}
