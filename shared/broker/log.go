package broker

// This file passes the server's log on.

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxProblems is how many of the server's complaints are kept to explain a start that fails.
	maxProblems = 10
	// maxLines is how many warnings and errors of the server are logged in a logWindow: anyone who reaches its port can
	// make it log them for each connection.
	maxLines  = 30
	logWindow = time.Minute
)

// logBridge maps the server's log to slog, and keeps the first fatal line and the server's first complaints.
type logBridge struct {
	logger *slog.Logger

	mu       sync.Mutex
	died     string
	problems []string
	// window is when counting last started over; lines counts the lines since then, and dropped those of them that were
	// not logged.
	window         time.Time
	lines, dropped int
}

func (l *logBridge) Noticef(format string, v ...any) { l.logger.Debug(fmt.Sprintf(format, v...)) }
func (l *logBridge) Debugf(format string, v ...any)  { l.logger.Debug(fmt.Sprintf(format, v...)) }
func (l *logBridge) Tracef(format string, v ...any)  { l.logger.Debug(fmt.Sprintf(format, v...)) }
func (l *logBridge) Warnf(format string, v ...any) {
	l.warn(l.logger.Warn, fmt.Sprintf(format, v...))
}
func (l *logBridge) Errorf(format string, v ...any) {
	l.warn(l.logger.Error, fmt.Sprintf(format, v...))
}

// Fatalf only keeps the text: Start returns it as its error, so that each failure is reported once.
func (l *logBridge) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.died == "" {
		l.died = fmt.Sprintf(format, v...)
	}
}

// warn logs a warning or an error, unless there were too many recently.
func (l *logBridge) warn(log func(string, ...any), text string) {
	dropped, ok := l.admit(text, time.Now())
	if dropped > 0 {
		l.logger.Warn("the broker had more to say than is logged", "lines", dropped, "within", logWindow.String())
	}

	if ok {
		log(text)
	}
}

// admit keeps a line's text. It reports whether the line should be logged, and how many lines of a window that has just
// ended were not.
func (l *logBridge) admit(text string, now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, strings.TrimSpace(text))
	}

	if now.Sub(l.window) >= logWindow {
		dropped = l.dropped
		l.window, l.lines, l.dropped = now, 0, 0
	}

	if l.lines++; l.lines > maxLines {
		l.dropped++
		return dropped, false
	}

	return dropped, true
}

func (l *logBridge) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.died
}

// problemText returns the server's complaints.
func (l *logBridge) problemText() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	all := l.problems
	if l.died != "" {
		all = append(slices.Clip(all), l.died)
	}

	return strings.Join(all, "; ")
}
