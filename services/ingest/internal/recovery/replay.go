package recovery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/entries"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/watch"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

// Session is the recovery within one session with the broker.
type Session struct {
	*Recovery
	stream  *entries.Stream
	publish intake.Publish
	inbox   *intake.Inbox
	found   *watch.Tracker
}

// NewSession returns the recovery within a session that has this stream of entries. The inbox reads the files that
// found has found.
func (r *Recovery) NewSession(stream *entries.Stream, inbox *intake.Inbox, found *watch.Tracker) *Session {
	return &Session{Recovery: r, stream: stream, publish: stream.Send, inbox: inbox, found: found}
}

// Begin recovers what was lost since the last session. Epoch is that of the resolver's state store, or empty if it is
// not known.
func (s *Session) Begin(ctx context.Context, epoch string) error {
	lost, err := s.lostStreams()
	if err != nil {
		return err
	}

	// If the stream of entries was lost, event.Recovered may have been lost with it before the resolver had read it,
	// and the resolver would wait for it for ever. So everything is replayed, even if the bucket was lost as well and
	// the resolver has yet to announce its epoch. A resolver that has recovered already ignores event.Recovered.
	if lost[topology.StreamEntries] {
		err := s.Ledger.Update(func(tx *ledger.Tx) error { return tx.SetMeta(ledger.MetaEpoch, "") })
		if err != nil {
			return fmt.Errorf("forget what was recovered: %w", err)
		}
	}

	if epoch != "" {
		if err := s.Recover(ctx, epoch); err != nil {
			return err
		}

		if lost, err = s.lostStreams(); err != nil {
			return err
		}
	}

	if len(lost) == 0 {
		return nil
	}

	waiting, err := s.Ledger.Unsettled()
	if err != nil {
		return err
	}

	if len(waiting) > 0 {
		s.Log.Warn("streams were lost or are new, reading the files again that wait", "streams", len(lost), "files", len(waiting))

		if err := s.Republish(ctx, waiting, "streams were lost"); err != nil {
			return err
		}
	}

	return s.store("")
}

// lostStreams returns the streams that are not the ones that the ledger knows.
func (s *Session) lostStreams() (map[string]bool, error) {
	lost := map[string]bool{}
	for stream, identity := range s.stream.Identities {
		known, err := s.Ledger.Meta(ledger.MetaIdentity(stream))
		if err != nil {
			return nil, err
		}

		if known != identity {
			lost[stream] = true
		}
	}

	return lost, nil
}

// store notes that everything was published to the streams of this session, and which epoch was recovered.
func (s *Session) store(epoch string) error {
	err := s.Ledger.Update(func(tx *ledger.Tx) error {
		var errs []error
		for stream, identity := range s.stream.Identities {
			errs = append(errs, tx.SetMeta(ledger.MetaIdentity(stream), identity))
		}

		if epoch != "" {
			errs = append(errs, tx.SetMeta(ledger.MetaEpoch, epoch))
		}

		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("note what was recovered: %w", err)
	}

	return nil
}

// Recover rebuilds the resolver's state store from the files if its epoch differs from that of the last rebuild. It
// publishes the finished files first, so that an older event in a waiting file cannot win over a newer one from a
// finished file; then the waiting files; and event.Recovered last. It can be cut off and begun again.
func (s *Session) Recover(ctx context.Context, epoch string) error {
	last, err := s.Ledger.Meta(ledger.MetaEpoch)
	if err != nil || last == epoch {
		return err
	}

	began := s.Now()

	done, err := s.replay(ctx)
	if err != nil {
		return err
	}

	if err := s.readEarlier(ctx); err != nil {
		return err
	}

	recovered := bus.NewMessage(topology.SubjectRecovered, event.Encode(&event.Recovered{Epoch: epoch}))

	if err := s.stream.SameStreams(ctx); err != nil {
		return err
	}

	if err := s.publish(ctx, []*message.Message{recovered}); err != nil {
		return err
	}

	if err := s.Hit(failpoint.Recovered); err != nil {
		return err
	}

	if done.finished+done.waited > 0 {
		s.Log.Info("the resolver's state store is new, or what was replayed to it was lost: the files were read again for it",
			"finished_files", done.finished, "waiting_files", done.waited, "seconds", s.Now().Sub(began).Round(time.Millisecond).Seconds())
	}

	return s.store(epoch)
}

// replay publishes the entries of all files that matter, for a resolver that lost its state store.
type replay struct {
	*Session
	waiting   []*ledger.File
	isWaiting map[string]bool
	// done are the files that were published again, by id.
	done map[string]bool
	// finished and waited count the finished and the waiting files among them.
	finished, waited int
}

// replayTime bounds how long a file that cannot be read is tried again.
const replayTime = 30 * time.Second

// replay publishes the entries of all files that matter. Outcomes arrive meanwhile, but no file is moved.
func (s *Session) replay(ctx context.Context) (*replay, error) {
	resume := s.Pause()
	defer resume()

	waiting, err := s.Ledger.Unsettled() // some of them may be finished meanwhile
	if err != nil {
		return nil, err
	}

	r := &replay{Session: s, waiting: waiting, isWaiting: map[string]bool{}, done: map[string]bool{}}
	for _, f := range waiting {
		r.isWaiting[f.ID] = true
	}

	return r, r.run(ctx)
}

// run goes through the files until all of them could be read, but gives up after replayTime.
func (r *replay) run(ctx context.Context) error {
	wait, began := r.FirstPause, r.Now()
	for {
		all, err := r.readFinished(ctx)
		if err = errors.Join(err, r.Hit(failpoint.FinishedReplay)); err != nil {
			return err
		}

		most, err := r.readWaiting(ctx)
		if err != nil || all && most {
			return err
		}

		if r.Now().Sub(began) > replayTime {
			r.Log.Error("a file could not be read again for the resolver, which goes on without it: " +
				"make sure that the directories can be read; to have all files read again, stop the resolver, delete its resolver.db and start it")
			return nil
		}

		if err := pause.For(ctx, wait); err != nil {
			return err
		}

		wait = min(2*wait, r.MaxPause)
	}
}

// readFinished publishes the entries of the finished files, wherever they lie, and reports whether all of them could be
// read. If an input directory cannot be listed, they could not: it may be readable again in a moment.
func (r *replay) readFinished(ctx context.Context) (all bool, err error) {
	listed, listErr := r.inputFiles()
	if listErr != nil {
		r.Log.Warn("an input directory cannot be read, so that files that stayed there cannot be recovered", "error", listErr)
	}

	finished, err := r.finishedFiles()
	if err != nil {
		return false, err
	}

	listed = append(listed, finished...)
	sortListed(listed)

	g := r.NewGroup(r.publish)
	sequences := r.assignSequences(listed)
	all = listErr == nil
	for i, f := range listed {
		if !f.done {
			stays, err := r.doneInPlace(ctx, f)
			if err != nil {
				return false, err
			}

			if !stays {
				continue
			}
		}

		copy, err := r.readOne(ctx, g, f, sequences[i])
		if err != nil {
			return false, err
		}

		all = all && copy != unreadable
	}

	return all, g.Flush(ctx)
}

// readOne publishes the entries of a finished file, once for all copies of its content.
func (r *replay) readOne(ctx context.Context, g *intake.Group, f listed, sequence int64) (found, error) {
	var reading *intake.Reading
	copy, err := r.withFinished(ctx, g, f, func(c *content.File, known *ledger.File) *intake.Reading {
		if r.done[c.ID] || r.isWaiting[c.ID] || known != nil && known.Partial {
			return nil
		}

		if c.Problem != "" {
			r.done[c.ID] = true
			return nil
		}

		if known != nil {
			reading = &intake.Reading{File: known, Again: true}
		} else {
			reading = r.imported(c, f, sequence)
		}

		reading.Settled = true

		return reading
	})
	if err == nil && reading != nil && copy == read {
		r.done[reading.File.ID] = true
		r.finished++
	}

	return copy, err
}

// readWaiting publishes the entries of the files that are waiting or were not wholly read; each of their rows gets its
// outcome again. It reports whether all files that still exist could be read.
func (r *replay) readWaiting(ctx context.Context) (all bool, err error) {
	all = true
	left := slices.DeleteFunc(slices.Clone(r.waiting), func(f *ledger.File) bool { return r.done[f.ID] })
	err = r.republish(ctx, left, "the resolver lost its state store", func(f *ledger.File, copy found) error {
		if copy == read {
			r.done[f.ID] = true
			r.waited++
		}

		all = all && copy != unreadable

		return nil
	})

	return all, err
}

// doneInPlace reports whether a file in an input directory is a finished one that stays there or waits to be moved. If
// the file does not look as the ledger knows it, its content decides: it may have been touched or renamed, or its share
// remounted, or it may be a new file, which is left to the inbox.
func (r *replay) doneInPlace(ctx context.Context, f listed) (bool, error) {
	entry, file, err := r.inbox.LookUp(f.Name)
	if err != nil {
		return false, err
	}

	if file == nil || !entry.Stat.Same(f.Stat) {
		id, err := content.ID(ctx, f.path)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}

		if err == nil { // if the file cannot be read, its name must do
			if file, err = r.Ledger.File(id); err != nil {
				return false, err
			}
		}
	}

	return file != nil && (file.Status == ledger.Done || file.Status == ledger.Moved), nil
}

// readEarlier waits until the files that lay in the input directories when the ledger was recreated have been read.
// Some of their events may have been sent to AtHoc before the loss, and no record of that is left: the resolver must
// know them before it goes on.
func (s *Session) readEarlier(ctx context.Context) error {
	for {
		if err := s.inbox.Read(ctx); err != nil {
			return err
		}

		waiting, err := s.earlierFiles()
		if err != nil || !waiting {
			return err
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.found.Ready():
		case <-time.After(s.FirstPause):
		}
	}
}

// earlierFiles reports whether a file that predates the ledger is still unread. It looks at the directories, which may
// hang, only after it has released the ledger.
func (s *Session) earlierFiles() (bool, error) {
	unread := map[string]files.Stat{}
	err := s.Ledger.View(func(tx *ledger.Tx) error {
		return tx.Names().Each(func(name string, n ledger.NameEntry) error {
			if n.ID == "" && n.Sequence != 0 {
				unread[name] = n.Stat
			}
			return nil
		})
	})
	for name, stat := range unread {
		dir, known := s.Inputs.Dir(name)
		if !known || s.found.Rejected(name) {
			continue
		}

		info, err := os.Lstat(filepath.Join(dir, files.Base(name)))
		if err == nil && info.Mode().IsRegular() && files.StatOf(info).Same(stat) {
			return true, nil
		}
	}

	return false, err
}
