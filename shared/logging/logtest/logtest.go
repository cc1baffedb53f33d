// Package logtest has a log that a test reads while what it tests writes to it.
package logtest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// Log keeps what is written to it. The zero value is an empty one; several goroutines may use it at once.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Logger returns a logger that writes records of the level and above as lines of JSON.
func (l *Log) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level}))
}

// Count counts how often the text stands in the log.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Has reports whether a line of JSON of the level contains the text.
func (l *Log) Has(level, text string) bool {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, `"level":"`+level+`"`) && strings.Contains(line, text) {
			return true
		}
	}

	return false
}
