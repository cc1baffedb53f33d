package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/telemetry"
)

// movesPerCommit is how many files are moved before the ledger is told. What a crash leaves untold is found again: see
// folder.Move.Resumed.
const movesPerCommit = 256

// mover takes finished files out of the input directory.
type mover struct {
	s    *service
	wake chan struct{}

	mu      sync.Mutex
	queue   map[string]bool // id → an earlier attempt may have been cut off
	waiting minutely
}

func newMover(s *service) *mover {
	return &mover{s: s, wake: make(chan struct{}, 1), queue: map[string]bool{}}
}

// add queues a file; resumed says that an earlier run may have begun the move.
func (m *mover) add(id string, resumed bool) {
	m.mu.Lock()
	m.queue[id] = m.queue[id] || resumed
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take returns some of the queued files.
func (m *mover) take() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	some := map[string]bool{}
	for id, resumed := range m.queue {
		if len(some) == movesPerCommit {
			break
		}
		some[id] = resumed
		delete(m.queue, id)
	}
	return some
}

// run moves until ctx ends. What fails is tried again, with a back-off.
func (m *mover) run(ctx context.Context) error {
	pause := m.s.newBackoff()
	for {
		some := m.take()
		if len(some) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-m.wake:
			}
			continue
		}
		failed, err := m.moveAll(ctx, some)
		if errors.Is(err, errKilled) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			m.s.log.Error("the file ledger cannot be written, trying again: make sure that its disk has room (DATA_DIRECTORY)", "error", err)
			for id := range some {
				m.add(id, true)
			}
		}
		if len(failed) == 0 && err == nil {
			pause = m.s.newBackoff()
			continue
		}
		for _, id := range failed {
			m.add(id, some[id])
		}
		if pause.wait(ctx) != nil {
			return nil //nolint:nilerr // the context's end is the regular end
		}
	}
}

// moved is what became of one copy of a file.
type moved struct {
	id, name, to string // to is empty if the copy was gone
	stat         folder.Stat
}

// moveAll moves files and notes it in one commit; it returns those for which it is to be tried again.
func (m *mover) moveAll(ctx context.Context, ids map[string]bool) (failed []string, err error) {
	var done []moved
	for id, resumed := range ids {
		f, err := m.s.ledger.File(id)
		if err != nil {
			return nil, err
		}
		if f == nil || f.Status != ledger.Done {
			continue
		}
		if !m.s.cfg.Move {
			if err := m.keep(id); err != nil {
				return nil, err
			}
			continue
		}
		if f.Returning {
			if err := m.moveBack(ctx, f, resumed); err != nil {
				failed = append(failed, id)
				m.complain(ctx, f, err)
			}
			continue
		}
		if len(f.Left()) == 0 {
			done = append(done, moved{id: id}) // all copies were removed by others; there is only the file to close
			continue
		}
		some, err := m.move(ctx, f, resumed)
		done = append(done, some...)
		if err != nil {
			failed = append(failed, id)
			m.complain(ctx, f, err)
		}
	}
	if err := m.s.reach(pointMoved); err != nil {
		return nil, err
	}
	return failed, m.note(done)
}

// complain says why a file cannot be moved, unless it is a directory's fault: that has lines of its own.
func (m *mover) complain(ctx context.Context, f *ledger.File, err error) {
	// One that was replaced is looked at anew.
	if ctx.Err() != nil || errors.Is(err, folder.ErrReplaced) || m.s.dirs.look() || !m.waiting.due(m.s.now()) {
		return
	}
	m.s.log.Error("a finished file cannot be moved, trying again: make sure that no other program has it open and that it may be moved",
		"file", f.Name, "file_id", ledger.Short(f.ID), "error", err)
}

// move moves all copies of a file that are left.
func (m *mover) move(ctx context.Context, f *ledger.File, resumed bool) ([]moved, error) {
	into := m.s.cfg.ProcessedDirectory
	if f.Failed() {
		into = m.s.cfg.FailedDirectory
	}
	var done []moved
	for _, p := range f.Left() {
		from := filepath.Join(m.s.cfg.CSVDirectory, p.Name)
		stat, there, err := m.holds(ctx, from, f, p)
		if err != nil {
			return done, err
		}
		if !there && !resumed {
			done = append(done, moved{id: f.ID, name: p.Name})
			continue
		}
		if !there {
			// Other content may be there by now: it must not be touched.
			if _, err := os.Lstat(from); err == nil {
				done = append(done, moved{id: f.ID, name: p.Name})
				continue
			}
		}
		to, err := m.moveOne(ctx, from, into, f, p, stat, resumed)
		if err != nil && !goneForGood(err, from) {
			return done, err
		}
		done = append(done, moved{id: f.ID, name: p.Name, to: to, stat: statAt(to, p.Stat)})
	}
	return done, nil
}

// statAt is how a moved file looks where it lies now; on another file system it is another one than before.
func statAt(path string, before folder.Stat) folder.Stat {
	info, err := os.Lstat(path)
	if err != nil {
		return before // then only its content tells that it is the same
	}
	return folder.StatOf(info)
}

// moveBack moves the copies of a file whose dead rows were mended from the failed files to the processed ones.
func (m *mover) moveBack(ctx context.Context, f *ledger.File, resumed bool) error {
	paths := map[string]string{}
	for _, p := range f.Places {
		if !p.Kept() || filepath.Dir(p.MovedTo) != filepath.Clean(m.s.cfg.FailedDirectory) {
			continue
		}
		to, err := m.moveOne(ctx, p.MovedTo, m.s.cfg.ProcessedDirectory, f, p, folder.Stat{}, resumed)
		if err != nil && !goneForGood(err, p.MovedTo) {
			return err
		}
		paths[p.MovedTo] = to
	}
	err := m.s.ledger.Update(func(tx *ledger.Tx) error {
		now, err := tx.File(f.ID)
		if err != nil || now == nil {
			return err
		}
		now.Return(paths, m.s.now())
		return tx.Put(now)
	})
	if err != nil {
		return fmt.Errorf("note that a mended file was moved: %w", err)
	}
	m.s.log.Info("the dead rows of a file were mended; it is finished", "file", f.Name, "file_id", ledger.Short(f.ID))
	return nil
}

// goneForGood says whether the error means that somebody has removed the file, not that its directory is away for a while.
func goneForGood(err error, path string) bool {
	return errors.Is(err, folder.ErrGone) && directoryOf(path) == nil
}

func (m *mover) moveOne(ctx context.Context, from, into string, f *ledger.File, p ledger.Place, stat folder.Stat, resumed bool) (string, error) {
	return folder.Move{
		From: from, Into: into, Tag: ledger.Short(f.ID), Resumed: resumed, Size: p.Stat.Size, Modified: p.Stat.Time(), Stat: stat,
		Same: func(path string) (bool, error) {
			id, err := idOf(ctx, path)
			return id == f.ID, err
		},
	}.Do(ctx)
}

// holds says whether the path still holds the content that was read, and how that looks now; if nothing is there, how it looked. A
// file that was only touched, or copied back, holds it.
func (m *mover) holds(ctx context.Context, path string, f *ledger.File, p ledger.Place) (folder.Stat, bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p.Stat, false, directoryOf(path)
	}
	if err != nil {
		return p.Stat, false, fmt.Errorf("look at a finished file: %w", err)
	}
	if folder.StatOf(info) == p.Stat {
		return p.Stat, true, nil
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return p.Stat, false, nil
	}
	c, err := openContent(ctx, path)
	if errors.Is(err, errChanged) {
		return p.Stat, false, nil
	}
	if err != nil {
		return p.Stat, false, err
	}
	c.close()
	return c.stat, c.id == f.ID, nil
}

// keep notes that a finished file stays where it is.
func (m *mover) keep(id string) error {
	var kept *ledger.File
	err := m.s.ledger.Update(func(tx *ledger.Tx) error {
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
		m.s.logFinished(kept, "")
	}
	return nil
}

// note stores what was moved, and logs the files that are through.
func (m *mover) note(done []moved) error {
	if len(done) == 0 {
		return nil
	}
	type line struct {
		f     *ledger.File
		to    string
		first bool
	}
	lines := map[string]line{}
	now := m.s.now()
	err := m.s.ledger.Update(func(tx *ledger.Tx) error {
		clear(lines)
		for _, d := range done {
			f, err := tx.File(d.id)
			if err != nil {
				return err
			}
			if f == nil {
				continue
			}
			first := !slices.ContainsFunc(f.Places, func(p ledger.Place) bool { return p.MovedTo != "" }) || lines[d.id].first
			f.Depart(d.name, d.to, d.stat, now)
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
	for id, l := range lines {
		if l.first {
			m.s.logFinished(l.f, l.to)
		} else {
			m.s.log.Debug("a further copy of a finished file was moved", "file", l.f.Name, "file_id", ledger.Short(id), "moved_to", l.to)
		}
	}
	return nil
}

// dropName forgets a name unless other content was found under it meanwhile.
func dropName(tx *ledger.Tx, name, id string) error {
	n, known, err := tx.Name(name)
	if err != nil || !known || n.ID != id {
		return err
	}
	return tx.DropName(name)
}

// logFinished writes the one line that each file gets, and the end of its trace.
func (s *service) logFinished(f *ledger.File, to string) {
	s.deps.Telemetry.NoteFile(f.ID, telemetry.Work{
		Name: "settle rows", Began: f.FirstSeen, Ended: f.Finished, Counts: map[string]int{"rows": f.Rows, "rejected": f.Rejected},
	})
	s.deps.Telemetry.NoteFile(f.ID, telemetry.Work{Name: "move file", Began: f.Finished, Ended: s.now()})
	args := []any{
		"file", f.Name, "file_id", ledger.Short(f.ID), "rows", f.Rows, "rejected", f.Rejected,
		"seconds", f.Finished.Sub(f.FirstSeen).Round(time.Millisecond).Seconds(),
	}
	args = append(args, f.Summary()...)
	if to != "" {
		args = append(args, "moved_to", to)
	}
	switch {
	case f.Problem != "":
		s.log.Warn("file set aside", append(args, "reason", f.Problem)...)
	case f.Rows == f.Rejected:
		s.log.Info("file finished, it has no good row", args...)
	default:
		s.log.Info("file finished", args...)
	}
}
