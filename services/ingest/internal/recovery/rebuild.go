// Package recovery recovers what was lost: it rebuilds a ledger, and replays the files to a resolver that lost its state store, or
// whose stream was lost.
package recovery

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

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/watch"
	"bobosync/shared/disk"
)

// Recovery reads files again. All fields are required but Finished, which is empty if no file is ever moved.
type Recovery struct {
	*intake.Intake
	// Inputs are the input directories. Finished are those that files are moved to, in the order in which a file may pass through them.
	Inputs   files.Inputs
	Finished []string
	// Lifetime is how long an event counts; 0 is for ever.
	Lifetime time.Duration
	// Pause keeps the mover from moving until resume is called.
	Pause func() (resume func())
	// FirstPause and MaxPause are the pauses before what failed is tried again.
	FirstPause, MaxPause time.Duration
}

// listed is a file of one of the directories.
type listed struct {
	watch.Found
	path    string
	arrival time.Time
	done    bool // it lies in a directory of finished files
}

// list returns the input files in a directory, without what cannot be read as a file. Prefix begins their names.
func list(dir, prefix string, done bool) ([]listed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}

	var found []listed
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !files.IsCSV(e.Name()) {
			continue // what is in the way in the input directory is a problem that the watcher names
		}

		found = append(found, listed{
			Found: watch.Found{Name: prefix + e.Name(), Stat: files.StatOf(info)}, path: filepath.Join(dir, e.Name()),
			arrival: files.Arrival(info), done: done,
		})
	}

	return found, nil
}

// inputFiles lists what lies in the input directories.
func (r *Recovery) inputFiles() (all []listed, err error) {
	for _, in := range r.Inputs {
		some, listErr := list(in.Dir, in.Prefix(), false)
		all, err = append(all, some...), errors.Join(err, listErr)
	}

	return all, err
}

// finishedFiles lists the finished files that may still matter: those that arrived within the lifetime of duty. An event may lie
// as far after the arrival of its file as clocks may differ.
func (r *Recovery) finishedFiles() ([]listed, error) {
	var all []listed
	for _, dir := range r.Finished {
		some, err := list(dir, "", true)
		if err != nil {
			return nil, err
		}

		all = append(all, some...)
	}

	if r.Lifetime > 0 {
		oldest := r.Now().Add(-r.Lifetime - r.MaxClockSkew)
		all = slices.DeleteFunc(all, func(f listed) bool { return !f.arrival.After(oldest) })
	}

	return all, nil
}

// Rebuild fills a ledger that was recreated. The finished files become known again, so that their content is recognized,
// and every file gets its number in the order of reading by its own time, those that still wait included: so the order comes
// out as it was.
func (r *Recovery) Rebuild(ctx context.Context) error {
	rebuilt, err := r.Ledger.Meta(ledger.MetaRebuilt)
	if err != nil || rebuilt != "" {
		return err
	}

	all, err := r.finishedFiles()
	if err != nil {
		return err
	}

	waiting, err := r.inputFiles()
	if err != nil {
		return err
	}

	all = append(all, waiting...)
	sortListed(all)

	g := r.NewGroup(nil)
	sequences := r.assignSequences(all)
	for i, f := range all {
		if !f.done {
			continue
		}

		if err := r.importFinished(ctx, g, f, sequences[i]); err != nil {
			return err
		}
	}

	if err := errors.Join(g.Flush(ctx), r.Hit(failpoint.Rebuilt)); err != nil {
		return err
	}

	return r.Ledger.Update(func(tx *ledger.Tx) error {
		for i, f := range all {
			if f.done {
				continue
			}

			if err := tx.Names().Set(f.Name, ledger.NameEntry{Stat: f.Stat, Sequence: sequences[i]}); err != nil {
				return err
			}
		}

		return tx.SetMeta(ledger.MetaRebuilt, r.Now().UTC().Format(time.RFC3339))
	})
}

// ForgetHalfRead drops finished files whose import a crash interrupted, so that they are imported again: they are to be read from
// their start, and no copy of them is left in the input directory to go on with.
func (r *Recovery) ForgetHalfRead() error {
	open, err := r.Ledger.Open()
	if err != nil {
		return fmt.Errorf("look up open files: %w", err)
	}

	open = slices.DeleteFunc(open, func(f *ledger.File) bool {
		finished := slices.ContainsFunc(f.Copies, func(p ledger.Copy) bool { return p.MovedTo != "" })
		return f.Status != ledger.Reading || !finished || len(f.Copies.InInput()) > 0
	})
	if len(open) == 0 {
		return nil
	}

	err = r.Ledger.Update(func(tx *ledger.Tx) error {
		for _, f := range open {
			if err := tx.Remove(f.ID); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("forget %d finished files that were not read to their end: %w", len(open), err)
	}

	return nil
}

func sortListed(all []listed) {
	slices.SortFunc(all, func(a, b listed) int {
		return cmp.Or(a.Compare(b.Found), cmp.Compare(a.path, b.path))
	})
}

// assignSequences gives sorted files their numbers: each its own time, and no two the same.
func (r *Recovery) assignSequences(all []listed) []int64 {
	now := r.Now().UnixNano()
	sequences := make([]int64, len(all))
	last := int64(0)
	for i, f := range all {
		last = max(min(f.Stat.Modified, now), last+1)
		sequences[i] = last
	}

	return sequences
}

// importFinished makes a finished file known that the ledger does not know. One that cannot be read is left out.
func (r *Recovery) importFinished(ctx context.Context, g *intake.Group, f listed, sequence int64) error {
	_, err := r.withFinished(ctx, g, f, func(c *content.File, known *ledger.File) *intake.Reading {
		if known != nil || g.Pending(c.ID) {
			return nil
		}
		return r.imported(c, f, sequence)
	})

	return err
}

func (r *Recovery) imported(c *content.File, f listed, sequence int64) *intake.Reading {
	file := r.NewFile(f.Name, c)
	file.Sequence, file.Reference = sequence, r.Earlier(c)
	file.Copies = []ledger.Copy{{Name: f.Name, Stat: c.Stat, MovedTo: f.path}}
	return &intake.Reading{File: file, New: true, MovedTo: f.path}
}

// found is what became of the search for a copy of a file.
type found int

const (
	gone       found = iota
	unreadable       // one is there, but cannot be read now
	read
)

// withFinished opens a finished file and reads it as choose says; nil means not at all, which counts as read. One that was moved
// or changed meanwhile is gone from where it was listed.
func (r *Recovery) withFinished(
	ctx context.Context, g *intake.Group, f listed, choose func(*content.File, *ledger.File) *intake.Reading,
) (found, error) {
	err := r.readFinished(ctx, g, f, choose)
	wrong, failed := errors.AsType[*intake.FileError](err)
	switch {
	case !failed:
		return read, err
	case ctx.Err() != nil:
		return unreadable, ctx.Err()
	case errors.Is(wrong, fs.ErrNotExist) && !errors.Is(wrong, content.ErrNoDirectory), errors.Is(wrong, content.ErrChanged):
		return gone, nil
	}

	r.Log.Warn("a finished file cannot be read again, what it says is not recovered", "file", f.Name, "reason", disk.Cause(wrong).Error())

	return unreadable, nil
}

func (r *Recovery) readFinished(
	ctx context.Context, g *intake.Group, f listed, choose func(*content.File, *ledger.File) *intake.Reading,
) error {
	c, err := content.Open(ctx, f.path, content.Options{})
	if err != nil {
		return &intake.FileError{Err: err}
	}
	defer c.Close()

	known, err := r.Ledger.File(c.ID)
	if err != nil {
		return err
	}

	reading := choose(c, known)
	if reading == nil {
		return nil
	}

	return g.Read(ctx, c, reading)
}
