package files

import (
	"context"
	"errors"
	"io"
	"os"
)

// Remnant is a file that was copied to another file system and removed, still open: what a producer that has kept it open writes to it is
// nowhere else. It is for one goroutine; Close it.
type Remnant struct {
	src   *os.File
	aside string
	// Stat is how it looked when it was copied.
	Stat Stat
}

// Written returns how the file looks now, and reports whether it was written to since it was copied.
func (r Remnant) Written() (now Stat, written bool) {
	info, err := r.src.Stat()
	if err != nil {
		return r.Stat, false
	}

	now = StatOf(info)

	return now, now.Size != r.Stat.Size || now.Modified != r.Stat.Modified
}

// Restore writes it to a file in a directory, under the first name that is free, and returns that name.
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

// Close closes it, and removes what some network shares keep of an open file in the directory that it was in.
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
