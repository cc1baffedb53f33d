//go:build unix

package harness

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bobosync/e2e/audit"
)

// Past is the history of a stack that was packed: what the auditor must know to judge how it continues.
type Past struct {
	Started    time.Time
	Users      []audit.User
	Files      []audit.File
	Departures []audit.Departure
	Calls      string // the simulator's call log
	Final      map[string]map[string]string
	Lost       []audit.Window
}

// pastFile is the file in an archive that holds the Past; packed are the directories that are packed with it.
const pastFile = "past.json"

var packed = []string{inDir, doneDir, failedDir, dataDir, storeDir}

// Pack writes a stack in which only the simulator runs into an archive. Unpack and Config.Past continue from there.
func (s *Stack) Pack(archive string) (err error) {
	in, err := s.Evidence()
	if err != nil {
		return err
	}

	calls, err := os.ReadFile(s.Path(callLog))
	if err != nil {
		return err
	}

	past, err := json.Marshal(Past{in.Started, in.Users, in.Files, in.Departures, string(calls), in.Final, in.MappingLost})
	if err != nil {
		return err
	}

	if err := os.WriteFile(s.Path(pastFile), past, 0o600); err != nil {
		return err
	}

	out, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	zip, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}

	w := tar.NewWriter(zip)
	for _, name := range append(packed, pastFile) {
		if err := packTree(w, s.cfg.Dir, name); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
	}

	return errors.Join(w.Close(), zip.Close())
}

func packTree(w *tar.Writer, root, name string) error {
	return filepath.WalkDir(filepath.Join(root, name), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		info, err := os.Lstat(path)
		if err != nil {
			return err
		}

		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}

		h.Name, _ = filepath.Rel(root, path)
		h.Uname, h.Gname, h.Uid, h.Gid = "", "", 0, 0
		h.Format = tar.FormatPAX // preserves the nanoseconds of modification times, which order the files
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}

		data, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(data)
		}

		return err
	})
}

// Unpack writes into dir what Pack has packed.
func Unpack(archive, dir string) (*Past, error) {
	in, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	zip, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}

	r := tar.NewReader(zip)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}

		if err == nil {
			err = unpackOne(r, h, dir)
		}

		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", archive, err)
		}
	}

	data, err := os.ReadFile(filepath.Join(dir, pastFile))
	if err != nil {
		return nil, err
	}

	past := new(Past)

	return past, json.Unmarshal(data, past)
}

func unpackOne(r io.Reader, h *tar.Header, dir string) error {
	path := filepath.Join(dir, h.Name)
	if h.Typeflag == tar.TypeDir {
		return os.MkdirAll(path, 0o700)
	}

	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}

	if err := os.WriteFile(path, data, h.FileInfo().Mode()); err != nil {
		return err
	}

	return os.Chtimes(path, h.ModTime, h.ModTime)
}

// takeUp makes the stack continue from its past.
func (s *Stack) takeUp(past *Past) error {
	s.started = past.Started
	// Until the services work, the mapping may be unknown.
	s.lost = append(past.Lost, audit.Window{From: past.Started, To: time.Now()})
	s.In.takeUp(past.Files, past.Departures)

	return os.WriteFile(s.Path(callLog), []byte(past.Calls), 0o600)
}

// takeUp adds files that were dropped in the past; those in gone have left already.
func (f *Folder) takeUp(files []audit.File, gone []audit.Departure) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.files, f.departures = files, gone
	for i, file := range files {
		f.present[file.Name] = i
	}

	for _, d := range gone {
		if f.present[files[d.File].Name] == d.File {
			delete(f.present, files[d.File].Name)
		}
	}
}
