package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames a file in one step, unless the new name is taken. On file systems that cannot do that (some network
// shares) it returns errors.ErrUnsupported.
func renameNew(from *Dir, name string, into *Dir, to string) error {
	err := unix.Renameat2(int(from.handle.Fd()), name, int(into.handle.Fd()), to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return errors.ErrUnsupported
	default:
		return linkError("rename", from, name, into, to, err)
	}
}

// link gives a file a second name, unless that name is taken.
func link(from *Dir, name string, into *Dir, to string) error {
	err := unix.Linkat(int(from.handle.Fd()), name, int(into.handle.Fd()), to, 0)
	return linkError("link", from, name, into, to, err)
}

// rename renames a file and replaces whatever has the new name.
func rename(from *Dir, name string, into *Dir, to string) error {
	err := unix.Renameat(int(from.handle.Fd()), name, int(into.handle.Fd()), to)
	return linkError("rename", from, name, into, to, err)
}

func linkError(op string, from *Dir, name string, into *Dir, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: from.Path(name), New: into.Path(to), Err: err}
}

func isOtherFileSystem(err error) bool { return errors.Is(err, unix.EXDEV) }

// isNameRefused reports whether the error means that the file system refuses a name, even if it is free.
func isNameRefused(err error) bool {
	return errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.EILSEQ) || errors.Is(err, unix.EINVAL)
}
