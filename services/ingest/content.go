package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"bobosync/services/ingest/internal/folder"
)

// errChanged means that a file was written to or replaced while it was read: it is left until it has settled again.
var errChanged = errors.New("the file changed while it was read")

// content is a file that is open for reading, and what is known of it so far.
type content struct {
	path string
	file *os.File
	info fs.FileInfo
	stat folder.Stat
	// id is the SHA-256 of the content, in lower-case hex.
	id string
	// problem says why the content is no text; empty if it is one.
	problem string
}

// openContent opens a file and reads it through, to learn its id and whether it is a text.
func openContent(ctx context.Context, path string) (*content, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file") // opening a pipe would hang
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c := &content{path: path, file: file}
	if err := c.identify(ctx); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return c, nil
}

func (c *content) close() { _ = c.file.Close() } // it was only read

func (c *content) identify(ctx context.Context) error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	c.info, c.stat = info, folder.StatOf(info)
	hash := sha256.New()
	var text textCheck
	if _, err := io.Copy(io.MultiWriter(hash, &text), cancellable(ctx, c.file)); err != nil {
		return err
	}
	c.id, c.problem = hex.EncodeToString(hash.Sum(nil)), text.finding()
	return c.unchanged()
}

// unchanged returns errChanged unless the path still holds the file as it was when it was opened.
func (c *content) unchanged() error {
	now, err := os.Stat(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	if err != nil {
		return err
	}
	if folder.StatOf(now) != c.stat {
		return errChanged
	}
	return nil
}

// rewound returns the content from its start, for a second reading. Call check after its end: it says whether the bytes
// were those of the first one.
func (c *content) rewound(ctx context.Context) (r io.Reader, check func() error, err error) {
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("read again from the start: %w", err)
	}
	hash := sha256.New()
	check = func() error {
		if hex.EncodeToString(hash.Sum(nil)) != c.id {
			return errChanged
		}
		return c.unchanged()
	}
	return io.TeeReader(cancellable(ctx, c.file), hash), check, nil
}

// idOf returns the id of the content at a path.
func idOf(ctx context.Context, path string) (string, error) {
	c, err := openContent(ctx, path)
	if err != nil {
		return "", err
	}
	c.close()
	return c.id, nil
}

// cancellable lets a context end a long read between two blocks.
func cancellable(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// textCheck finds out whether what is written to it is UTF-8 text. A NUL is valid UTF-8, but no text holds one: it is how
// UTF-16 and binaries give themselves away.
type textCheck struct {
	offset int64
	carry  []byte // the beginning of a character that the last block cut
	bad    string
}

func (t *textCheck) Write(p []byte) (int, error) {
	n := len(p)
	if t.bad != "" {
		return n, nil
	}
	if i := bytes.IndexByte(p, 0); i >= 0 {
		t.bad = fmt.Sprintf("not a text: NUL at byte %d", t.offset+int64(i)+1)
		return n, nil
	}
	start := t.offset - int64(len(t.carry))
	t.offset += int64(n)
	if len(t.carry) > 0 {
		p = append(t.carry, p...)
	}
	whole := len(p)
	if last := lastRune(p); last < whole && !utf8.FullRune(p[last:]) {
		whole = last
	}
	t.carry = bytes.Clone(p[whole:])
	if !utf8.Valid(p[:whole]) {
		t.bad = fmt.Sprintf("not a UTF-8 text: near byte %d", start+int64(firstInvalid(p[:whole]))+1)
	}
	return n, nil
}

// lastRune returns where the last character of p starts, as far as that can be told.
func lastRune(p []byte) int {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			return i
		}
	}
	return len(p)
}

func firstInvalid(p []byte) int {
	for i := 0; i < len(p); {
		r, size := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(p)
}

func (t *textCheck) finding() string {
	if t.bad == "" && len(t.carry) > 0 {
		return fmt.Sprintf("not a UTF-8 text: it ends within a character, at byte %d", t.offset)
	}
	return t.bad
}
