package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// daily is a log file whose name changes at midnight, in the machine's zone: <program>-2006-01-02.log. It is safe for
// concurrent use.
type daily struct {
	dailyConfig
	mu   sync.Mutex
	day  string
	file *os.File
	// checked is when the file was last seen to be still in place under its name.
	checked time.Time
	// purged is the day on which old files were last deleted.
	purged string
}

// checkInterval is how often that is checked: a file that was moved or deleted receives nothing more, and a new one
// takes its place.
const checkInterval = time.Second

type dailyConfig struct {
	directory string
	program   string
	// purgeDays is the age in days at which a file is deleted; 0 means never.
	purgeDays int
	now       func() time.Time
	remove    func(path string) error
	// onProblem is called, at most once a day, with the reason why old files cannot be deleted. It must not write to
	// this log.
	onProblem func(error)
}

func openDaily(cfg dailyConfig) (*daily, error) {
	if err := os.MkdirAll(cfg.directory, 0o750); err != nil {
		return nil, fmt.Errorf("LOG_DIRECTORY: make the directory: %w", err)
	}

	d := &daily{dailyConfig: cfg}
	if err := d.rotate(); err != nil {
		return nil, fmt.Errorf("LOG_DIRECTORY: %w", err)
	}

	return d, nil
}

// Write appends a record to the file of the day.
func (d *daily) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.rotate(); err != nil {
		return 0, err
	}

	return d.file.Write(p)
}

// rotate opens the file of the day if it is not open, or has been moved or deleted. While none can be opened, the
// previous file continues to receive the records.
func (d *daily) rotate() error {
	now := d.now()
	day := now.Format(time.DateOnly)
	path := filepath.Join(d.directory, d.name(day))
	if d.file != nil && d.day == day && !d.gone(path, now) {
		return nil
	}

	if d.purged != day { // first, because a full disk may have no room for the new file
		d.purged = day
		if err := d.purge(now); err != nil {
			d.onProblem(err) // the program and its log continue
		}
	}

	file, err := d.open(path)
	if err != nil {
		if d.file != nil {
			return nil // a later record tries again
		}
		return fmt.Errorf("open the log file of the day: %w", err)
	}

	if d.file != nil {
		_ = d.file.Close() // its records were already written
	}

	d.day, d.file, d.checked = day, file, now

	return nil
}

// open opens a log file, and creates its directory if that is gone too.
func (d *daily) open(path string) (*os.File, error) {
	const flags = os.O_CREATE | os.O_APPEND | os.O_WRONLY
	file, err := os.OpenFile(path, flags, 0o640)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(d.directory, 0o750); err != nil {
			return nil, err
		}

		file, err = os.OpenFile(path, flags, 0o640)
	}

	return file, err
}

// gone reports whether the open file is no longer where it was opened, or another file is there.
func (d *daily) gone(path string, now time.Time) bool {
	if since := now.Sub(d.checked); since >= 0 && since < checkInterval {
		return false
	}

	d.checked = now

	there, err := os.Stat(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}

	open, err := d.file.Stat()

	return err == nil && !os.SameFile(open, there)
}

func (d *daily) name(day string) string { return d.program + "-" + day + ".log" }

// purge deletes this program's files that are older than the days to keep, and nothing else. A file that cannot be
// deleted does not prevent deleting the others.
func (d *daily) purge(now time.Time) error {
	if d.purgeDays <= 0 {
		return nil
	}

	entries, err := os.ReadDir(d.directory)
	if err != nil {
		return fmt.Errorf("look for old log files: %w", err)
	}

	oldest := now.AddDate(0, 0, -d.purgeDays).Format(time.DateOnly)
	var errs []error
	for _, e := range entries {
		day := strings.TrimSuffix(strings.TrimPrefix(e.Name(), d.program+"-"), ".log")
		if _, err := time.Parse(time.DateOnly, day); err != nil || e.Name() != d.name(day) || !e.Type().IsRegular() {
			continue
		}

		if day < oldest { // dates of this form sort as text
			err := d.remove(filepath.Join(d.directory, e.Name()))
			if !errors.Is(err, fs.ErrNotExist) { // another process of this program, such as another publisher, was faster
				errs = append(errs, err)
			}
		}
	}

	return errors.Join(errs...)
}

// Close closes the file.
func (d *daily) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.file.Close()
}
