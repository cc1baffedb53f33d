package ingest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

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
	recovered := bus.NewMessage(topology.SubjectRecovered, event.Encode(&event.Recovered{Memory: memory}))
	if err := x.sameStreams(ctx); err != nil {
		return err
	}
	if err := x.send(ctx, []*message.Message{recovered}); err != nil {
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
