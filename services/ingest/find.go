package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
)

// soon is within which time a file must settle to be one that is about to follow.
const soon = 200 * time.Millisecond

// readFound reads what the watcher has found.
func (x *session) readFound(ctx context.Context) error {
	g := x.newGroup(x.send)
	some := x.watcher.Take()
	left := len(some)
	g.more = func() bool { return left > 0 || x.watcher.Soon(soon) }
	for _, found := range some {
		left--
		if err := x.readOne(ctx, g, found); err != nil {
			return err
		}
	}
	return g.flush(ctx)
}

// readOne reads a file into the group. What is wrong with the file itself is dealt with here.
func (s *service) readOne(ctx context.Context, g *group, found folder.Found) error {
	named, file, err := s.lookUp(found.Name)
	if err != nil {
		return err
	}
	if file != nil && named.Stat == found.Stat && !file.Unread() {
		return s.seenBefore(g, file, found)
	}
	c, err := openContent(ctx, filepath.Join(s.cfg.CSVDirectory, found.Name))
	if err != nil {
		return s.unreadable(ctx, found, err)
	}
	defer c.close()
	if c.stat != found.Stat {
		s.watcher.Retry(found.Name) // it has changed since
		return nil
	}
	s.watcher.Accept(found.Name)
	if err := g.take(ctx, c, named, found); err != nil {
		if wrong, ok := errors.AsType[*fileError](err); ok {
			return s.unreadable(ctx, found, wrong.err)
		}
		return err
	}
	return nil
}

// lookUp returns what the ledger knows of a name, and the file that was under it.
func (s *service) lookUp(name string) (named ledger.Named, f *ledger.File, err error) {
	err = s.ledger.View(func(tx *ledger.Tx) error {
		if named, _, err = tx.Name(name); err != nil {
			return err
		}
		f, err = tx.File(named.ID)
		return err
	})
	return named, f, err
}

// unreadable deals with a file that could not be read: one that changes is offered again when it has settled, one that is
// gone is forgotten, and any other problem is looked at again later.
func (s *service) unreadable(ctx context.Context, found folder.Found, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errKilled) {
		return err
	}
	if errors.Is(err, errChanged) || errors.Is(err, fs.ErrNotExist) {
		s.watcher.Retry(found.Name)
		return nil
	}
	s.watcher.Reject(found.Name, reasonOf(err))
	return nil
}

// reasonOf is an error without the path, which is logged beside it.
func reasonOf(err error) string {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// seenBefore deals with a file that lies as the ledger knows it: there is nothing to read.
func (s *service) seenBefore(g *group, f *ledger.File, found folder.Found) error {
	left := false
	for _, p := range f.Left() {
		left = left || p.Name == found.Name && p.Stat == found.Stat
	}
	switch {
	case f.Status == ledger.Waiting && left, f.Keep && left && !s.cfg.Move:
		return nil
	case f.Status == ledger.Done && left && !f.Keep:
		s.finished(f) // queued already, unless it came back while it was moved
		return nil
	}
	g.attach(attachment{id: f.ID, place: ledger.Place{Name: found.Name, Stat: found.Stat}})
	return nil
}

// take reads a content, or notes that it is known.
func (g *group) take(ctx context.Context, c *content, named ledger.Named, found folder.Found) error {
	place := ledger.Place{Name: found.Name, Stat: found.Stat}
	file, err := g.s.ledger.File(c.id)
	if err != nil {
		return err
	}
	first := g.pending[c.id]
	switch {
	case first == nil && file == nil:
		file = g.s.newFile(found.Name, c)
		if named.ID == "" && named.Order != 0 && named.Stat == found.Stat {
			// It lay here when the ledger was begun: judge it as it was, or would have been, judged when it came.
			file.Order, file.Reference = named.Order, g.s.earlier(c)
		}
		return g.read(ctx, c, &reading{file: file, isNew: true, place: &place})
	case file != nil && file.Unread():
		return g.read(ctx, c, &reading{file: file, place: &place})
	}
	if first != nil {
		file = first.file
	}
	name := file.Name
	g.s.log.Info("known content under another name or again, skipped", "file", found.Name, "known_as", name, "file_id", ledger.Short(c.id))
	g.attach(attachment{id: c.id, place: place, note: fmt.Sprintf("found again as %s, skipped", found.Name)})
	return nil
}
