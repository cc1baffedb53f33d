// Package mover takes finished files out of the input directory, and looks after them for a while.
package mover

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
	"sync"
	"time"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/disk"
)

// Config is what a Mover needs; all fields are required.
type Config struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger
	// Inputs are the input directories; the finished files of all of them go to Processed or Failed.
	Inputs            files.Inputs
	Processed, Failed string
	// Stay reports that finished files stay in the input directory.
	Stay bool
	Now  func() time.Time
	Hit  failpoint.Hit
	// FirstPause and MaxPause are the shortest and the longest pause before a failed move is tried again.
	FirstPause, MaxPause time.Duration
	// Recheck is how often recently moved files are checked.
	Recheck time.Duration
	// Unusable checks the directories and reports whether one of them cannot be used, which is logged separately.
	Unusable func() bool
	// Finished is called once for each finished file, after it was moved or if it stays; movedTo is empty if it was not
	// moved.
	Finished func(f *ledger.File, movedTo string)
}

// Mover moves finished files, one batch after another. Its methods are safe for concurrent use.
type Mover struct {
	Config
	token string // of this run's moves
	queue *queue
	// still is held while files are moved; see Pause.
	still sync.Mutex
	after aftercare

	mu      sync.Mutex
	blocked map[string]string // why a file cannot be moved, by id
	warned  time.Time
}

// New returns a Mover that continues with the files that an earlier run did not get to, and cleans up what that run
// left behind.
func New(cfg Config) (*Mover, error) {
	m := &Mover{Config: cfg, token: newToken(), queue: newQueue(), blocked: map[string]string{}}
	m.after = aftercare{Config: &m.Config, token: m.token, still: &m.still, recent: map[string]moved{}}
	if err := m.tidyUp(); err != nil {
		return nil, err
	}

	open, err := m.Ledger.Open()
	if err != nil {
		return nil, fmt.Errorf("look up open files: %w", err)
	}

	for _, f := range open {
		if f.Status == ledger.Done {
			m.queue.jobs[f.ID] = &job{resumed: true}
		}
	}

	return m, m.after.load()
}

// Add queues finished files: those whose last row was settled, and those that turned up again after that.
func (m *Mover) Add(files ...*ledger.File) {
	for _, f := range files {
		m.queue.put(f.ID, &job{})
	}
}

// Pause waits until no file is being moved, and keeps all files where they are until resume is called.
func (m *Mover) Pause() (resume func()) {
	m.still.Lock()
	return m.still.Unlock
}

// TakeBackIfWritten takes a moved copy back to the input directory if it was written to after its move. If another file
// has replaced it, that file stays where it is.
func (m *Mover) TakeBackIfWritten(ctx context.Context, id string, p ledger.Copy) error {
	_, _, err := m.after.takeBackIfWritten(ctx, id, p)
	return err
}

// Blocked returns why finished files cannot be moved, by id.
func (m *Mover) Blocked() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.blocked)
}

// Run moves files until ctx ends. A file that cannot be moved is tried again after a pause of its own, so that it holds
// up no other file.
func (m *Mover) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // runs before the wait

	parts.Go(func() { m.after.run(ctx, m.Recheck) })

	for {
		some, wait := m.queue.take()
		if len(some) == 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-m.queue.wake:
			case <-timer.C:
			}

			timer.Stop()
		}

		if ctx.Err() != nil {
			return nil
		}

		if len(some) == 0 {
			continue
		}

		failed, err := m.moveAll(ctx, some)
		if errors.Is(err, failpoint.ErrCrash) || ctx.Err() != nil {
			return err
		}

		if err != nil {
			m.Log.Error("the file ledger cannot be written, trying again: make sure that its disk has room (DATA_DIRECTORY)", "error", err)

			for id, j := range some {
				j.resumed = true

				failed = append(failed, id)
			}
		}

		for _, id := range failed {
			m.queue.put(id, some[id].again(m.FirstPause, m.MaxPause))
		}
	}
}

// moved is what became of one copy of a file.
type moved struct {
	id, name string
	to       string // its path; empty if the copy was gone
	failed   bool   // it was moved as a copy of a failed file
	stat     files.Stat
	at       time.Time
	warned   time.Time // when a failure to take it back was last logged
}

// moveAll moves files and records the moves in one commit. It returns the ids of the files to try again.
func (m *Mover) moveAll(ctx context.Context, jobs map[string]*job) (failed []string, err error) {
	m.still.Lock()
	defer m.still.Unlock()

	var done []moved
	for id, j := range jobs {
		some, err := m.moveFile(ctx, id, j.resumed)
		if wrong := new(fileError); err != nil && !errors.As(err, &wrong) {
			return nil, err
		}

		done = append(done, some...)

		m.setBlocked(ctx, id, err)

		if err != nil {
			failed = append(failed, id)
		}
	}

	if err := m.Hit(failpoint.Moved); err != nil {
		return nil, err
	}

	return failed, m.note(done)
}

// fileError says why one file cannot be moved; the move is tried again.
type fileError struct {
	f   *ledger.File
	err error
}

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// moveFile moves all copies of a file that are left. An error other than a *fileError comes from the ledger.
func (m *Mover) moveFile(ctx context.Context, id string, resumed bool) ([]moved, error) {
	f, err := m.Ledger.File(id)
	switch {
	case err != nil || f == nil || f.Status != ledger.Done:
		return nil, err
	case m.Stay:
		return nil, m.keep(id)
	case f.MoveBack:
		return nil, m.moveBack(ctx, f, resumed)
	case len(f.Copies.InInput()) == 0:
		return []moved{{id: id}}, nil // others removed all copies; only the file's record is left to close
	}

	some, err := m.moveCopies(ctx, f, resumed)
	if err != nil {
		return some, &fileError{f, err}
	}

	return some, nil
}

// setBlocked records why a file cannot be moved, or that it could be, and logs failures at most once a minute.
func (m *Mover) setBlocked(ctx context.Context, id string, err error) {
	wrong, failed := errors.AsType[*fileError](err)
	// A file that was replaced is not blocked: the next attempt checks what is there then.
	failed = failed && ctx.Err() == nil && !errors.Is(err, files.ErrReplaced)

	m.mu.Lock()
	delete(m.blocked, id)

	if failed {
		m.blocked[id] = disk.Cause(wrong.err).Error()
	}

	now := m.Now()
	quiet := !failed || now.Sub(m.warned) < time.Minute
	m.mu.Unlock()

	if quiet || m.Unusable() {
		return
	}

	m.mu.Lock()
	m.warned = now
	m.mu.Unlock()
	m.Log.Error("a finished file cannot be moved, trying again: make sure that no other program has it open and that it may be moved",
		"file", wrong.f.Name, "file_id", ledger.Short(id), "error", wrong.err)
}

// moveCopies moves the copies of a file that are left in the input directory.
func (m *Mover) moveCopies(ctx context.Context, f *ledger.File, resumed bool) (done []moved, err error) {
	into := m.Processed
	if f.Failed() {
		into = m.Failed
	}

	for _, in := range m.Inputs {
		some, err := m.moveFrom(ctx, in, into, f, resumed)
		if done = append(done, some...); err != nil {
			return done, err
		}
	}

	for _, p := range f.Copies.InInput() {
		if _, known := m.Inputs.Dir(p.Name); !known { // its feed is not configured any more
			done = append(done, moved{id: f.ID, name: p.Name})
		}
	}

	return done, nil
}

// moveFrom moves the copies that are left in one of the input directories.
func (m *Mover) moveFrom(ctx context.Context, in files.Input, into string, f *ledger.File, resumed bool) (done []moved, err error) {
	copies := slices.DeleteFunc(f.Copies.InInput(), func(p ledger.Copy) bool { return files.FeedOf(p.Name) != in.Feed })
	if len(copies) == 0 {
		return nil, nil
	}

	way, err := openWay(in.Dir, into)
	if err != nil {
		return nil, err
	}
	defer way.close()

	for _, p := range copies {
		name := files.Base(p.Name)

		stat, there, err := way.look(ctx, f, p)
		if err != nil {
			return done, err
		}

		if !there {
			// Other content must not be touched. If nothing is there, an earlier attempt may have moved the copy.
			if _, err := way.from.Stat(name); err == nil || !resumed {
				done = append(done, moved{id: f.ID, name: p.Name})
				continue
			}
		}

		to, now, err := m.moveOne(ctx, way, name, f, p, stat, resumed)
		if err != nil && !errors.Is(err, files.ErrGone) {
			return done, err
		}

		done = append(done, moved{id: f.ID, name: p.Name, to: to, failed: f.Failed(), stat: now, at: m.Now()})
	}

	return done, nil
}

// moveOne moves one copy and returns its new path and state. The path is empty if the error is files.ErrGone.
func (m *Mover) moveOne(
	ctx context.Context, w *way, name string, f *ledger.File, p ledger.Copy, stat files.Stat, resumed bool,
) (string, files.Stat, error) {
	to, now, err := files.Move{
		From: w.from, Name: name, Into: w.into, Wanted: name, Tag: ledger.Short(f.ID), Token: m.token, Resumed: resumed,
		Stat: stat, Found: p.Stat,
		Same: func(d *files.Dir, name string) (bool, error) {
			id, err := content.IDIn(ctx, d, name)
			return id == f.ID, err
		},
		OnRemnant: func(r files.Remnant) { m.after.leave(&remnant{Remnant: r, id: f.ID, name: p.Name, at: m.Now()}) },
	}.Do(ctx)
	if err != nil {
		return "", now, err
	}

	return w.into.Path(to), now, nil
}

// moveBack moves the copies of a file whose dead rows were repaired: from the failed files to the processed ones.
func (m *Mover) moveBack(ctx context.Context, f *ledger.File, resumed bool) error {
	paths := map[string]string{}
	for _, p := range f.Copies {
		if !p.AtDest() || filepath.Dir(p.MovedTo) != filepath.Clean(m.Failed) {
			continue
		}

		way, err := openWay(m.Failed, m.Processed)
		if err != nil {
			return &fileError{f, err}
		}

		name := filepath.Base(p.MovedTo)
		stat := p.Stat
		if info, err := way.from.Stat(name); err == nil {
			stat = files.StatOf(info)
		}

		to, _, err := m.moveOne(ctx, way, name, f, p, stat, resumed)
		way.close()

		if err != nil && !errors.Is(err, files.ErrGone) {
			return &fileError{f, err}
		}

		paths[p.MovedTo] = to
	}

	left := false // copies are left in the input directories

	err := m.Ledger.Update(func(tx *ledger.Tx) error {
		return tx.Change(f.ID, func(now *ledger.File) {
			now.MarkReturned(paths, m.Now())
			left = now.Status == ledger.Done
		})
	})
	if err != nil {
		return fmt.Errorf("note that a repaired file was moved: %w", err)
	}

	if left {
		m.queue.put(f.ID, &job{resumed: resumed})
	}

	m.Log.Info("the dead rows of a file were repaired; it is finished", "file", f.Name, "file_id", ledger.Short(f.ID))

	return nil
}

// keep notes that a finished file stays where it is.
func (m *Mover) keep(id string) error {
	var kept *ledger.File

	err := m.Ledger.Update(func(tx *ledger.Tx) error {
		f, err := tx.File(id)
		if err != nil || f == nil || f.Keep {
			return err
		}

		f.Keep, kept = true, f

		return tx.Put(f)
	})
	if err != nil {
		return fmt.Errorf("note that a file stays: %w", err)
	}

	if kept != nil {
		m.Finished(kept, "")
	}

	return nil
}

// note records the moves in the ledger. It calls Finished for each file of which no copy had been moved before.
func (m *Mover) note(done []moved) error {
	if len(done) == 0 {
		return nil
	}

	type line struct {
		f     *ledger.File
		to    string
		first bool
	}
	lines := map[string]line{}
	now := m.Now()

	err := m.Ledger.Update(func(tx *ledger.Tx) error {
		clear(lines)

		for _, d := range done {
			f, err := tx.File(d.id)
			if err != nil {
				return err
			}

			if f == nil {
				continue
			}

			first := !slices.ContainsFunc(f.Copies, func(p ledger.Copy) bool { return p.MovedTo != "" }) || lines[d.id].first
			f.MarkMoved(d.name, d.to, d.stat, d.failed, now)

			if err := errors.Join(tx.Put(f), dropName(tx, d.name, d.id)); err != nil {
				return err
			}

			lines[d.id] = line{f, d.to, first}
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("note moved files: %w", err)
	}

	m.after.add(done)

	for id, l := range lines {
		if l.first {
			m.Finished(l.f, l.to)
		} else {
			m.Log.Debug("a further copy of a finished file was moved", "file", l.f.Name, "file_id", ledger.Short(id), "moved_to", l.to)
		}
	}

	return nil
}

// dropName drops a name unless other content was found under it meanwhile.
func dropName(tx *ledger.Tx, name, id string) error {
	n, known, err := tx.Names().Get(name)
	if err != nil || !known || n.ID != id || n.Next != nil {
		return err
	}

	return tx.Names().Drop(name)
}

// way is the two directories of a move, each opened once.
type way struct{ from, into *files.Dir }

func openWay(from, into string) (*way, error) {
	source, err := files.OpenDir(from)
	if err != nil {
		return nil, fmt.Errorf("open the directory of a finished file: %w", err)
	}

	destination, err := files.OpenDir(into)
	if err != nil {
		source.Close()
		return nil, fmt.Errorf("open the directory of moved files: %w", err)
	}

	return &way{source, destination}, nil
}

func (w *way) close() {
	w.from.Close()
	w.into.Close()
}

// look reports whether a copy still has the content that was read. It returns the copy's current stat if it has, and
// otherwise the last known one.
func (w *way) look(ctx context.Context, f *ledger.File, p ledger.Copy) (files.Stat, bool, error) {
	name := files.Base(p.Name)
	info, err := w.from.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p.Stat, false, nil
	}

	if err != nil {
		return p.Stat, false, fmt.Errorf("look at a finished file: %w", err)
	}

	ours, err := content.Known{ID: f.ID, Size: f.Size, Stat: p.Stat}.Is(info, func() (string, error) { return content.IDIn(ctx, w.from, name) })
	if err != nil || !ours {
		return p.Stat, false, err
	}

	return files.StatOf(info), true, nil
}

// tidyUp cleans up what the last run's moves left behind, and stores the token of this run. What it cannot clean up
// does not stop the program: anybody who may write to a directory can create names that look like this program's.
func (m *Mover) tidyUp() error {
	last := ""

	err := m.Ledger.Update(func(tx *ledger.Tx) error {
		last = tx.Meta(ledger.MetaMover)
		return tx.SetMeta(ledger.MetaMover, m.token)
	})
	if err != nil {
		return fmt.Errorf("note the token of this run: %w", err)
	}

	paths := []string{m.Processed, m.Failed}
	for _, in := range m.Inputs {
		paths = append(paths, in.Dir)
	}

	for _, path := range paths {
		if path == "" {
			continue
		}

		dir, err := files.OpenDir(path)
		if err == nil {
			err = dir.Tidy(last)
			dir.Close()
		}

		if err != nil && !errors.Is(err, os.ErrNotExist) {
			m.Log.Warn("what an earlier run left behind cannot be cleared up, going on without", "directory", path, "error", err)
		}
	}

	return nil
}
