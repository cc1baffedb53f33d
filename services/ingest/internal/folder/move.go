package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// errNotSupported means that the file system has no such operation.
var errNotSupported = errors.New("not supported by the file system")

// ErrGone means that there is nothing (any more) to move.
var ErrGone = errors.New("the file is gone")

// partPrefix and partSuffix mark what is being copied from another file system.
const (
	partPrefix = ".bobosync-"
	partSuffix = ".part"
)

// Move is one file's way out of a directory.
type Move struct {
	// From is the file's path.
	From string
	// Into is the directory that it goes to.
	Into string
	// Tag makes the name unique where many files of the same name were there before; it must be fit for a file name.
	Tag string
	// Resumed says that an earlier attempt may have been cut off. Then, and only then, a file in Into with the same name,
	// size, time and content counts as the result of that attempt.
	Resumed bool
	// Size and Modified are the file's, to recognize the result of an earlier attempt.
	Size     int64
	Modified time.Time
	// Same says whether a file's content is the one to move; it is asked only for Resumed.
	Same func(path string) (bool, error)
}

// Do moves the file and returns its new path. It keeps the name, or takes a free one beside it: "x (2).csv" up to
// "x (20).csv", then "x (<tag>).csv". It overwrites nothing and loses nothing, wherever it is cut off: the worst that stays
// behind is a copy in both places, a temporary file (see RemoveParts), or an empty file that reserved the name on a file
// system which has neither an exclusive rename nor hard links. ErrGone means that From is not there.
func (m Move) Do(ctx context.Context) (string, error) {
	if m.Resumed {
		if done, err := m.resume(); err != nil || done != "" {
			return done, err
		}
	}
	info, err := os.Lstat(m.From)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrGone
	}
	if err != nil {
		return "", fmt.Errorf("move: %w", err)
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		to, err := m.place(m.From)
		if !isOtherFileSystem(err) {
			return to, err
		}
	}
	// A link is copied too: moved elsewhere it might point to nothing.
	return m.copyOver(ctx)
}

// resume looks for the result of an attempt that was cut off, and completes it.
func (m Move) resume() (string, error) {
	for to := range m.names() {
		info, err := os.Lstat(to)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("look for an earlier move: %w", err)
		}
		if !info.Mode().IsRegular() || info.Size() != m.Size || !sameTime(info.ModTime(), m.Modified) {
			continue
		}
		if same, err := m.Same(to); err != nil || !same {
			continue // it cannot be told to be ours, so it is somebody else's
		}
		if err := os.Remove(m.From); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("remove what is moved already: %w", err)
		}
		return to, nil
	}
	return "", nil
}

// sameTime allows for file systems that keep times to two seconds only.
func sameTime(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }

// place renames path, which may be From or a copy of it in Into, to the first free name.
func (m Move) place(path string) (string, error) {
	for to := range m.names() {
		err := renameFree(path, to)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("move: %w", err)
		}
		return to, nil
	}
	return "", fmt.Errorf("move: no free name for %s in %s", filepath.Base(m.From), m.Into)
}

// names yields the names to try, best first.
func (m Move) names() iter.Seq[string] {
	const numbered, tagged = 20, 1000
	name := filepath.Base(m.From)
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	return func(yield func(string) bool) {
		if !yield(filepath.Join(m.Into, name)) {
			return
		}
		for i := 2; i <= numbered; i++ {
			if !yield(filepath.Join(m.Into, fmt.Sprintf("%s (%d)%s", stem, i, ext))) {
				return
			}
		}
		if !yield(filepath.Join(m.Into, fmt.Sprintf("%s (%s)%s", stem, m.Tag, ext))) {
			return
		}
		for i := 2; i <= tagged; i++ {
			if !yield(filepath.Join(m.Into, fmt.Sprintf("%s (%s-%d)%s", stem, m.Tag, i, ext))) {
				return
			}
		}
	}
}

// renameFree renames a file unless the new name is taken, by whatever the file system has for it.
func renameFree(from, to string) error {
	err := renameNew(from, to)
	if !errors.Is(err, errNotSupported) {
		return err
	}
	err = os.Link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, fs.ErrExist), isOtherFileSystem(err), errors.Is(err, fs.ErrNotExist):
		return err
	}
	// No hard links here, as on many shares: hold the name with an empty file, and rename over that.
	hold, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(hold.Close(), os.Rename(from, to)); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// copyOver copies the file to the other file system, and removes it here when the copy is safe.
func (m Move) copyOver(ctx context.Context) (string, error) {
	part := filepath.Join(m.Into, partPrefix+m.Tag+partSuffix)
	if err := copyFile(ctx, m.From, part); err != nil {
		return "", errors.Join(fmt.Errorf("move to another file system: %w", err), removeIfThere(part))
	}
	to, err := m.place(part)
	if err != nil {
		return "", errors.Join(err, removeIfThere(part))
	}
	if err := os.Remove(m.From); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Take the copy back, or each further attempt would add another one.
		return "", errors.Join(fmt.Errorf("remove the file that was copied: %w", err), os.Remove(to))
	}
	return to, nil
}

// copyFile copies content and modification time, synced to disk. A source that changes meanwhile is an error.
func copyFile(ctx context.Context, from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close() // only read
	before, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, before.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return src.Read(p)
	}))
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return err
	}
	after, err := src.Stat()
	if err != nil {
		return err
	}
	if StatOf(before) != StatOf(after) {
		return fmt.Errorf("%s was written to while it was copied", filepath.Base(from))
	}
	return os.Chtimes(to, time.Time{}, before.ModTime())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveParts removes the temporary files that moves which were cut off left behind in a directory. No move into that
// directory may be under way.
func RemoveParts(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for unfinished copies: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), partPrefix) && strings.HasSuffix(e.Name(), partSuffix) {
			errs = append(errs, removeIfThere(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
