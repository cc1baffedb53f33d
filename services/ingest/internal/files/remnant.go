package files

import (
	"context"
	"errors"
	"io"
	"os"
)

// Remnant is the source of a file that was copied to another file system: removed, but still open. If the producer has
// kept it open too, what it writes now is nowhere else. A Remnant is for one goroutine, which must Close it.
type Remnant struct {
	src   *os.File
	aside string
	// Stat is the state of the file when it was copied.
	Stat Stat
}

// Written returns the state of the file now, and reports whether it was written to since it was copied.
func (r Remnant) Written() (now Stat, written bool) {
	info, err := r.src.Stat()
	if err != nil {
		return r.Stat, false
	}

	now = StatOf(info)

	return now, now.Size != r.Stat.Size || now.Modified != r.Stat.Modified
}

// Restore writes the content to a new file in a directory, under the first name that is free, and returns that name.
func (r Remnant) Restore(ctx context.Context, into *Dir, wanted, tag, token string) (string, error) {
	now, _ := r.Written()

	part, err := into.write(ctx, io.NewSectionReader(r.src, 0, now.Size), token)
	if err != nil {
		return "", err
	}

	to, err := renameToFree(into, part, into, wanted, tag)
	if err != nil {
		return "", errors.Join(err, into.Remove(part))
	}

	return to, nil
}

// Close closes the file. It also removes the directory that the file was put aside in, which some network shares keep
// from being removed while the file is open.
func (r Remnant) Close(from *Dir) {
	r.close()

	if r.aside != "" && from != nil {
		_ = from.Remove(r.aside) // or the next start does it
	}
}

func (r *Remnant) close() {
	_ = r.src.Close() // only read
	r.src = nil
}
