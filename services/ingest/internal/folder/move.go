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

// ErrReplaced means that another file lies where the one to move was; it stays there.
var ErrReplaced = errors.New("another file was put in its place")

// partPrefix and partSuffix mark what is being copied from another file system, asideSuffix a directory for what was copied.
const (
	partPrefix  = ".bobosync-"
	partSuffix  = ".part"
	asideSuffix = ".aside"
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
	// Stat is how the file looked when it was last known to be the one to move: a producer may put its next one under the same
	// name at any time. The zero Stat stands for whatever is there when the move begins.
	Stat Stat
	// Same says whether a file's content is the one to move. It is asked for Resumed, and where the file looks otherwise than Stat
	// says, which some shares make of a rename.
	Same func(path string) (bool, error)
}

// Do moves the file and returns its new path. It keeps the name, or takes a free one beside it: "x (2).csv" up to
// "x (20).csv", then "x (<tag>).csv". It overwrites nothing and loses nothing, wherever it is cut off: the worst that stays
// behind is a copy in both places, a temporary file (see RemoveParts), or an empty file that reserved the name on a file
// system which has neither an exclusive rename nor hard links. ErrGone means that From is not there, ErrReplaced that it is
// another file.
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
	if m.Stat == (Stat{}) {
		if m.Stat, err = statAt(m.From); err != nil {
			return "", fmt.Errorf("move: %w", err)
		}
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		to, err := m.rename()
		if !isOtherFileSystem(err) {
			return to, err
		}
	}
	// A link is copied too: moved elsewhere it might point to nothing.
	return m.copyOver(ctx)
}

// rename moves the file within its file system. Another one that took its place at the last moment is put back.
func (m Move) rename() (string, error) {
	if ours, err := m.looksSame(m.From); err != nil || !ours {
		return "", errors.Join(fmt.Errorf("move %s: %w", filepath.Base(m.From), ErrReplaced), err)
	}
	to, err := m.place(m.From)
	if err != nil {
		return "", err
	}
	if ours, err := m.looksSame(to); err != nil || !ours {
		_, backErr := m.placeIn(filepath.Dir(m.From), to)
		return "", errors.Join(fmt.Errorf("move %s: %w", filepath.Base(m.From), ErrReplaced), err, backErr)
	}
	return to, nil
}

// looksSame says whether a path holds the file that is to be moved.
func (m Move) looksSame(path string) (bool, error) {
	stat, err := statAt(path)
	if err != nil {
		return false, err
	}
	if stat == m.Stat || stat.Size != m.Stat.Size || m.Same == nil {
		return stat == m.Stat, nil
	}
	return m.Same(path)
}

func statAt(path string) (Stat, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Stat{}, err
	}
	return StatOf(info), nil
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
		if err := m.discard(m.Same); err != nil {
			return "", fmt.Errorf("remove what is moved already: %w", err)
		}
		return to, nil
	}
	return "", nil
}

// sameTime allows for file systems that keep times to two seconds only.
func sameTime(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }

// place renames path, which may be From or a copy of it in Into, to the first free name.
func (m Move) place(path string) (string, error) { return m.placeIn(m.Into, path) }

// placeIn renames path to the first name that is free in a directory of the same file system.
func (m Move) placeIn(dir, path string) (string, error) {
	for to := range m.namesIn(dir) {
		err := renameFree(path, to)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("move: %w", err)
		}
		return to, nil
	}
	return "", fmt.Errorf("move: no free name for %s in %s", filepath.Base(m.From), dir)
}

// names yields the names to try, best first.
func (m Move) names() iter.Seq[string] { return m.namesIn(m.Into) }

func (m Move) namesIn(dir string) iter.Seq[string] {
	const numbered, tagged = 20, 1000
	name := filepath.Base(m.From)
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	return func(yield func(string) bool) {
		if !yield(filepath.Join(dir, name)) {
			return
		}
		for i := 2; i <= numbered; i++ {
			if !yield(filepath.Join(dir, fmt.Sprintf("%s (%d)%s", stem, i, ext))) {
				return
			}
		}
		if !yield(filepath.Join(dir, fmt.Sprintf("%s (%s)%s", stem, m.Tag, ext))) {
			return
		}
		for i := 2; i <= tagged; i++ {
			if !yield(filepath.Join(dir, fmt.Sprintf("%s (%s-%d)%s", stem, m.Tag, i, ext))) {
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
	if ours, err := m.looksSame(m.From); err != nil || !ours {
		return "", errors.Join(fmt.Errorf("move %s to another file system: %w", filepath.Base(m.From), ErrReplaced), err)
	}
	part := filepath.Join(m.Into, partPrefix+m.Tag+partSuffix)
	copied, err := copyFile(ctx, m.From, part, m.Stat)
	if err != nil {
		return "", errors.Join(fmt.Errorf("move to another file system: %w", err), removeIfThere(part))
	}
	to, err := m.place(part)
	if err != nil {
		return "", errors.Join(err, removeIfThere(part))
	}
	if err := m.discard(Move{Stat: copied, Same: m.Same}.looksSame); err != nil {
		// Take the copy back, or each further attempt would add another one.
		return "", errors.Join(fmt.Errorf("remove the file that was copied: %w", err), os.Remove(to))
	}
	return to, nil
}

// discard removes From, of which there is a copy, unless it is another file by now: that stays. To be sure it is first put aside
// in a directory beside it, where no producer puts files.
func (m Move) discard(same func(path string) (bool, error)) error {
	if _, err := os.Lstat(m.From); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Dir(m.From)
	aside, err := os.MkdirTemp(dir, partPrefix+"*"+asideSuffix)
	if err != nil {
		return err
	}
	held := filepath.Join(aside, filepath.Base(m.From))
	err = os.Rename(m.From, held)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Remove(aside) // somebody else has removed it
	}
	if err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	ours, err := same(targetOf(held, dir))
	if err == nil && ours {
		if err = os.Remove(held); err == nil {
			return os.Remove(aside)
		}
	}
	_, backErr := m.placeIn(dir, held)
	return errors.Join(err, backErr, os.Remove(aside))
}

// targetOf returns what a link stands for that was put aside from a directory; any other file stands for itself.
func targetOf(held, dir string) string {
	target, err := os.Readlink(held)
	if err != nil {
		return held
	}
	if filepath.IsAbs(target) {
		return target
	}
	return filepath.Join(dir, target)
}

// PutBack gives the files that moves which were cut off have put aside their place in a directory back. No move out of that
// directory may be under way.
func PutBack(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for files that were put aside: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), partPrefix) && strings.HasSuffix(e.Name(), asideSuffix) {
			errs = append(errs, putBack(dir, filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func putBack(dir, aside string) error {
	entries, err := os.ReadDir(aside)
	if err != nil {
		return fmt.Errorf("put files back: %w", err)
	}
	var errs []error
	for _, e := range entries {
		from := filepath.Join(aside, e.Name())
		_, err := Move{From: from, Tag: "again"}.placeIn(dir, from)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, os.Remove(aside))...)
}

// copyFile copies content and modification time, synced to disk, and returns what it has copied. A source that is not the one that
// is wanted, or changes meanwhile, is an error.
func copyFile(ctx context.Context, from, to string, want Stat) (copied Stat, err error) {
	src, err := os.Open(from)
	if err != nil {
		return copied, err
	}
	defer src.Close() // only read
	before, err := src.Stat()
	if err != nil {
		return copied, err
	}
	if copied = StatOf(before); copied.Size != want.Size || copied.Modified != want.Modified {
		return copied, ErrReplaced
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, before.Mode().Perm()|0o200)
	if err != nil {
		return copied, err
	}
	_, err = io.Copy(dst, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return src.Read(p)
	}))
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return copied, err
	}
	after, err := src.Stat()
	if err != nil {
		return copied, err
	}
	if copied != StatOf(after) {
		return copied, fmt.Errorf("%s was written to while it was copied", filepath.Base(from))
	}
	return copied, os.Chtimes(to, time.Time{}, before.ModTime())
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
