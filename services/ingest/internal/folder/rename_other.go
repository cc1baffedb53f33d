//go:build !linux && !windows

package folder

import (
	"errors"
	"syscall"
)

// renameNew is not to be had here in one step.
func renameNew(_, _ string) error { return errNotSupported }

func isOtherFileSystem(err error) bool { return errors.Is(err, syscall.EXDEV) }
