package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames a file unless the new name is taken, in one step. File systems that cannot do that (some network
// shares) give errNotSupported.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return errNotSupported
	default:
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
}

func isOtherFileSystem(err error) bool { return errors.Is(err, unix.EXDEV) }
