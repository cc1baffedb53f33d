package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

var (
	// ErrNotRegular means that a name is that of a link, a directory, a pipe or the like.
	ErrNotRegular = errors.New("not a regular file")
	// ErrReplaced means that another file lies where the expected one was.
	ErrReplaced = errors.New("another file was put in its place")
	// ErrBusy means that a file cannot be opened now because another program holds it.
	ErrBusy = errors.New("another program holds the file")
)

// copyMode is the mode of files that are copied from another file system, whatever the mode of the source: a file that
// only this program may have been allowed to read there must not become readable for others here.
const copyMode = 0o640

// Dir is an open directory. Names are looked up in that very directory, even if another one takes its path meanwhile.
// Open a Dir for each piece of work and close it afterwards, so that a directory that was replaced or remounted is
// noticed.
type Dir struct {
	path   string
	root   *os.Root
	handle *os.File // the same directory, for system calls that take two directories
}

// OpenDir opens a directory.
func OpenDir(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}

	return newDir(path, root)
}

func newDir(path string, root *os.Root) (*Dir, error) {
	handle, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}

	return &Dir{path: path, root: root, handle: handle}, nil
}

// Close closes the directory; files that were opened in it stay open.
func (d *Dir) Close() { _ = errors.Join(d.handle.Close(), d.root.Close()) } // nothing was written through it

// Path returns the path of a name in the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Stat describes the file under a name. Links are not followed.
func (d *Dir) Stat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

// Entries lists the directory.
func (d *Dir) Entries() ([]os.DirEntry, error) { return d.handle.ReadDir(-1) }

// Open opens a regular file for reading. It never waits, neither for the other end of a pipe nor for a program that has
// a lease on the file; in the latter case the error is ErrBusy.
func (d *Dir) Open(name string) (*os.File, error) {
	seen, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}

	if !seen.Mode().IsRegular() {
		return nil, ErrNotRegular
	}

	file, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.EAGAIN) {
		return nil, ErrBusy
	}

	if err != nil {
		return nil, err
	}

	// The file that was opened may not be the one that Lstat saw, but from here on the descriptor cannot change.
	opened, err := file.Stat()
	if err == nil && (!opened.Mode().IsRegular() || !os.SameFile(seen, opened)) {
		err = ErrReplaced
	}

	if err != nil {
		return nil, errors.Join(err, file.Close())
	}

	return file, nil
}

// Remove removes a file, or an empty directory.
func (d *Dir) Remove(name string) error { return d.root.Remove(name) }

// create creates an empty file under a name that nobody can guess, and returns that name.
func (d *Dir) create(prefix, suffix string) (*os.File, string, error) {
	name := prefix + rand.Text()[:12] + suffix
	file, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, copyMode)
	return file, name, err
}

// makeDir creates and opens a directory for this program alone, under a name that nobody can guess.
func (d *Dir) makeDir(prefix, suffix string) (*Dir, string, error) {
	name := prefix + rand.Text()[:12] + suffix
	if err := d.root.Mkdir(name, 0o700); err != nil {
		return nil, "", err
	}

	made, err := d.sub(name)
	if err != nil {
		return nil, "", errors.Join(err, d.root.Remove(name))
	}

	return made, name, nil
}

// sub opens a subdirectory.
func (d *Dir) sub(name string) (*Dir, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}

	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", name)
	}

	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}

	return newDir(d.Path(name), root)
}

// renameToFree renames a file to the first name that is free in the directory into, which may be the one that the file
// is in, and returns that name.
func renameToFree(from *Dir, name string, into *Dir, wanted, tag string) (string, error) {
	for to := range freeNames(wanted, tag) {
		err := renameFree(from, name, into, to)
		switch {
		case err == nil:
			return to, nil
		case errors.Is(err, fs.ErrExist), isNameRefused(err):
			continue
		default:
			return "", err
		}
	}

	return "", fmt.Errorf("no free name for it in %s", into.path)
}

// renameFree renames a file unless the new name is taken, by the best means that the file system offers.
func renameFree(from *Dir, name string, into *Dir, to string) error {
	err := renameNew(from, name, into, to)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}

	err = link(from, name, into, to)
	switch {
	case err == nil:
		return from.root.Remove(name)
	case errors.Is(err, fs.ErrExist), isOtherFileSystem(err), errors.Is(err, fs.ErrNotExist), isNameRefused(err):
		return err
	}

	// No hard links here, as on many shares: reserve the name with an empty file, and rename over that.
	hold, err := into.root.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}

	if err := errors.Join(hold.Close(), rename(from, name, into, to)); err != nil {
		return errors.Join(err, into.root.Remove(to))
	}

	return nil
}

// Tidy cleans up after earlier moves that were cut off: it removes unfinished copies from the directory, and puts back
// files that were put aside. Token is that of the run that made the moves. No move may be under way.
func (d *Dir) Tidy(token string) error {
	entries, err := d.Entries()
	if err != nil {
		return err
	}

	var errs []error
	for _, e := range entries {
		name := e.Name()
		switch {
		case !strings.HasPrefix(name, ownPrefix+token):
		case strings.HasSuffix(name, partSuffix):
			errs = append(errs, d.root.Remove(name))
		case strings.HasSuffix(name, asideSuffix):
			errs = append(errs, d.putBack(name))
		}
	}

	return errors.Join(errs...)
}

func (d *Dir) putBack(name string) error {
	aside, err := d.sub(name)
	if err != nil {
		return err
	}
	defer aside.Close()

	entries, err := aside.Entries()
	if err != nil {
		return err
	}

	var errs []error
	for _, e := range entries {
		_, err := renameToFree(aside, e.Name(), d, e.Name(), "again")
		errs = append(errs, err)
	}

	return errors.Join(append(errs, d.root.Remove(name))...)
}
