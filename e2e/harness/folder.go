//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
)

const (
	// pollInterval is how often the input directory is checked for files that have gone.
	pollInterval = 10 * time.Millisecond
	// pieceEvery is the time between two pieces of a file that is written slowly.
	pieceEvery = 20 * time.Millisecond
)

// ErrSlow means that the harness itself was too slow for the run to prove anything.
var ErrSlow = errors.New("the machine is too slow: a file that was being written stood still for as long as a finished one")

// Folder is the input directory, with a record of what was dropped into it and when it was gone.
type Folder struct {
	dir, outside string
	settle       time.Duration

	mu         sync.Mutex
	files      []audit.File
	departures []audit.Departure
	present    map[string]int // name to index into files
	last       time.Time      // the last modification time given
	slow       error
	writers    sync.WaitGroup
	named      func() string   // if set, returns the names that files get instead of their own
	loose      map[string]bool // ids of contents that may be kept any number of times
	swept      []string        // name prefixes of what a hostile bringer, now gone, has left
}

// newFolder returns a Folder for dir; outside is a directory on the same file system.
func newFolder(dir, outside string, settle time.Duration) *Folder {
	return &Folder{dir: dir, outside: outside, settle: settle, present: map[string]int{}, loose: map[string]bool{}}
}

// mayKeep records the id of a content that somebody brings and takes away again.
func (f *Folder) mayKeep(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.loose[id] = true
}

func (f *Folder) looseIDs() map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.loose)
}

// rename makes files that are dropped from now on get the names that named returns; nil ends that.
func (f *Folder) rename(named func() string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.named = named
}

// sweep lets the folder remove what has a name with this prefix, if it is not a regular file or is too large for the
// pipeline. Any other file is left, and has to go by itself.
func (f *Folder) sweep(prefix string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.swept = append(f.swept, prefix)
}

// watch records which files go, until ctx ends.
func (f *Folder) watch(ctx context.Context) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.mu.Lock()
			f.look()
			f.mu.Unlock()
		}
	}
}

// look records which files have gone. The caller holds the lock.
func (f *Folder) look() {
	for name, i := range f.present {
		if _, err := os.Lstat(filepath.Join(f.dir, name)); errors.Is(err, fs.ErrNotExist) {
			f.departures = append(f.departures, audit.Departure{File: i, Gone: time.Now()})
			delete(f.present, name)
		}
	}
}

// Drop puts a file into the directory. It changes a name that is taken at the moment: a file that is overwritten is
// lost by the fault of whoever overwrites it. A slow file is still being written when Drop returns.
func (f *Folder) Drop(file workload.File) error {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.look()

	if f.named != nil {
		file.Name = f.named()
	}

	for n := 2; ; n++ {
		if _, taken := f.present[file.Name]; !taken {
			break
		}

		file.Name = fmt.Sprintf("%s again %d.csv", strings.TrimSuffix(file.Name, ".csv"), n)
	}

	path := filepath.Join(f.dir, file.Name)
	appeared := time.Now()

	var err error
	if len(file.Pieces) > 0 {
		err = f.write(path, file)
	} else {
		err = f.moveIn(path, file.Content)
	}

	if err != nil {
		return fmt.Errorf("drop %s: %w", file.Name, err)
	}

	f.present[file.Name] = len(f.files)
	f.files = append(f.files, audit.File{Name: file.Name, Content: file.Content, Appeared: appeared}) // the writer may cut it short later

	return nil
}

// moveIn writes the file elsewhere and moves it in as a whole. It sets the modification time, because a file system's
// own times are too coarse to order two files.
func (f *Folder) moveIn(path string, content []byte) error {
	tmp := filepath.Join(f.outside, "writing")
	if err := os.WriteFile(tmp, content, 0o644); err != nil {
		return err
	}

	now := time.Now()
	if !now.After(f.last) {
		now = f.last.Add(time.Microsecond)
	}

	f.last = now
	if err := os.Chtimes(tmp, now, now); err != nil {
		return err
	}

	return os.Rename(tmp, path)
}

// write writes the first piece at once, and the others bit by bit.
func (f *Folder) write(path string, file workload.File) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}

	if _, err := out.Write(file.Content[:file.Pieces[0]]); err != nil {
		return errors.Join(err, out.Close())
	}

	i := len(f.files) // the index that the file will get
	f.writers.Go(func() {
		defer out.Close()

		written, err := f.writeOn(out, file)
		f.mu.Lock()
		defer f.mu.Unlock()

		f.files[i].Content = file.Content[:written]
		f.slow = errors.Join(f.slow, err)
	})

	return nil
}

// writeOn writes the pieces after the first, and returns how many bytes of the file have been written. If the machine
// is so busy that what is there may have been taken for a finished file, the file ends there.
func (f *Folder) writeOn(out *os.File, file workload.File) (written int, err error) {
	tick := time.NewTicker(pieceEvery)
	defer tick.Stop()

	written = file.Pieces[0]
	before := time.Now()
	for _, n := range file.Pieces[1:] {
		<-tick.C

		if time.Since(before) > f.settle/2 {
			return written, nil
		}

		_, err := out.Write(file.Content[written : written+n])
		if time.Since(before) > f.settle {
			err = errors.Join(err, ErrSlow)
		}

		if err != nil {
			return written, err
		}

		written += n
		before = time.Now()
	}

	return written, nil
}

// Names lists the .csv files in the directory.
func (f *Folder) Names() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	var names []string
	for _, e := range entries {
		if strings.EqualFold(filepath.Ext(e.Name()), ".csv") && !f.takenAway(e) {
			names = append(names, e.Name())
		}
	}

	return names, err
}

// takenAway removes an entry that a hostile bringer has left and that no pipeline can take. It reports whether it
// did.
func (f *Folder) takenAway(e fs.DirEntry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	if !slices.ContainsFunc(f.swept, func(prefix string) bool { return strings.HasPrefix(e.Name(), prefix) }) {
		return false
	}

	info, err := e.Info()

	return err == nil && (!info.Mode().IsRegular() || info.Size() >= largeHole) && os.RemoveAll(filepath.Join(f.dir, e.Name())) == nil
}

// Record returns what was dropped and what has gone, and ErrSlow if the record proves nothing. It waits for files
// that are still being written.
func (f *Folder) Record() ([]audit.File, []audit.Departure, error) {
	f.writers.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()

	f.look()

	return slices.Clone(f.files), slices.Clone(f.departures), f.slow
}

// kept reads all files below a directory.
func kept(dir string, failed bool) ([]audit.Kept, error) {
	var files []audit.Kept

	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}

		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files = append(files, audit.Kept{Name: name, Content: content, Failed: failed})

		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the pipeline creates it when it needs it
	}

	return files, err
}
