package folder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// IsCSV says whether a name is one of an input file: all that can be relied on is the .csv ending, in any letter case. A
// leading dot makes no difference. Some copy tools use one for a file that they still write; should such a file hold still
// for long enough to be taken, it is read like any other, and the finished file is a new one.
func IsCSV(name string) bool { return strings.EqualFold(filepath.Ext(name), ".csv") }

// Found is a file that has stopped growing.
type Found struct {
	Name string
	Stat Stat
}

// Compare orders files as they are to be read: oldest first, then by name.
func (f Found) Compare(g Found) int {
	return cmp.Or(cmp.Compare(f.Stat.Modified, g.Stat.Modified), cmp.Compare(f.Name, g.Name))
}

// WatchConfig says what to watch and how. All fields but OnProblem and OnList are required.
type WatchConfig struct {
	Dir string
	// Poll is how often the directory is listed: file-system events do not fire on network shares.
	Poll time.Duration
	// Settle is how long a file must not change, by this machine's clock, before it is taken.
	Settle time.Duration
	Logger *slog.Logger
	// OnProblem is told of what cannot be read as a file, with the reason, and with an empty reason when that is over. It
	// is called from Run and from Reject.
	OnProblem func(name, reason string)
	// OnList is told, after each listing of the directory, why it failed, or nil. It is called from Run.
	OnList func(err error)
}

// Watcher finds files in a directory. Its methods may be called from several goroutines, Run from one.
type Watcher struct {
	cfg   WatchConfig
	ready chan struct{}
	timer *time.Timer // runs out when something may have settled

	mu       sync.Mutex
	entries  map[string]*entry
	settling map[string]*entry // those of the entries that are watched closely

	// For Run alone.
	notify       *fsnotify.Watcher
	watched      fs.FileInfo // the directory that notify watches
	notifyFailed bool
}

// state is how far a name has come.
type state int

const (
	settling state = iota
	settled        // waits to be taken
	taken          // nothing to do until it changes
	rejected       // looked at again later
)

type entry struct {
	state state
	stat  Stat
	since time.Time // of the last change that was seen
	began time.Time // of settling
	again time.Time // when a rejected one is looked at again
	pause time.Duration
	why   string
}

// Pauses before something that cannot be read is looked at again, if it does not change meanwhile.
const (
	firstPause = 5 * time.Second
	maxPause   = 5 * time.Minute
)

// granularity is the shortest time between two looks at what is settling.
const granularity = 5 * time.Millisecond

// NewWatcher returns a Watcher; Run starts it.
func NewWatcher(cfg WatchConfig) *Watcher {
	w := &Watcher{
		cfg: cfg, ready: make(chan struct{}, 1), entries: map[string]*entry{}, settling: map[string]*entry{},
		timer: time.NewTimer(cfg.Settle),
	}
	w.timer.Stop()
	return w
}

// Ready gets a value when there may be something to take.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Take returns the files that have settled, oldest first. A file comes once, and again when it has changed or when Again or
// Reject is called. A file is held back while an older one is still settling, but for no longer than Settle: one that
// never settles must not hold the others up.
func (w *Watcher) Take() []Found {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var files []Found
	for name, e := range w.entries {
		if e.state != settled {
			continue
		}
		if w.olderSettles(name, e) && now.Sub(e.since) < 2*w.cfg.Settle {
			continue
		}
		e.state = taken
		files = append(files, Found{Name: name, Stat: e.stat})
	}
	slices.SortFunc(files, Found.Compare)
	return files
}

// olderSettles says whether a file that is to be read before the named one is still settling.
func (w *Watcher) olderSettles(name string, e *entry) bool {
	for other, o := range w.settling {
		if o.state == settling && (Found{other, o.stat}).Compare(Found{name, e.stat}) < 0 {
			return true
		}
	}
	return false
}

// Changing returns the files that have not settled, with the moment since which they change.
func (w *Watcher) Changing() map[string]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	changing := map[string]time.Time{}
	for name, e := range w.settling {
		if e.state == settling {
			changing[name] = e.began
		}
	}
	return changing
}

// Soon says whether further files can be taken now, or within d if they do not change.
func (w *Watcher) Soon(d time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.settling {
		if e.state == settling && time.Since(e.since) >= w.cfg.Settle-d {
			return true
		}
	}
	for _, e := range w.entries {
		if e.state == settled {
			return true
		}
	}
	return false
}

// Again offers everything once more that was taken.
func (w *Watcher) Again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if e.state == taken {
			e.state = settled
		}
	}
	w.signal()
}

// Reject says that a file which was taken cannot be read. It is offered again when it changes, or after a while, which
// gets longer each time.
func (w *Watcher) Reject(name, reason string) {
	w.mu.Lock()
	e, known := w.entries[name]
	first := known && w.reject(e, reason)
	w.mu.Unlock()
	if first {
		w.complain(name, reason)
	}
}

// Accept says that a file which was taken could be read.
func (w *Watcher) Accept(name string) {
	w.mu.Lock()
	e, known := w.entries[name]
	mended := known && e.why != ""
	if mended {
		e.why, e.pause = "", 0
	}
	w.mu.Unlock()
	if mended {
		w.tell(name, "")
	}
}

// reject notes a problem and says whether it is a new one.
func (w *Watcher) reject(e *entry, reason string) bool {
	first := e.why != reason
	e.pause = min(max(2*e.pause, firstPause), maxPause)
	e.state, e.why, e.again = rejected, reason, time.Now().Add(e.pause)
	return first
}

func (w *Watcher) complain(name, reason string) {
	w.cfg.Logger.Warn("cannot be read as a file, left where it is", "file", name, "reason", reason)
	w.tell(name, reason)
}

func (w *Watcher) tell(name, reason string) {
	if w.cfg.OnProblem != nil {
		w.cfg.OnProblem(name, reason)
	}
}

func (w *Watcher) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends. A directory that cannot be read is waited for.
func (w *Watcher) Run(ctx context.Context) {
	defer w.timer.Stop()
	events, errs := w.openNotify()
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
		case <-w.timer.C:
			w.settle()
		case e := <-events:
			if name := filepath.Base(e.Name); IsCSV(name) {
				w.look(name, true, time.Now())
			}
		case err := <-errs:
			// An overflow, as a rule: events were dropped.
			w.cfg.Logger.Debug("file-system events failed, listing the directory instead", "error", err)
			w.list()
		}
	}
}

// openNotify starts listening for file-system events; without them polling alone does the work.
func (w *Watcher) openNotify() (<-chan fsnotify.Event, <-chan error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.noNotify(err)
		return nil, nil
	}
	w.notify = notify
	return notify.Events, notify.Errors
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

// listen makes sure that events come from the directory that is at the path now: it may have been replaced.
func (w *Watcher) listen() {
	if w.notify == nil {
		return
	}
	info, err := os.Stat(w.cfg.Dir)
	if err != nil || w.watched != nil && os.SameFile(info, w.watched) {
		return
	}
	if w.watched != nil {
		_ = w.notify.Remove(w.cfg.Dir) // it is gone already if the directory is
	}
	w.watched = nil
	if err := w.notify.Add(w.cfg.Dir); err != nil {
		w.noNotify(err)
		return
	}
	w.watched = info
}

// list looks at everything in the directory.
func (w *Watcher) list() {
	w.listen()
	dir, err := os.ReadDir(w.cfg.Dir)
	if w.cfg.OnList != nil {
		w.cfg.OnList(err)
	}
	if err != nil {
		w.watched = nil
		return
	}
	// All that is found at once counts as found at one moment, so that it settles together and is taken oldest first.
	now := time.Now()
	there := make(map[string]bool, len(dir))
	for _, d := range dir {
		if IsCSV(d.Name()) {
			there[d.Name()] = true
			w.look(d.Name(), false, now)
		}
	}
	w.forget(there)
}

// forget drops the names that are not there any more.
func (w *Watcher) forget(there map[string]bool) {
	w.mu.Lock()
	var mended []string
	for name, e := range w.entries {
		if there[name] {
			continue
		}
		if e.why != "" {
			mended = append(mended, name)
		}
		delete(w.entries, name)
		delete(w.settling, name)
	}
	w.mu.Unlock()
	for _, name := range mended {
		w.tell(name, "")
	}
}

// look takes note of what is at a name now. An event means that it was written to, even where its stat does not show it.
func (w *Watcher) look(name string, event bool, now time.Time) {
	stat, reason, err := examine(filepath.Join(w.cfg.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		w.gone(name)
		return
	}
	if err != nil {
		reason = plain(err)
	}
	w.mu.Lock()
	first := w.note(name, stat, reason, event, now)
	w.mu.Unlock()
	if first {
		w.complain(name, reason)
	}
}

// note updates the entry and says whether there is a new problem to complain about.
func (w *Watcher) note(name string, stat Stat, reason string, event bool, now time.Time) bool {
	e, known := w.entries[name]
	if !known {
		e = &entry{}
		w.entries[name] = e
	}
	changed := !known || e.stat != stat
	e.stat = stat
	if reason != "" {
		delete(w.settling, name)
		return (changed || e.state != rejected || now.After(e.again)) && w.reject(e, reason)
	}
	switch {
	case changed, e.state == rejected && (event || now.After(e.again)), event && e.state == settling:
		if !known || e.state != settling {
			e.began = now
		}
		e.state, e.since = settling, now
		if len(w.settling) == 0 {
			w.timer.Reset(w.cfg.Settle)
		}
		w.settling[name] = e
	}
	return false
}

func (w *Watcher) gone(name string) {
	w.mu.Lock()
	e, known := w.entries[name]
	delete(w.entries, name)
	delete(w.settling, name)
	w.mu.Unlock()
	if known && e.why != "" {
		w.tell(name, "")
	}
}

// settle looks once more at the files that have not changed for long enough, and offers those that still have not.
func (w *Watcher) settle() {
	now := time.Now()
	w.mu.Lock()
	due := map[string]Stat{}
	for name, e := range w.settling {
		if now.Sub(e.since) >= w.cfg.Settle {
			due[name] = e.stat
		}
	}
	w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(due)) {
		w.look(name, false, time.Now())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	any := false
	for name, stat := range due {
		if e := w.settling[name]; e != nil && e.stat == stat && e.state == settling && now.Sub(e.since) >= w.cfg.Settle {
			e.state, any = settled, true
			delete(w.settling, name)
		}
	}
	if any {
		w.signal()
	}
	w.arm(time.Now())
}

// arm sets the timer to when the next file may have settled.
func (w *Watcher) arm(now time.Time) {
	wait := w.cfg.Settle
	for _, e := range w.settling {
		wait = min(wait, e.since.Add(w.cfg.Settle).Sub(now))
	}
	if len(w.settling) > 0 {
		w.timer.Reset(max(wait, granularity))
	}
}

// examine looks at what is at a path. The reason says why it cannot be a file with rows. It opens nothing: a pipe would
// hang.
func examine(path string) (stat Stat, reason string, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if link, linkErr := os.Lstat(path); linkErr == nil {
			return StatOf(link), "a link to nothing", nil
		}
	}
	if err != nil {
		return Stat{}, "", err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return StatOf(info), "a directory, not a file", nil
	case !mode.IsRegular():
		return StatOf(info), fmt.Sprintf("not a regular file (%s)", mode.Type()), nil
	}
	return StatOf(info), "", nil
}

// plain is an error without the path, which is logged beside it.
func plain(err error) string {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// Retry says that a file which was taken was not read: it is offered again once it has settled anew.
func (w *Watcher) Retry(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, known := w.entries[name]; known && e.state == taken {
		e.stat = Stat{} // the next look, by an event or a listing, finds it changed
		e.state = settling
	}
}

// Rejected says whether the file under a name could not be read when it was last looked at.
func (w *Watcher) Rejected(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, known := w.entries[name]
	return known && e.state == rejected
}
