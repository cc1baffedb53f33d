package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// listed is a file of one of the directories.
type listed struct {
	folder.Found
	path    string
	arrival time.Time
	done    bool // it lies in a directory of finished files
}

// list returns the input files in a directory, without what cannot be read as a file.
func list(dir string, done bool) ([]listed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var files []listed
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || !folder.IsCSV(e.Name()) {
			continue // what is in the way here is the watcher's to complain about
		}
		files = append(files, listed{
			Found: folder.Found{Name: e.Name(), Stat: folder.StatOf(info)}, path: path, arrival: folder.Arrival(info), done: done,
		})
	}
	return files, nil
}

// finishedFiles lists the finished files that may still matter: those that arrived within the lifetime of duty. An event may lie
// as far after the arrival of its file as clocks may differ.
func (s *service) finishedFiles() ([]listed, error) {
	var files []listed
	// The failed ones first: a file whose dead rows were mended is moved from there to the processed ones.
	for _, d := range slices.Backward(s.cfg.directories()[1:]) {
		some, err := list(d.path, true)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.variable, err)
		}
		files = append(files, some...)
	}
	if life := s.cfg.Lifetime.Duration(); life > 0 {
		oldest := s.now().Add(-life - s.cfg.MaxClockSkew)
		kept := files[:0]
		for _, f := range files {
			if f.arrival.After(oldest) {
				kept = append(kept, f)
			}
		}
		files = kept
	}
	return files, nil
}

// rebuild fills a ledger that was begun anew. The finished files become known again, so that their content is recognized,
// and every file gets its place in the order of reading by its own time, those that still wait included: so the order comes
// out as it was.
func (s *service) rebuild(ctx context.Context) error {
	rebuilt := false
	if err := s.ledger.View(func(tx *ledger.Tx) error {
		rebuilt = tx.Meta(ledger.MetaRebuilt) != ""
		return nil
	}); err != nil || rebuilt {
		return err
	}
	files, err := s.finishedFiles()
	if err != nil {
		return err
	}
	waiting, err := list(s.cfg.CSVDirectory, false)
	if err != nil {
		return fmt.Errorf("CSV_DIRECTORY: %w", err)
	}
	files = append(files, waiting...)
	sortListed(files)
	g := s.newGroup(nil)
	orders := s.orders(files)
	for i, f := range files {
		if !f.done {
			continue
		}
		if err := s.importFinished(ctx, g, f, orders[i]); err != nil {
			return err
		}
	}
	if err := errors.Join(g.flush(ctx), s.reach(pointRebuilt)); err != nil {
		return err
	}
	return s.ledger.Update(func(tx *ledger.Tx) error {
		for i, f := range files {
			if f.done {
				continue
			}
			if err := tx.SetName(f.Name, ledger.Named{Stat: f.Stat, Order: orders[i]}); err != nil {
				return err
			}
		}
		return tx.SetMeta(ledger.MetaRebuilt, s.now().UTC().Format(time.RFC3339))
	})
}

func sortListed(files []listed) {
	slices.SortFunc(files, func(a, b listed) int {
		return cmp.Or(a.Compare(b.Found), cmp.Compare(a.path, b.path))
	})
}

// orders gives sorted files their places: each its own time, and none the same.
func (s *service) orders(files []listed) []int64 {
	now := s.now().UnixNano()
	orders := make([]int64, len(files))
	last := int64(0)
	for i, f := range files {
		last = max(min(f.Stat.Modified, now), last+1)
		orders[i] = last
	}
	return orders
}

// importFinished makes a finished file known that the ledger does not know. One that cannot be read is left out.
func (s *service) importFinished(ctx context.Context, g *group, f listed, order int64) error {
	_, err := s.withFinished(ctx, g, f, func(c *content, known *ledger.File) *reading {
		if known != nil || g.pending[c.id] != nil {
			return nil
		}
		return s.imported(c, f, order)
	})
	return err
}

func (s *service) imported(c *content, f listed, order int64) *reading {
	file := s.newFile(f.Name, c)
	file.Order, file.Reference = order, s.earlier(c)
	file.Places = []ledger.Place{{Name: f.Name, Stat: c.stat, MovedTo: f.path}}
	return &reading{file: file, isNew: true, movedTo: f.path}
}

// withFinished opens a finished file and reads it as choose says; nil means not at all, which counts as read. One that was moved
// or changed meanwhile is gone from where it was listed.
func (s *service) withFinished(ctx context.Context, g *group, f listed, choose func(*content, *ledger.File) *reading) (copyFound, error) {
	err := s.readFinished(ctx, g, f, choose)
	file, wrong := errors.AsType[*fileError](err)
	switch {
	case !wrong:
		return copyRead, err
	case ctx.Err() != nil:
		return copyUnreadable, ctx.Err()
	case errors.Is(file, fs.ErrNotExist), errors.Is(file, errChanged):
		return copyGone, nil
	}
	s.log.Warn("a finished file cannot be read again, what it says is not recovered", "file", f.Name, "reason", reasonOf(file.err))
	return copyUnreadable, nil
}

func (s *service) readFinished(ctx context.Context, g *group, f listed, choose func(*content, *ledger.File) *reading) error {
	c, err := openContent(ctx, f.path)
	if err != nil {
		return &fileError{err}
	}
	defer c.close()
	known, err := s.ledger.File(c.id)
	if err != nil {
		return err
	}
	r := choose(c, known)
	if r == nil {
		return nil
	}
	return g.read(ctx, c, r)
}

// remember rebuilds the resolver's memory from the files, if it is another one than the last that was rebuilt. In this
// order, all of it before event.Recovered: finished files, so that an older event in a file that still waits cannot beat a
// newer one from a file that is done; then the files that wait. It can be cut off and begun again.
func (x *session) remember(ctx context.Context, memory string) error {
	last := ""
	if err := x.ledger.View(func(tx *ledger.Tx) error {
		last = tx.Meta(ledger.MetaMemory)
		return nil
	}); err != nil || last == memory {
		return err
	}
	began := x.now()
	told, err := x.retell(ctx)
	if err != nil {
		return err
	}
	if err := x.readEarlier(ctx); err != nil {
		return err
	}
	recovered := nats.NewMsg(topology.SubjectRecovered)
	recovered.Data = event.Encode(&event.Recovered{Memory: memory})
	if err := x.sameStreams(ctx); err != nil {
		return err
	}
	if err := x.send(ctx, []*nats.Msg{recovered}); err != nil {
		return err
	}
	if err := x.reach(pointRecovered); err != nil {
		return err
	}
	if told.finished+told.waiting > 0 {
		x.log.Info("the resolver's memory is new, or what it was told was lost: the files were read again for it",
			"finished_files", told.finished, "waiting_files", told.waiting, "seconds", x.now().Sub(began).Round(time.Millisecond).Seconds())
	}
	return x.storeIdentities(memory)
}

// sameStreams returns errLost if a stream is another one than at the session's start: what was told is lost with it, and who made
// it anew does not know of that. An outage is waited for.
func (x *session) sameStreams(ctx context.Context) error {
	pause := x.newBackoff()
	for {
		err := x.checkIdentities(ctx)
		if err == nil || errors.Is(err, errLost) {
			return err
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// retold is what a resolver that lost its memory was told again.
type retold struct {
	files             map[string]bool // by id
	finished, waiting int
}

// retellMost bounds how long to look for a file that cannot be got hold of.
const retellMost = 30 * time.Second

// retell publishes the entries of all files that matter. Outcomes come in meanwhile, and files are moved: one to which that
// happens at the wrong moment is neither among the finished files nor among those that wait, or is gone from where it was
// seen. So it looks again until no file can have slipped through.
func (x *session) retell(ctx context.Context) (*retold, error) {
	told, pause, began := &retold{files: map[string]bool{}}, x.newBackoff(), x.now()
	for {
		before, err := x.statuses()
		if err != nil {
			return nil, err
		}
		slipped, err := x.retellFinished(ctx, told)
		if err = errors.Join(err, x.reach(pointFinishedTold)); err != nil {
			return nil, err
		}
		unreadable, err := x.retellWaiting(ctx, told)
		if err != nil {
			return nil, err
		}
		after, err := x.statuses()
		if err != nil {
			return nil, err
		}
		for id, status := range before {
			// What is done is about to be moved; what waits, did so before and could not be found was removed by somebody else.
			slipped = slipped || !told.files[id] && (status == ledger.Done || after[id] != status)
		}
		if !slipped && !unreadable {
			return told, nil
		}
		if x.now().Sub(began) > retellMost {
			x.log.Error("a file could not be read again for the resolver, which goes on without it: " +
				"make sure that the directories can be read; to have all files read once more, stop the resolver, delete its resolver.db and start it")
			return told, nil
		}
		if err := pause.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// statuses returns how far the files have come that are not moved yet.
func (s *service) statuses() (map[string]ledger.Status, error) {
	files, err := s.ledger.Open()
	if err != nil {
		return nil, fmt.Errorf("look up open files: %w", err)
	}
	statuses := make(map[string]ledger.Status, len(files))
	for _, f := range files {
		statuses[f.ID] = f.Status
	}
	return statuses, nil
}

// retellFinished publishes the entries of the finished files, wherever they lie. Slipped says that one was not there any more
// when it was to be read.
func (x *session) retellFinished(ctx context.Context, told *retold) (slipped bool, err error) {
	// In the order in which files are moved, so that one on its way is seen at least once.
	files, err := list(x.cfg.CSVDirectory, false)
	if err != nil {
		x.log.Warn("the input directory cannot be read, files that stayed there are not recovered", "error", err)
	}
	finished, err := x.finishedFiles()
	if err != nil {
		return false, err
	}
	files = append(files, finished...)
	sortListed(files)
	g := x.newGroup(x.send)
	orders := x.orders(files)
	for i, f := range files {
		if !f.done {
			finished, err := x.doneInPlace(ctx, f)
			if err != nil {
				return false, err
			}
			if !finished {
				continue
			}
		}
		found, err := x.retellOne(ctx, g, f, orders[i], told)
		if err != nil {
			return false, err
		}
		slipped = slipped || found == copyGone
	}
	return slipped, g.flush(ctx)
}

// retellOne publishes the entries of a finished file, once for all copies of its content. It counts as told only when it was read
// to its end: until then it may be moved.
func (x *session) retellOne(ctx context.Context, g *group, f listed, order int64, told *retold) (copyFound, error) {
	var r *reading
	found, err := x.withFinished(ctx, g, f, func(c *content, known *ledger.File) *reading {
		if told.files[c.id] || known != nil && (known.Status == ledger.Reading || known.Status == ledger.Waiting || known.Partial) {
			return nil
		}
		if c.problem != "" {
			told.files[c.id] = true
			return nil
		}
		if known != nil {
			r = &reading{file: known, again: true}
		} else {
			r = x.imported(c, f, order)
		}
		r.settled = true
		return r
	})
	if err == nil && r != nil && found == copyRead {
		told.files[r.file.ID] = true
		told.finished++
	}
	return found, err
}

// retellWaiting publishes the entries of the files that wait, or were not wholly read; every row is answered again. Unreadable
// says that one is there and could not be read.
func (x *session) retellWaiting(ctx context.Context, told *retold) (unreadable bool, err error) {
	files, err := x.unsettled()
	if err != nil {
		return false, err
	}
	files = slices.DeleteFunc(files, func(f *ledger.File) bool { return told.files[f.ID] })
	err = x.publishAgain(ctx, files, "the resolver lost its memory", func(f *ledger.File, found copyFound) error {
		switch found {
		case copyRead:
			told.files[f.ID] = true
			told.waiting++
		case copyUnreadable:
			unreadable = true
		case copyGone:
		}
		return nil
	})
	return unreadable, err
}

// doneInPlace says whether a file in the input directory is a finished one, which stays there or waits to be moved. If it does
// not look as the ledger knows it, it was touched or renamed, or its share was mounted anew, or it is a new file, which is the
// reader's: its content tells.
func (x *session) doneInPlace(ctx context.Context, f listed) (bool, error) {
	named, file, err := x.lookUp(f.Name)
	if err != nil {
		return false, err
	}
	if file == nil || named.Stat != f.Stat {
		id, err := idOf(ctx, f.path)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil { // otherwise the name must do
			if file, err = x.ledger.File(id); err != nil {
				return false, err
			}
		}
	}
	return file != nil && (file.Status == ledger.Done || file.Status == ledger.Moved), nil
}

// copyFound is what became of the search for a copy of a file.
type copyFound int

const (
	copyGone       copyFound = iota
	copyUnreadable           // one is there, but cannot be read now
	copyRead
)

// publishAgain publishes the entries of files that wait once more; every row is answered again. After each file it calls
// then.
func (x *session) publishAgain(ctx context.Context, files []*ledger.File, why string, then func(*ledger.File, copyFound) error) error {
	g := x.newGroup(x.send)
	for _, f := range files {
		found, err := x.rereadOne(ctx, g, f)
		if err != nil {
			return err
		}
		if found == copyRead {
			x.log.Debug("file read again", "file", f.Name, "file_id", ledger.Short(f.ID), "reason", why)
		}
		if err := then(f, found); err != nil {
			return err
		}
	}
	return g.flush(ctx)
}

// rereadOne reads a file from wherever a copy of it is left in the input directory.
func (x *session) rereadOne(ctx context.Context, g *group, f *ledger.File) (copyFound, error) {
	best := copyGone
	for _, p := range f.Left() {
		found, err := x.rereadCopy(ctx, g, f, p)
		if err != nil || found == copyRead {
			return found, err
		}
		best = max(best, found)
	}
	return best, nil
}

// rereadCopy reads a file from one place. It is gone from there only if other content or nothing lies there for sure: one that
// changes may have been touched only, and a directory may be away for a while.
func (x *session) rereadCopy(ctx context.Context, g *group, f *ledger.File, p ledger.Place) (copyFound, error) {
	path := filepath.Join(x.cfg.CSVDirectory, p.Name)
	c, err := openContent(ctx, path)
	switch {
	case ctx.Err() != nil:
		return copyUnreadable, ctx.Err()
	case errors.Is(err, fs.ErrNotExist) && missing(path):
		return copyGone, nil
	case err != nil:
		return copyUnreadable, nil // the watcher complains of it
	}
	defer c.close()
	if c.id != f.ID {
		return copyGone, nil
	}
	p.Stat = c.stat
	err = g.read(ctx, c, &reading{file: f, again: true, place: &p})
	if file := new(fileError); errors.As(err, &file) {
		return copyUnreadable, ctx.Err()
	}
	return copyRead, err
}

// giveUpGone closes a file of which no copy is left: nothing that could settle its rows is under way.
func (x *session) giveUpGone(f *ledger.File, found copyFound) error {
	if found != copyGone {
		return nil
	}
	return x.giveUp(f)
}

// giveUp closes a file that is not there any more, with a code for the rows that nobody can settle.
func (x *session) giveUp(f *ledger.File) error {
	var closed *ledger.File
	err := x.ledger.Update(func(tx *ledger.Tx) error {
		stored, err := tx.File(f.ID)
		if err != nil || stored == nil || stored.Status == ledger.Done || stored.Status == ledger.Moved {
			return err
		}
		for _, p := range stored.Left() {
			stored.Lose(p.Name)
		}
		now := x.now()
		stored.Note(now, "removed or changed before all of its rows were settled")
		if err := tx.Abandon(stored, ledger.Vanished, now); err != nil {
			return err
		}
		stored.Close()
		closed = stored
		return tx.Put(stored)
	})
	if err != nil {
		return fmt.Errorf("close a file that is gone: %w", err)
	}
	if closed != nil {
		x.log.Error("a file was removed or changed before all of its rows were settled: put it back if they matter",
			"file", closed.Name, "file_id", ledger.Short(closed.ID), "rows", closed.Rows, "lost", closed.Codes[ledger.Vanished])
	}
	return nil
}

// readEarlier waits until the files were read that lay in the input directory when the ledger was begun anew. Some of their
// events may have been sent to AtHoc by a life of the program that nobody remembers: the resolver must know them before it
// goes on.
func (x *session) readEarlier(ctx context.Context) error {
	for {
		if err := x.readFound(ctx); err != nil {
			return err
		}
		waiting, err := x.earlierFiles()
		if err != nil || !waiting {
			return err
		}
		timer := time.NewTimer(x.cfg.SettleTime)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-x.watcher.Ready():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// earlierFiles says whether a file of the time before the ledger still lies unread as it did then.
func (x *session) earlierFiles() (bool, error) {
	waiting := false
	err := x.ledger.View(func(tx *ledger.Tx) error {
		return tx.Names(func(name string, n ledger.Named) error {
			if n.ID != "" || waiting {
				return nil
			}
			info, err := os.Stat(filepath.Join(x.cfg.CSVDirectory, name))
			waiting = err == nil && folder.StatOf(info) == n.Stat && !x.watcher.Rejected(name)
			return nil
		})
	})
	return waiting, err
}
