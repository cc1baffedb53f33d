// Package content opens input files and finds out what is in them. It stops waiting for a file that does not answer.
package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bobosync/services/ingest/internal/files"
)

var (
	// ErrChanged means that a file was written to or replaced while it was read: it is left alone until it has
	// stopped changing.
	ErrChanged = errors.New("the file changed while it was read")
	// ErrNoDirectory means that the file's directory cannot be opened, so that nothing is known of the file.
	ErrNoDirectory = errors.New("its directory cannot be opened")
	// ErrTooLarge means that a file is larger than the limit.
	ErrTooLarge = errors.New("too large, MAX_FILE_SIZE allows less")
)

// blockSize is how much is read at once.
const blockSize = 256 << 10

// File is an input file that is open for reading, with what is known of it. It is for one goroutine.
type File struct {
	// ID is the SHA-256 of the content, in lower-case hex. A file with a NUL is not text and may be endless; its ID
	// is made of its size and of the content before the NUL.
	ID string
	// Problem says why the content is not text; empty if it is.
	Problem string
	Stat    files.Stat
	// Arrival is when the file came to be where it is; see files.Arrival.
	Arrival time.Time

	dir  *files.Dir
	name string
	file *os.File
	lost bool // a read has not returned: the goroutine that waits for it closes the file
	// small is the content of a file smaller than a block, which therefore need not be read twice.
	small   []byte
	between func(ctx context.Context) error // see Options
}

// Options control how a file is opened.
type Options struct {
	// MaxSize is the most bytes that a file may have; 0 means no limit.
	MaxSize int64
	// Between, if set, is called between two blocks of a long reading, including that of the Text, so that others
	// need not wait for its end. Its error ends the reading.
	Between func(ctx context.Context) error
}

// Open opens the file at a path and reads it to its end, or to its first NUL, to learn its id and whether it is text.
// Close it after use.
func Open(ctx context.Context, path string, o Options) (*File, error) {
	f, err := within(ctx, path, func() (*File, error) {
		dir, err := files.OpenDir(filepath.Dir(path))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoDirectory, err)
		}

		f, err := openIn(dir, filepath.Base(path))
		if err != nil {
			dir.Close()
		}

		return f, err
	}, closeLate)
	if err != nil {
		return nil, err
	}

	if err := f.identify(ctx, o); err != nil {
		f.Close()
		return nil, err
	}

	return f, nil
}

// IDIn returns the id of the content under a name in a directory.
func IDIn(ctx context.Context, dir *files.Dir, name string) (string, error) {
	f, err := within(ctx, dir.Path(name), func() (*File, error) { return openIn(dir, name) }, func(f *File, err error) {
		if err == nil {
			f.closeFile()
		}
	})
	if err != nil {
		return "", err
	}
	defer f.closeFile()

	err = f.identify(ctx, Options{})

	return f.ID, err
}

// ID returns the id of the content at a path.
func ID(ctx context.Context, path string) (string, error) {
	f, err := Open(ctx, path, Options{})
	if err != nil {
		return "", err
	}

	f.Close()

	return f.ID, nil
}

// Known is a file that was read before.
type Known struct {
	ID   string
	Size int64
	// Stat is how it looked when it was last known to have that content.
	Stat files.Stat
}

// Is reports whether the file that info describes still is this one: because it looks exactly as it did, or because
// its content is the same. It may only have been touched, or copied back. read returns the id of the content. A file
// that is being written to counts as another one.
func (k Known) Is(info fs.FileInfo, read func() (string, error)) (bool, error) {
	if !info.Mode().IsRegular() || info.Size() != k.Size {
		return false, nil
	}

	if files.StatOf(info).Same(k.Stat) {
		return true, nil
	}

	id, err := read()
	if errors.Is(err, ErrChanged) {
		return false, nil
	}

	return id == k.ID, err
}

func openIn(dir *files.Dir, name string) (*File, error) {
	file, err := dir.Open(name)
	if errors.Is(err, files.ErrReplaced) {
		return nil, ErrChanged
	}

	if err != nil {
		return nil, err
	}

	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}

	return &File{dir: dir, name: name, file: file, Stat: files.StatOf(info), Arrival: files.Arrival(info)}, nil
}

func closeLate(f *File, err error) {
	if err == nil {
		f.Close()
	}
}

// Close closes the file and its directory.
func (f *File) Close() {
	f.closeFile()
	f.dir.Close()
}

func (f *File) closeFile() {
	if !f.lost {
		_ = f.file.Close() // it was only read
	}
}

func (f *File) identify(ctx context.Context, o Options) error {
	if o.MaxSize > 0 && f.Stat.Size > o.MaxSize {
		return ErrTooLarge
	}

	f.between = o.Between
	sum, src, size := sha256.New(), f.reader(ctx), int64(0)
	var text textCheck
	for {
		block, err := src.next()
		if size += int64(len(block)); size > f.Stat.Size {
			return ErrChanged // the file grows, perhaps as fast as it is read
		}

		if nul := text.add(block); nul >= 0 {
			sum.Write(block[:nul])
			f.ID = idOf(binary.BigEndian.AppendUint64(sum.Sum(nil), uint64(f.Stat.Size)))
			break
		}

		sum.Write(block)

		if errors.Is(err, io.EOF) {
			f.ID = hex.EncodeToString(sum.Sum(nil))
			break
		}

		if err != nil {
			return err
		}

		if f.Stat.Size < blockSize {
			f.small = append(f.small, block...)
		} else if err := f.pause(ctx); err != nil {
			return err
		}
	}

	f.Problem = text.finding()

	return f.unchanged()
}

// pause calls Between, if it is set.
func (f *File) pause(ctx context.Context) error {
	if f.between == nil {
		return nil
	}
	return f.between(ctx)
}

func idOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// unchanged returns ErrChanged unless the name still refers to the file as it was when it was opened.
func (f *File) unchanged() error {
	now, err := f.dir.Stat(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrChanged
	}

	if err != nil {
		return err
	}

	if files.StatOf(now) != f.Stat {
		return ErrChanged
	}

	return nil
}

// Text is the content from its start, for a second reading.
type Text struct {
	io.Reader
	file *File
	sum  hash.Hash // nil if the content was kept by the first reading
}

// Text returns the content from its start. Call Check after reading it to the end.
func (f *File) Text(ctx context.Context) (*Text, error) {
	if f.Stat.Size < blockSize {
		return &Text{Reader: bytes.NewReader(f.small), file: f}, nil
	}

	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read again from the start: %w", err)
	}

	sum := sha256.New()

	return &Text{Reader: io.TeeReader(f.reader(ctx), sum), file: f, sum: sum}, nil
}

// Check returns ErrChanged unless the bytes that were read are those of the first reading.
func (t *Text) Check() error {
	if t.sum != nil && hex.EncodeToString(t.sum.Sum(nil)) != t.file.ID {
		return ErrChanged
	}
	return t.file.unchanged()
}

// reader reads the rest of a file, block by block.
type reader struct {
	ctx   context.Context
	file  *File
	block []byte
	rest  []byte // what Read has not returned yet
}

func (f *File) reader(ctx context.Context) *reader {
	return &reader{ctx: ctx, file: f, block: make([]byte, min(max(f.Stat.Size+1, 512), blockSize))}
}

// next returns the next bytes, with io.EOF at the end. They are valid until it is called again.
func (r *reader) next() ([]byte, error) {
	f := r.file
	n, err := within(r.ctx, f.dir.Path(f.name), func() (int, error) { return f.file.Read(r.block) }, func(int, error) { _ = f.file.Close() })
	if errors.Is(err, errLate) {
		f.lost = true
	}

	return r.block[:n], err
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	if len(r.rest) == 0 {
		if err := r.file.pause(r.ctx); err != nil {
			return 0, err
		}

		r.rest, err = r.next()
	}

	n = copy(p, r.rest)
	r.rest = r.rest[n:]
	if len(r.rest) > 0 {
		err = nil
	}

	return n, err
}
