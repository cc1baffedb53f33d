// How archives are written: the same files give the same bytes.

package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// file is a file to pack: where it lies, and its name in the archive.
type file struct {
	path, name string
	program    bool
}

// files lists what goes into an archive, below a directory with the archive's name: the programs in a directory, and
// besides.
func (o options) files(archive, programs string) (files []file, err error) {
	add := func(root, below string, program bool) error {
		return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}

			name, err := filepath.Rel(root, path)
			files = append(files, file{path, filepath.ToSlash(filepath.Join(archive, below, strings.TrimPrefix(name, "."+string(filepath.Separator)))), program})

			return err
		})
	}
	if err := add(programs, "", true); err != nil {
		return nil, fmt.Errorf("list the programs: %w", err)
	}

	for _, beside := range besides {
		if err := add(filepath.Join(o.source, beside), beside, false); err != nil {
			return nil, fmt.Errorf("list %s: %w", beside, err)
		}
	}

	return files, nil
}

func (f file) mode() fs.FileMode {
	if f.program {
		return 0o755
	}
	return 0o644
}

func writeTar(path string, files []file, created time.Time) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	packer := gzip.NewWriter(out)

	w := tar.NewWriter(packer)
	for _, f := range files {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return err
		}

		head := &tar.Header{Name: f.name, Mode: int64(f.mode()), Size: int64(len(data)), ModTime: created, Format: tar.FormatPAX}
		if err := w.WriteHeader(head); err != nil {
			return err
		}

		if _, err := w.Write(data); err != nil {
			return err
		}
	}

	return errors.Join(w.Close(), packer.Close())
}

func writeZip(path string, files []file, created time.Time) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	w := zip.NewWriter(out)
	for _, f := range files {
		head := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: created}
		head.SetMode(f.mode())

		entry, err := w.CreateHeader(head)
		if err != nil {
			return err
		}

		if err := copyFrom(entry, f.path); err != nil {
			return err
		}
	}

	return w.Close()
}

func copyFrom(w io.Writer, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()

	_, err = io.Copy(w, in)

	return err
}
