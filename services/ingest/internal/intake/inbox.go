package intake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/watch"
	"bobosync/shared/disk"
)

// largeSize is the size in bytes from which on a file is read in slices, so that small files that arrive later need
// not wait for its end.
const largeSize = 1 << 20

// Inbox reads what is found in the input directories. It is for one goroutine.
type Inbox struct {
	*Intake
	found   *watch.Tracker
	inputs  files.Inputs
	maxSize int64
	publish Publish
	large   []watch.Found // files to be read in slices, in the order of reading
	read    []string      // names in a group that is not flushed yet
}

// NewInbox returns an inbox for the input directories and the files that are found there. maxSize is the most bytes
// that a file may have.
func (in *Intake) NewInbox(found *watch.Tracker, inputs files.Inputs, maxSize int64, publish Publish) *Inbox {
	return &Inbox{Intake: in, found: found, inputs: inputs, maxSize: maxSize, publish: publish}
}

// Read reads all files that have stopped changing. Small files go first, including those that arrive while a large
// one is read. The order of reading decides which of two events of the same second counts, so a large file gets its
// sequence number before it is put off.
func (b *Inbox) Read(ctx context.Context) error {
	for {
		if err := b.readSmall(ctx); err != nil || len(b.large) == 0 {
			return err
		}

		next := b.large[0]
		b.large = b.large[1:]
		if err := b.readLarge(ctx, next); err != nil {
			return err
		}
	}
}

func (b *Inbox) readSmall(ctx context.Context) error {
	g := b.NewGroup(b.publish)
	some := b.found.Take()
	left := len(some)
	g.ahead = func() bool { return left > 0 }
	for _, found := range some {
		left--

		read := b.readOne
		if found.Stat.Size >= largeSize {
			read = b.putOff
		}

		if err := read(ctx, g, found); err != nil {
			return err
		}
	}

	return b.flush(ctx, g)
}

// putOff gives a large file its sequence number in the order of reading, and queues it behind the small files.
func (b *Inbox) putOff(_ context.Context, g *Group, found watch.Found) error {
	entry, file, err := b.LookUp(found.Name)
	if err != nil {
		return err
	}

	if file != nil && entry.Stat.Same(found.Stat) && !file.NeedsRead() {
		return b.seenBefore(g, file, found)
	}

	err = b.Ledger.Update(func(tx *ledger.Tx) error { return tx.Names().Reserve(found.Name, found.Stat, b.Now()) })
	if err != nil {
		return fmt.Errorf("keep a place for a large file: %w", err)
	}

	b.large = slices.DeleteFunc(b.large, func(f watch.Found) bool { return f.Name == found.Name })
	b.large = append(b.large, found)

	return nil
}

func (b *Inbox) readLarge(ctx context.Context, found watch.Found) error {
	g := b.NewGroup(b.publish)
	if err := b.readWith(ctx, g, found, b.readArrived); err != nil {
		return err
	}

	return b.flush(ctx, g)
}

// readArrived reads the small files that have arrived while a large one is being read.
func (b *Inbox) readArrived(ctx context.Context) error {
	select {
	case <-b.found.Ready():
		return b.readSmall(ctx)
	default:
		return nil
	}
}

// readOne reads a file into the group. It deals itself with anything that is wrong with the file.
func (b *Inbox) readOne(ctx context.Context, g *Group, found watch.Found) error {
	return b.readWith(ctx, g, found, nil)
}

// readWith is readOne, but also calls between, unless it is nil, between two parts of the file.
func (b *Inbox) readWith(ctx context.Context, g *Group, found watch.Found, between func(context.Context) error) error {
	entry, file, err := b.LookUp(found.Name)
	if err != nil {
		return err
	}

	if file != nil && entry.Stat.Same(found.Stat) && !file.NeedsRead() {
		return b.seenBefore(g, file, found)
	}

	var stop error // the error of between, which is not this file's fault
	options := content.Options{MaxSize: b.maxSize}
	if between != nil {
		options.Between = func(ctx context.Context) error {
			stop = between(ctx)
			return stop
		}
	}

	dir, _ := b.inputs.Dir(found.Name) // always known: the watchers only find files of these directories

	c, err := content.Open(ctx, filepath.Join(dir, files.Base(found.Name)), options)

	if stop != nil {
		return stop
	}

	if err != nil {
		return b.unreadable(ctx, found, err)
	}

	defer c.Close()

	if c.Stat != found.Stat {
		b.found.Retry(found.Name) // it has changed since
		return nil
	}

	if err := b.take(ctx, g, c, entry, found); err != nil {
		if stop != nil {
			return stop
		}

		if wrong, ok := errors.AsType[*FileError](err); ok {
			return b.unreadable(ctx, found, wrong.Err)
		}

		return err
	}

	b.read = append(b.read, found.Name)

	return nil
}

// flush flushes a group and only then accepts its files: until a file is in the ledger, nobody but the tracker knows
// that it waits.
func (b *Inbox) flush(ctx context.Context, g *Group) error {
	read := b.read
	b.read = nil

	if err := g.Flush(ctx); err != nil {
		return err
	}

	for _, name := range read {
		b.found.Accept(name)
	}

	return nil
}

// LookUp returns what the ledger knows of a name, and the record of the file that was last found under it.
func (b *Inbox) LookUp(name string) (entry ledger.NameEntry, f *ledger.File, err error) {
	err = b.Ledger.View(func(tx *ledger.Tx) error {
		if entry, _, err = tx.Names().Get(name); err != nil {
			return err
		}

		f, err = tx.File(entry.ID)

		return err
	})

	return entry, f, err
}

// unreadable handles a file that could not be read. A file that changed is offered again once it has stopped
// changing, a file that is gone is dropped, and any other problem is noted and checked again later.
func (b *Inbox) unreadable(ctx context.Context, found watch.Found, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if errors.Is(err, failpoint.ErrCrash) {
		return err
	}

	if errors.Is(err, content.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		b.found.Retry(found.Name)
		return nil
	}

	b.found.Reject(found.Name, disk.Cause(err).Error())

	return nil
}

// seenBefore handles a file that is as the ledger knows it, so that there is nothing to read.
func (b *Inbox) seenBefore(g *Group, f *ledger.File, found watch.Found) error {
	b.found.Accept(found.Name)

	left := slices.ContainsFunc(f.Copies.InInput(), func(p ledger.Copy) bool {
		return p.Name == found.Name && p.Stat.Same(found.Stat)
	})
	switch {
	case f.Status == ledger.Waiting && left, f.Keep && left && b.Stay:
		return nil
	case f.Status == ledger.Done && left && !f.Keep:
		b.Finished(f) // already queued, unless it came back while it was being moved
		return nil
	}

	g.attach(attachment{id: f.ID, copy: ledger.Copy{Name: found.Name, Stat: found.Stat}})

	return nil
}

// take reads the content of a file, or notes that the ledger or the group already has it.
func (b *Inbox) take(ctx context.Context, g *Group, c *content.File, entry ledger.NameEntry, found watch.Found) error {
	seen := ledger.Copy{Name: found.Name, Stat: found.Stat}

	file, err := b.Ledger.File(c.ID)
	if err != nil {
		return err
	}

	first := g.pending[c.ID]
	switch {
	case first == nil && file == nil:
		file = b.NewFile(found.Name, c)
		switch {
		case entry.Next != nil && entry.Next.Stat.Same(found.Stat):
			file.Sequence = entry.Next.Sequence
		case entry.ID == "" && entry.Sequence != 0 && entry.Stat.Same(found.Stat):
			// It lay here when the ledger was created: judge it as it was, or would have been, judged when it
			// arrived.
			file.Sequence, file.Reference = entry.Sequence, b.Earlier(c)
		}

		return g.Read(ctx, c, &Reading{File: file, New: true, Copy: &seen, Arrived: found.Arrived, Ready: found.Ready})
	case file != nil && file.NeedsRead():
		return g.Read(ctx, c, &Reading{File: file, Copy: &seen, Arrived: found.Arrived, Ready: found.Ready})
	}

	if first != nil {
		file = first.File
	}

	b.Log.Info("known content under another name or again, skipped",
		"file", found.Name, "known_as", file.Name, "file_id", ledger.Short(c.ID))
	g.attach(attachment{id: c.ID, copy: seen, note: fmt.Sprintf("found again as %s, skipped", found.Name)})

	return nil
}
