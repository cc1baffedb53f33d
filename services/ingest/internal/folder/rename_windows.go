package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// renameNew renames a file unless the new name is taken: without flags MoveFileEx neither replaces nor copies.
func renameNew(from, to string) error {
	fromPtr, err1 := windows.UTF16PtrFromString(from)
	toPtr, err2 := windows.UTF16PtrFromString(to)
	if err := errors.Join(err1, err2); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	if err := windows.MoveFileEx(fromPtr, toPtr, 0); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func isOtherFileSystem(err error) bool { return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) }
