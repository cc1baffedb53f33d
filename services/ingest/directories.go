package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"bobosync/shared/disk"
	"bobosync/shared/pause"
)

// slowCheck is how long checking a directory may take before it counts as not answering.
const slowCheck = 10 * time.Second

// dirWatch watches whether the configured directories can be used: one line in the log when one cannot any more, one a
// minute while that lasts, one when it is over. It is safe for concurrent use.
type dirWatch struct {
	all []usedDirectory
	log *slog.Logger
	now func() time.Time

	checking sync.Mutex // one check at a time

	mu      sync.Mutex
	outages map[string]*outage // by variable
	at      string             // the variable that is being checked
	since   time.Time          // since when
}

type usedDirectory struct {
	directory
	write bool
}

type outage struct {
	reason string
	since  time.Time
	warned time.Time // when it was last logged
}

func newDirWatch(cfg Config, log *slog.Logger, now func() time.Time) *dirWatch {
	d := &dirWatch{log: log, now: now, outages: map[string]*outage{}}
	for _, dir := range cfg.directories() {
		if dir.input || cfg.Move {
			d.all = append(d.all, usedDirectory{dir, cfg.Move})
		}
	}
	d.all = append(d.all, usedDirectory{directory{"DATA_DIRECTORY", cfg.Data.Directory, false}, true})
	return d
}

// run checks every so often until ctx ends.
func (d *dirWatch) run(ctx context.Context, every time.Duration) {
	d.check()
	_ = pause.Every(ctx, every, func() error { d.check(); return nil })
}

// check checks all directories now and reports whether any of them cannot be used.
func (d *dirWatch) check() (failed bool) {
	d.checking.Lock()
	defer d.checking.Unlock()
	for _, dir := range d.all {
		d.begin(dir.variable)
		err := dir.try()
		d.note(dir, err)
		failed = failed || err != nil
	}
	d.begin("")
	return failed
}

func (d *dirWatch) begin(variable string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.since = variable, d.now()
}

func (d *dirWatch) note(dir usedDirectory, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, known := d.now(), d.outages[dir.variable]
	if err == nil {
		if known != nil {
			delete(d.outages, dir.variable)
			d.log.Info("a directory can be used again", "variable", dir.variable, "directory", dir.path,
				"seconds", now.Sub(known.since).Round(time.Millisecond).Seconds())
		}
		return
	}
	if known == nil {
		known = &outage{since: now}
		d.outages[dir.variable] = known
	}
	known.reason = plainReason(err)
	if now.Sub(known.warned) >= time.Minute {
		known.warned = now
		d.log.Error("a directory cannot be used, waiting for it: check that it exists, is mounted, has room and may be used by this program",
			"variable", dir.variable, "directory", dir.path, "reason", known.reason, "seconds", now.Sub(known.since).Round(time.Millisecond).Seconds())
	}
}

// known reports whether a directory could not be used at the last check.
func (d *dirWatch) known(variable string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.outages[variable] != nil
}

// state returns the reasons by variable. It never waits for a directory.
func (d *dirWatch) state() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	reasons := map[string]string{}
	for variable, t := range d.outages {
		reasons[variable] = t.reason
	}
	if waited := d.now().Sub(d.since); d.at != "" && waited >= slowCheck {
		reasons[d.at] = fmt.Sprintf("has not answered for %s", waited.Round(time.Second))
	}
	return reasons
}

// onList returns what is called after each listing of an input directory.
func (d *dirWatch) onList(variable string) func(error) {
	return func(err error) {
		if err != nil || d.known(variable) {
			d.check()
		}
	}
}

// try does with the directory what using it takes: reading the first names, and writing a small file.
func (d usedDirectory) try() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	if _, err = dir.Readdirnames(1); errors.Is(err, io.EOF) {
		err = nil // it is empty
	}
	if err = errors.Join(err, dir.Close()); err != nil || !d.write {
		return err
	}
	file, err := os.CreateTemp(d.path, probe+"*")
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 4096)) // an empty file fits on a full disk
	return errors.Join(err, file.Close(), os.Remove(file.Name()))
}

// plainReason is an operator's reason why a directory cannot be used.
func plainReason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, syscall.ENOTDIR):
		return "is not a directory"
	case errors.Is(err, syscall.EROFS):
		return "is read-only"
	case errors.Is(err, fs.ErrPermission):
		return "this program has no right to use it"
	case disk.IsFull(err):
		return "is full"
	default:
		return disk.Cause(err).Error()
	}
}

// freeBytes is the room left where the processed files and the ledger go, the lesser of the two; 0 if the system does not say.
func (d *dirWatch) freeBytes() uint64 {
	least, known := uint64(0), false
	for _, path := range d.written() {
		if n, err := disk.Free(path); err == nil && (!known || n < least) {
			least, known = n, true
		}
	}
	return least
}

// noFiles reports whether next to no more files can be made in one of them.
func (d *dirWatch) noFiles() bool { return slices.ContainsFunc(d.written(), disk.NoFiles) }

// written are the directories in which files are made.
func (d *dirWatch) written() (paths []string) {
	for _, dir := range d.all {
		if dir.variable == "DATA_DIRECTORY" || dir.variable == "PROCESSED_DIRECTORY" {
			paths = append(paths, dir.path)
		}
	}
	return paths
}
