// Package watch finds the files in the input directories that have stopped growing.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"bobosync/services/ingest/internal/files"
	"bobosync/shared/disk"
)

// Config says what to watch and how. Dir, Poll, Settle and Logger are required.
type Config struct {
	Dir string
	// Prefix begins the names of the files that are found there, for a Tracker of several directories. If Tracker is
	// nil, the watcher has one of its own.
	Prefix  string
	Tracker *Tracker
	// Poll is how often the directory is listed: file-system events do not fire on network shares.
	Poll time.Duration
	// Settle is how long a file must have stayed unchanged, by this machine's clock, before it is taken.
	Settle time.Duration
	// MaxSize is the size in bytes above which a file is a problem; 0 means no limit.
	MaxSize int64
	Logger  *slog.Logger
	// OnList is called after each listing of the directory with the error, or nil. It is called from Run.
	OnList func(err error)
}

// Watcher finds files in a directory; its Tracker holds what it has found. Run is for one goroutine.
type Watcher struct {
	*Tracker
	dir *directory
	cfg Config

	open         func() (*fsnotify.Watcher, error)
	notify       *fsnotify.Watcher
	events       <-chan fsnotify.Event
	errs         <-chan error
	watched      fs.FileInfo // the directory that notify watches
	notifyFailed bool
	// blind reports that the last listing of the directory failed, or that there was none yet: files found in it may
	// have arrived at any time before.
	blind bool
}

// New returns a Watcher; Run starts it.
func New(cfg Config) *Watcher {
	if cfg.OnList == nil {
		cfg.OnList = func(error) {}
	}

	if cfg.Tracker == nil {
		cfg.Tracker = NewTracker(cfg.Settle, cfg.Logger)
	}

	return &Watcher{Tracker: cfg.Tracker, dir: cfg.Tracker.add(cfg.Prefix), cfg: cfg, open: fsnotify.NewWatcher, blind: true}
}

// Run watches until ctx ends. If the directory cannot be read, Run waits until it can.
func (w *Watcher) Run(ctx context.Context) {
	defer w.dir.timer.Stop()
	defer w.closeNotify()

	poll := time.NewTicker(w.cfg.Poll)
	defer poll.Stop()

	w.list()

	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			w.list()
		case <-w.dir.timer.C:
			w.settleDue()
		case e := <-w.events:
			w.handle(e)
		case err := <-w.errs:
			// This is usually an overflow: events were dropped.
			w.cfg.Logger.Debug("file-system events failed, listing the directory instead", "error", err)
			w.list()
		}
	}
}

func (w *Watcher) handle(e fsnotify.Event) {
	switch name := filepath.Base(e.Name); {
	case filepath.Clean(e.Name) == filepath.Clean(w.cfg.Dir): // removed or renamed: another one may be at its path
		w.watched = nil
		w.list()
	case files.IsCSV(name):
		w.check(w.cfg.Prefix+name, true, time.Now())
	}
}

// openNotify starts listening for file-system events. If that fails, polling alone does the work, and each listing
// tries again: other programs may have used up what the system provides.
func (w *Watcher) openNotify() {
	notify, err := w.open()
	if err != nil {
		w.noNotify(err)
		return
	}

	w.notify, w.events, w.errs = notify, notify.Events, notify.Errors
}

func (w *Watcher) closeNotify() {
	if w.notify != nil {
		_ = w.notify.Close() // nothing is lost with it
	}
}

func (w *Watcher) noNotify(err error) {
	if !w.notifyFailed {
		w.notifyFailed = true
		w.cfg.Logger.Warn("no file-system events for the input directory, new files are found by polling alone",
			"directory", w.cfg.Dir, "poll_interval", w.cfg.Poll, "error", err)
	}
}

// listen makes sure that events come from the directory that is at the path now. It adds the watch each time: the
// system drops it when the directory is removed, and a directory that is created again may have the same number.
func (w *Watcher) listen() {
	if w.notify == nil {
		w.openNotify()
	}

	if w.notify == nil {
		return
	}

	info, err := os.Stat(w.cfg.Dir)
	if err != nil {
		w.watched = nil
		return
	}

	if w.watched != nil && !os.SameFile(info, w.watched) {
		_ = w.notify.Remove(w.cfg.Dir) // the watch is already gone if the directory is
	}

	w.watched = nil
	if err := w.notify.Add(w.cfg.Dir); err != nil {
		w.noNotify(err)
		return
	}

	w.watched, w.notifyFailed = info, false
}

// list examines everything in the directory.
func (w *Watcher) list() {
	w.listen()

	began := time.Now()
	dir, err := os.ReadDir(w.cfg.Dir)
	w.cfg.OnList(err)

	if err != nil {
		w.blind = true
		return
	}

	// Everything in one listing counts as found at the same moment, so that it settles together and is taken oldest
	// first.
	now := time.Now()
	there := make(map[string]bool, len(dir))
	for _, d := range dir {
		if files.IsCSV(d.Name()) {
			name := w.cfg.Prefix + d.Name()
			there[name] = true
			w.check(name, false, now)
		}
	}

	w.dir.keep(there, began)
	w.blind = false
}

// check notes what is under a name now.
func (w *Watcher) check(name string, event bool, now time.Time) {
	what, err := w.examine(name)
	if errors.Is(err, fs.ErrNotExist) {
		w.dir.forget(name)
		return
	}

	if err != nil {
		what.reason = disk.Cause(err).Error()
	}

	// The clocks of file servers differ from this machine's, so the file's own time counts only where there is nothing
	// better.
	if !w.blind || what.arrived.IsZero() || what.arrived.After(now) {
		what.arrived = now
	}

	w.dir.see(name, what, event, now)
}

// settleDue checks the files again that have not changed for long enough, and offers those that still have not changed.
func (w *Watcher) settleDue() {
	now := time.Now()
	due := w.dir.due(now)
	for _, name := range slices.Sorted(maps.Keys(due)) {
		w.check(name, false, time.Now())
	}

	w.dir.offer(due, now)
}

// examine returns what is under a name, and when it arrived by its own time. It opens nothing: a pipe would hang. It
// follows no link: that may point to what only this program may read.
func (w *Watcher) examine(name string) (what sight, err error) {
	info, err := os.Lstat(filepath.Join(w.cfg.Dir, files.Base(name)))
	if err != nil {
		return what, err
	}

	what = sight{stat: files.StatOf(info), arrived: files.Arrival(info), noFile: !info.Mode().IsRegular()}
	switch mode := info.Mode(); {
	case mode.IsDir():
		what.reason = "a directory, not a file"
	case mode&fs.ModeSymlink != 0:
		what.reason = "a link, not a file: put the file itself here"
	case !mode.IsRegular():
		what.reason = fmt.Sprintf("not a regular file (%s)", mode.Type())
	case w.cfg.MaxSize > 0 && info.Size() > w.cfg.MaxSize:
		what.reason = fmt.Sprintf("too large: %d bytes, MAX_FILE_SIZE allows %d", info.Size(), w.cfg.MaxSize)
	}

	return what, nil
}
