package recovery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
)

// Republish publishes the entries of waiting files again; every row gets its outcome again.
func (s *Session) Republish(ctx context.Context, waiting []*ledger.File, why string) error {
	return s.republish(ctx, waiting, why, func(*ledger.File, found) error { return nil })
}

// RepublishOrGiveUp is Republish, but also closes the files of which no copy is left. Call it only when nothing that
// could settle their rows is under way.
func (s *Session) RepublishOrGiveUp(ctx context.Context, waiting []*ledger.File, why string) error {
	return s.republish(ctx, waiting, why, func(f *ledger.File, copy found) error {
		if copy != gone {
			return nil
		}
		return s.giveUp(f)
	})
}

// republish is Republish, and calls then after each file.
func (s *Session) republish(ctx context.Context, waiting []*ledger.File, why string, then func(*ledger.File, found) error) error {
	g := s.NewGroup(s.publish)
	for _, f := range waiting {
		copy, err := s.rereadOne(ctx, g, f)
		if err != nil {
			return err
		}

		if copy == read {
			s.Log.Debug("file read again", "file", f.Name, "file_id", ledger.Short(f.ID), "reason", why)
		}

		if err := then(f, copy); err != nil {
			return err
		}
	}

	return g.Flush(ctx)
}

// rereadOne reads a file from any copy of it that is left in the input directories.
func (s *Session) rereadOne(ctx context.Context, g *intake.Group, f *ledger.File) (found, error) {
	best := gone
	for _, p := range f.Copies.InInput() {
		copy, err := s.rereadCopy(ctx, g, f, p)
		if err != nil || copy == read {
			return copy, err
		}

		best = max(best, copy)
	}

	return best, nil
}

// rereadCopy reads a file from one of its copies. It returns gone only if certainly nothing, or other content, lies
// there: a file that is changing may only have been touched, and a directory may be away for a while.
func (s *Session) rereadCopy(ctx context.Context, g *intake.Group, f *ledger.File, p ledger.Copy) (found, error) {
	dir, known := s.Inputs.Dir(p.Name)
	if !known {
		return gone, nil
	}

	c, err := content.Open(ctx, filepath.Join(dir, files.Base(p.Name)), content.Options{})
	switch {
	case ctx.Err() != nil:
		return unreadable, ctx.Err()
	case errors.Is(err, fs.ErrNotExist) && !errors.Is(err, content.ErrNoDirectory): // a lost directory may be back
		return gone, nil
	case err != nil:
		return unreadable, nil // the watcher reports it as a problem
	}

	defer c.Close()

	if c.ID != f.ID {
		return gone, nil
	}

	p.Stat = c.Stat

	err = g.Read(ctx, c, &intake.Reading{File: f, Again: true, Copy: &p})
	if wrong := new(intake.FileError); errors.As(err, &wrong) {
		return unreadable, ctx.Err()
	}

	return read, err
}

// giveUp closes a file that is gone, and gives the code Vanished to the rows that nothing can settle any more.
func (s *Session) giveUp(f *ledger.File) error {
	var closed *ledger.File

	err := s.Ledger.Update(func(tx *ledger.Tx) error {
		stored, err := tx.File(f.ID)
		if err != nil || stored == nil || stored.Status == ledger.Done || stored.Status == ledger.Moved {
			return err
		}

		for _, p := range stored.Copies.InInput() {
			stored.MarkGone(p.Name)
		}

		now := s.Now()
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
		s.Log.Error("a file was removed or changed before all of its rows were settled: put it back if they matter",
			"file", closed.Name, "file_id", ledger.Short(closed.ID), "rows", closed.Rows, "lost", closed.Codes[ledger.Vanished])
	}

	return nil
}
