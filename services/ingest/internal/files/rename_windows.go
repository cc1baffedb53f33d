package files

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// renameNew renames a file unless the new name is taken: MoveFileEx without flags neither replaces nor copies.
func renameNew(from *Dir, name string, into *Dir, to string) error {
	old, next := from.Path(name), into.Path(to)
	fromPtr, err1 := windows.UTF16PtrFromString(old)
	toPtr, err2 := windows.UTF16PtrFromString(next)
	err := errors.Join(err1, err2)
	if err == nil {
		err = windows.MoveFileEx(fromPtr, toPtr, 0)
	}

	if err != nil {
		return &os.LinkError{Op: "rename", Old: old, New: next, Err: err}
	}

	return nil
}

func link(from *Dir, name string, into *Dir, to string) error {
	return os.Link(from.Path(name), into.Path(to))
}

func rename(from *Dir, name string, into *Dir, to string) error {
	return os.Rename(from.Path(name), into.Path(to))
}

func isOtherFileSystem(err error) bool { return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) }

func isNameRefused(err error) bool {
	return errors.Is(err, windows.ERROR_INVALID_NAME) || errors.Is(err, windows.ERROR_FILENAME_EXCED_RANGE)
}
