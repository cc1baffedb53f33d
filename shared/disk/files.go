package disk

import (
	"errors"
	"io/fs"
	"os"
)

// Remove removes a file if it exists.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Replace atomically replaces the content of a file with data; only this user may read the new file. A concurrent
// reader sees the complete previous content, or that there is no file.
func Replace(path string, data []byte) error {
	part := path + ".part"
	if err := Remove(part); err != nil { // left by a process that was killed
		return err
	}

	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(part, path)
	}

	if err != nil {
		return errors.Join(err, Remove(part))
	}

	return nil
}

// Cause strips the path from a file error, for a message or a log line that contains the path already.
func Cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}

	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}

	return err
}
