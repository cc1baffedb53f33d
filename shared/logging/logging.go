// Package logging makes the logger of a program: tint on a terminal, JSON otherwise, and one file a day if a directory
// is set. Keys are in snake_case, times in the machine's zone.
package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"bobosync/shared/config"
	"bobosync/shared/text"
)

// New returns the logger of the named program, which writes to w and to the directory of the settings. It deletes old
// log files of the program there, now and whenever a new file begins; failures to do so are reported on w and stop
// nothing. The returned function closes the log file.
func New(w io.Writer, program string, settings config.Log) (*slog.Logger, func() error, error) {
	level, err := ParseLevel(settings.Level)
	if err != nil {
		return nil, nil, err
	}

	handlers := fanout{console(w, level, settings.Format)}
	closer := func() error { return nil }
	if settings.Directory != "" {
		file, err := openDaily(dailyConfig{
			directory: settings.Directory, program: program, purgeDays: settings.PurgeDays, now: time.Now, remove: os.Remove,
			onProblem: purgeProblem(handlers[0]),
		})
		if err != nil {
			return nil, nil, err
		}

		handlers = append(handlers, slog.NewJSONHandler(text.Escaping(file), &slog.HandlerOptions{Level: level}))
		closer = file.Close
	}

	if len(handlers) == 1 {
		return slog.New(handlers[0]), closer, nil
	}

	return slog.New(handlers), closer, nil
}

// purgeProblem returns a function that reports to the console only, because it is called while the log file is being
// written.
func purgeProblem(console slog.Handler) func(error) {
	return func(err error) {
		slog.New(console).Warn("old log files cannot be deleted: check the rights on LOG_DIRECTORY, or set LOG_PURGE_DAYS=0", "error", err)
	}
}

// ParseLevel reads DEBUG, INFO, WARN (or WARNING) or ERROR, in any letter case.
func ParseLevel(name string) (slog.Level, error) {
	if strings.EqualFold(name, "WARNING") {
		name = "WARN"
	}

	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("LOG_LEVEL: must be DEBUG, INFO, WARN or ERROR: %w", err)
	}

	return level, nil
}

func console(w io.Writer, level slog.Level, format string) slog.Handler {
	terminal := IsTerminal(w)
	if strings.EqualFold(format, "text") || strings.EqualFold(format, "auto") && terminal {
		return cleaning{tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: !terminal || os.Getenv("NO_COLOR") != ""})}
	}

	return slog.NewJSONHandler(text.Escaping(w), &slog.HandlerOptions{Level: level})
}

// IsTerminal reports whether w is a terminal, so that a person is watching.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(file.Fd()) || isatty.IsCygwinTerminal(file.Fd()))
}

// fanout passes each record to several handlers.
type fanout []slog.Handler

func (f fanout) Enabled(ctx context.Context, level slog.Level) bool {
	for _, h := range f {
		if h.Enabled(ctx, level) {
			return true
		}
	}

	return false
}

func (f fanout) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range f {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}

	return errors.Join(errs...)
}

func (f fanout) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make(fanout, len(f))
	for i, h := range f {
		out[i] = h.WithAttrs(attrs)
	}

	return out
}

func (f fanout) WithGroup(name string) slog.Handler {
	out := make(fanout, len(f))
	for i, h := range f {
		out[i] = h.WithGroup(name)
	}

	return out
}
