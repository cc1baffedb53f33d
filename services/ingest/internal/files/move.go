package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"
)

// ErrGone means that the file to move does not exist, or no longer does.
var ErrGone = errors.New("the file is gone")

// ownPrefix begins the names of this program's own files in directories that others use. partSuffix marks a file that
// is being copied from another file system, asideSuffix a directory into which the source of a copy is put before it is
// removed.
const (
	ownPrefix   = ".bobosync-"
	partSuffix  = ".part"
	asideSuffix = ".aside"
)

// Move describes the move of one file out of a directory.
type Move struct {
	// From holds the file under Name. Into is its destination, where it is called Wanted if that name is free.
	From   *Dir
	Name   string
	Into   *Dir
	Wanted string
	// Tag makes the new name unique if there are already many files of that name; it must be fit for a file name.
	Tag string
	// Token is part of the names of the temporary files and directories that the move creates; see Dir.Tidy.
	Token string
	// Resumed reports that an earlier attempt may have been cut off. Then, and only then, a file in Into with the same
	// name, size, modification time and content counts as the result of that attempt.
	Resumed bool
	// Stat is the state of the file when it was last known to be the one to move: a producer may put its next file
	// under the same name at any time.
	Stat Stat
	// Found is the state of the file when it was found, to recognize the result of an earlier attempt.
	Found Stat
	// Same reports whether a file has the content of the file to move. It is called if Resumed is set, and if the
	// file's state differs from Stat, as it does after a rename on some shares.
	Same func(d *Dir, name string) (bool, error)
	// OnRemnant, if set, is given the source of a file that was moved by copying it, removed but still open: a producer
	// that has kept the file open may still write to it.
	OnRemnant func(Remnant)
}

// Do moves the file and returns its new name, see freeNames, and its state there. Wherever it is cut off, it overwrites
// nothing and loses nothing. At worst it leaves a copy in both places, something for Dir.Tidy, or an empty file that
// reserved the name on a file system with neither an exclusive rename nor hard links. ErrGone means that there is no
// such file, ErrReplaced that another file is in its place.
func (m Move) Do(ctx context.Context) (to string, now Stat, err error) {
	if m.Resumed {
		if to, now, err = m.resume(); err != nil || to != "" {
			return to, now, err
		}
	}

	info, err := m.From.Stat(m.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", now, ErrGone
	case err != nil:
		return "", now, err
	case !info.Mode().IsRegular():
		return "", now, ErrReplaced
	}

	to, now, err = m.rename()
	if isOtherFileSystem(err) {
		return m.copyOver(ctx)
	}

	return to, now, err
}

// rename moves the file within its file system. If another file has replaced it at the last moment, that file is put
// back.
func (m Move) rename() (to string, now Stat, err error) {
	if ours, _, err := m.looksSame(m.From, m.Name); err != nil || !ours {
		return "", now, errors.Join(ErrReplaced, err)
	}

	to, err = renameToFree(m.From, m.Name, m.Into, m.Wanted, m.Tag)
	if err != nil {
		return "", now, err
	}

	ours, now, err := m.looksSame(m.Into, to)
	if err != nil || !ours {
		_, backErr := renameToFree(m.Into, to, m.From, m.Name, m.Tag)
		return "", now, errors.Join(ErrReplaced, err, backErr)
	}

	return to, now, nil
}

// looksSame reports whether a name is that of the file to move, and returns the state of what is there.
func (m Move) looksSame(d *Dir, name string) (ours bool, now Stat, err error) {
	info, err := d.Stat(name)
	if err != nil {
		return false, now, err
	}

	now = StatOf(info)
	switch {
	case !info.Mode().IsRegular() || now.Size != m.Stat.Size:
		return false, now, nil
	case now.sameButForRename(m.Stat):
		return true, now, nil
	}

	ours, err = m.Same(d, name)

	return ours, now, err
}

// resume looks for the result of an attempt that was cut off, and completes that attempt. The name is empty if there is
// none.
func (m Move) resume() (to string, now Stat, err error) {
	for to := range freeNames(m.Wanted, m.Tag) {
		info, err := m.Into.Stat(to)
		if errors.Is(err, fs.ErrNotExist) || isNameRefused(err) {
			return "", now, nil
		}

		if err != nil {
			return "", now, fmt.Errorf("look for an earlier move: %w", err)
		}

		if !info.Mode().IsRegular() || info.Size() != m.Found.Size || !sameTime(info.ModTime(), m.Found.Time()) {
			continue
		}

		if same, err := m.Same(m.Into, to); err != nil || !same {
			continue // it cannot be proved to be ours, so it counts as somebody else's
		}

		if _, err := m.discard(m.Same); err != nil {
			return "", now, fmt.Errorf("remove what is moved already: %w", err)
		}

		return to, StatOf(info), nil
	}

	return "", now, nil
}

// sameTime reports whether two times are the same, allowing for file systems that store times in steps of two seconds.
func sameTime(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }

// copyOver copies the file to the other file system, and removes the source once the copy is safe.
func (m Move) copyOver(ctx context.Context) (to string, now Stat, err error) {
	part, copied, src, err := m.copy(ctx)
	if err != nil {
		return "", now, fmt.Errorf("copy to another file system: %w", err)
	}

	rest := Remnant{src: src, Stat: copied}
	if m.OnRemnant == nil || runtime.GOOS == "windows" { // Windows removes no file that is open
		rest.close()
	}

	defer func() {
		if rest.src != nil {
			rest.close()
		}
	}()

	to, err = renameToFree(m.Into, part, m.Into, m.Wanted, m.Tag)
	if err != nil {
		return "", now, errors.Join(err, m.Into.Remove(part))
	}

	m.Stat = copied
	stillOurs := func(d *Dir, name string) (bool, error) {
		ours, _, err := m.looksSame(d, name)
		return ours, err
	}
	if rest.aside, err = m.discard(stillOurs); err != nil {
		// Take the copy back, or each further attempt would add another one.
		return "", now, errors.Join(fmt.Errorf("remove the file that was copied: %w", err), m.Into.Remove(to))
	}

	if rest.src != nil {
		m.OnRemnant(rest)
		rest.src = nil
	}

	info, err := m.Into.Stat(to)
	if err != nil {
		return to, copied, nil // somebody may have taken it already; if it comes back, only its content identifies it
	}

	return to, StatOf(info), nil
}

// copy makes a copy, synced to disk, under a temporary name. It returns that name, the state of what it copied, and the
// source, still open. It is an error if the source is not the file to move, or changes meanwhile.
func (m Move) copy(ctx context.Context) (part string, copied Stat, src *os.File, err error) {
	if src, err = m.From.Open(m.Name); err != nil {
		return "", copied, nil, err
	}
	defer func() {
		if err != nil {
			_ = src.Close() // only read
		}
	}()

	before, err := src.Stat()
	if err != nil {
		return "", copied, nil, err
	}

	if copied = StatOf(before); !copied.sameButForRename(m.Stat) {
		if same, err := m.Same(m.From, m.Name); err != nil || !same {
			return "", copied, nil, errors.Join(ErrReplaced, err)
		}
	}

	part, err = m.Into.write(ctx, src, m.Token)
	if err != nil {
		return "", copied, nil, err
	}

	if err = m.checkCopy(src, copied, part); err != nil {
		return "", copied, nil, errors.Join(err, m.Into.Remove(part))
	}

	_ = m.Into.root.Chtimes(part, time.Time{}, before.ModTime()) // keeping the time is a courtesy

	return part, copied, src, nil
}

// write creates a file with the content of src, synced to disk, under a temporary name.
func (d *Dir) write(ctx context.Context, src io.Reader, token string) (part string, err error) {
	dst, part, err := d.create(ownPrefix+token, partSuffix)
	if err != nil {
		return "", err
	}

	_, err = io.Copy(dst, cancellable{ctx, src})
	if err = errors.Join(err, synced(dst), dst.Close()); err != nil {
		return "", errors.Join(err, d.Remove(part))
	}

	return part, nil
}

// checkCopy returns an error if the source was written to while it was copied.
func (m Move) checkCopy(src *os.File, before Stat, part string) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}

	after := StatOf(info)
	same := after == before
	if !same && after.sameButForRename(before) { // it may only have been removed or renamed
		same, err = m.Same(m.Into, part)
	}

	if err == nil && !same {
		err = errors.New("it was written to while it was copied")
	}

	return err
}

// synced syncs a file to disk, where the file system supports that.
func synced(file *os.File) error {
	err := file.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}

	return err
}

// cancellable lets a context end a copy between two blocks.
type cancellable struct {
	ctx context.Context
	src io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.src.Read(p)
}

// discard removes the file, of which there is a copy now. If another file has taken its place, that one stays: to be
// sure, discard first puts the file aside in a new directory next to it, where no producer puts files. left names that
// directory if it cannot be removed as long as the file is open.
func (m Move) discard(same func(d *Dir, name string) (bool, error)) (left string, err error) {
	if _, err := m.From.Stat(m.Name); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}

	aside, name, err := m.From.makeDir(ownPrefix+m.Token, asideSuffix)
	if err != nil {
		return "", err
	}
	defer aside.Close()

	err = rename(m.From, m.Name, aside, m.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", m.From.Remove(name) // somebody else has removed it
	}

	if err != nil {
		return "", errors.Join(err, m.From.Remove(name))
	}

	ours, err := same(aside, m.Name)
	if err == nil && ours {
		if err = aside.Remove(m.Name); err == nil {
			if m.From.Remove(name) != nil { // an empty directory, which is removed at the next start at the latest
				left = name
			}
			return left, nil
		}
	}

	_, backErr := renameToFree(aside, m.Name, m.From, m.Name, m.Tag)

	return "", errors.Join(err, backErr, m.From.Remove(name))
}
