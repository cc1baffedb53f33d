package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"bobosync/services/ingest/internal/ledger"
)

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
