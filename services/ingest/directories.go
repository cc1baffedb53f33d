package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"bobosync/shared/disk"
	"bobosync/shared/pause"
)

// slowCheck is how long checking a directory may take before it counts as not answering.
const slowCheck = 10 * time.Second

// dirWatch watches whether the configured directories can be used. It logs one line when a directory cannot be used
// any more, one a minute while that lasts, and one when it is over. It is safe for concurrent use.
type dirWatch struct {
	all []usedDirectory
	log *slog.Logger
	now func() time.Time

	patience time.Duration // see slowCheck

	checking sync.Mutex // one check at a time

	mu      sync.Mutex
	outages map[string]*outage   // by variable
	tries   map[string]time.Time // since when each directory that is being tried now has been, by variable
	rooms   map[string]room      // by variable
}

type usedDirectory struct {
	directory
	write bool
}

// room is how much room the disk of a directory had at the last check.
type room struct {
	bytes   uint64
	known   bool
	noFiles bool
}

type outage struct {
	reason string
	since  time.Time
	warned time.Time // when it was last logged
}

func newDirWatch(cfg Config, log *slog.Logger, now func() time.Time) *dirWatch {
	d := &dirWatch{log: log, now: now, patience: slowCheck, outages: map[string]*outage{}, tries: map[string]time.Time{}, rooms: map[string]room{}}
	for _, dir := range cfg.directories() {
		if dir.input || cfg.Move {
			d.all = append(d.all, usedDirectory{dir, cfg.Move})
		}
	}

	d.all = append(d.all, usedDirectory{directory{"DATA_DIRECTORY", cfg.Data.Directory, false}, true})
	for _, dir := range d.all {
		d.measure(dir)
	}

	return d
}

// run checks the directories at once and then periodically until ctx ends.
func (d *dirWatch) run(ctx context.Context, every time.Duration) {
	d.check()

	_ = pause.Every(ctx, every, func() error { d.check(); return nil })
}

// check checks all directories now and reports whether any of them cannot be used. It waits for each of them for a
// limited time only.
func (d *dirWatch) check() (failed bool) {
	d.checking.Lock()
	defer d.checking.Unlock()

	for _, dir := range d.all {
		err := d.try(dir)
		d.note(dir, err)
		failed = failed || err != nil
	}

	return failed
}

// errSilent means that a directory does not answer, as on a network share that hangs.
var errSilent = errors.New("does not answer")

// try tries a directory. A directory that does not answer is not tried again until it does; meanwhile the others are
// tried without it.
func (d *dirWatch) try(dir usedDirectory) error {
	if !d.begin(dir.variable) {
		return errSilent
	}

	came := make(chan error, 1)
	go func() {
		err := dir.try()
		d.measure(dir)
		d.end(dir.variable)

		came <- err
	}()

	timer := time.NewTimer(d.patience)
	defer timer.Stop()

	select {
	case err := <-came:
		return err
	case <-timer.C:
		return errSilent
	}
}

// begin notes that a directory is being tried. It reports false if it already is.
func (d *dirWatch) begin(variable string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()

	if _, trying := d.tries[variable]; trying {
		return false
	}

	d.tries[variable] = d.now()

	return true
}

func (d *dirWatch) end(variable string) {
	d.mu.Lock()
	defer d.mu.Unlock()

	delete(d.tries, variable)
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

// state returns why directories cannot be used, by variable. It never waits for a directory.
func (d *dirWatch) state() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()

	reasons := map[string]string{}
	for variable, t := range d.outages {
		reasons[variable] = t.reason
	}

	for variable, since := range d.tries {
		if waited := d.now().Sub(since); waited >= slowCheck {
			reasons[variable] = fmt.Sprintf("has not answered for %s", waited.Round(time.Second))
		}
	}

	return reasons
}

// onList returns the function that is called after each listing of an input directory.
func (d *dirWatch) onList(variable string) func(error) {
	return func(err error) {
		if err != nil || d.known(variable) {
			d.check()
		}
	}
}

// try does what using the directory takes: it reads the first name and, if d.write is set, writes a small file.
func (d usedDirectory) try() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}

	if _, err = dir.Readdirnames(1); errors.Is(err, io.EOF) {
		err = nil // the directory is empty
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

// plainReason returns why a directory cannot be used, in words for an operator.
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

// measure notes how much room there is where files are created: in the processed directory and that of the ledger.
func (d *dirWatch) measure(dir usedDirectory) {
	if dir.variable != "DATA_DIRECTORY" && dir.variable != "PROCESSED_DIRECTORY" {
		return
	}

	n, err := disk.Free(dir.path)
	now := room{bytes: n, known: err == nil, noFiles: disk.NoFiles(dir.path)}

	d.mu.Lock()
	defer d.mu.Unlock()

	d.rooms[dir.variable] = now
}

// freeBytes returns the free space in bytes where the processed files and the ledger go, the lesser of the two, as of
// the last check. It returns 0 if the system does not say. It never waits for a directory.
func (d *dirWatch) freeBytes() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()

	least, known := uint64(0), false
	for _, r := range d.rooms {
		if r.known && (!known || r.bytes < least) {
			least, known = r.bytes, true
		}
	}

	return least
}

// noFiles reports whether hardly any more files could be created in one of these directories.
func (d *dirWatch) noFiles() bool {
	d.mu.Lock()
	defer d.mu.Unlock()

	for _, r := range d.rooms {
		if r.noFiles {
			return true
		}
	}

	return false
}
