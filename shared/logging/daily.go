package logging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// daily is a log file that changes its name at midnight, in the machine's zone: <program>-2006-01-02.log. It is safe for
// concurrent use.
type daily struct {
	dailyConfig
	mu   sync.Mutex
	day  string
	file *os.File
}

type dailyConfig struct {
	directory string
	program   string
	// purgeDays is after how many days a file is deleted; 0 means never.
	purgeDays int
	now       func() time.Time
	remove    func(path string) error
	// onProblem is told, once a day at most, why old files cannot be deleted. It must not write to this log.
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

func (d *daily) rotate() error {
	now := d.now()
	day := now.Format(time.DateOnly)
	if d.file != nil && d.day == day {
		return nil
	}
	path := filepath.Join(d.directory, d.name(day))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the log file of the day: %w", err)
	}
	if d.file != nil {
		if err := d.file.Close(); err != nil {
			return fmt.Errorf("close the log file of the day before: %w", err)
		}
	}
	d.day, d.file = day, file
	if err := d.purge(now); err != nil {
		d.onProblem(err) // the program goes on, and so does its log
	}
	return nil
}

func (d *daily) name(day string) string { return d.program + "-" + day + ".log" }

// purge deletes this program's files of the days before those that are kept, and nothing else. What cannot be deleted does
// not keep the others.
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
			errs = append(errs, d.remove(filepath.Join(d.directory, e.Name())))
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
