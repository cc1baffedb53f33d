package logging

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// daily is a log file that changes its name at midnight, in the machine's zone: <program>-2006-01-02.log. It is safe for
// concurrent use.
type daily struct {
	mu        sync.Mutex
	directory string
	program   string
	day       string
	file      *os.File
	now       func() time.Time
}

func openDaily(directory, program string) (*daily, error) {
	if err := os.MkdirAll(directory, 0o750); err != nil {
		return nil, fmt.Errorf("LOG_DIRECTORY: make the directory: %w", err)
	}
	d := &daily{directory: directory, program: program, now: time.Now}
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
	day := d.now().Format(time.DateOnly)
	if d.file != nil && d.day == day {
		return nil
	}
	path := filepath.Join(d.directory, d.program+"-"+day+".log")
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
	return nil
}

// Close closes the file.
func (d *daily) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.file.Close()
}
