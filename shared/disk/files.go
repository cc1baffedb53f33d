package disk

import (
	"errors"
	"io/fs"
	"os"
)

// Remove removes a file, if it is there.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Replace makes data the content of a file that only this user may read, at once: whoever reads it meanwhile sees what it was before, all of it, or
// that there is none.
func Replace(path string, data []byte) error {
	part := path + ".part"
	if err := Remove(part); err != nil { // of a try that was killed
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

// Cause returns an error of a file without the file's path, for a message or a log line that has the path already.
func Cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}

	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}

	return err
}
