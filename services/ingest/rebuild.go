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

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
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

// forgetHalfRead makes finished files unknown again that were being taken into the ledger when that was cut off: they are to be
// read from their start, and what is known would be passed over. No copy of them is left in the input directory to go on with.
func (s *service) forgetHalfRead() error {
	open, err := s.ledger.Open()
	if err != nil {
		return fmt.Errorf("look up open files: %w", err)
	}
	open = slices.DeleteFunc(open, func(f *ledger.File) bool {
		finished := slices.ContainsFunc(f.Places, func(p ledger.Place) bool { return p.MovedTo != "" })
		return f.Status != ledger.Reading || !finished || len(f.Left()) > 0
	})
	if len(open) == 0 {
		return nil
	}
	if err := s.ledger.Update(func(tx *ledger.Tx) error {
		for _, f := range open {
			if err := tx.Remove(f.ID); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("forget %d finished files that were not read to their end: %w", len(open), err)
	}
	return nil
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
