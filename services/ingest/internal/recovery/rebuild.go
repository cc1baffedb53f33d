// Package recovery recovers what was lost: it rebuilds a ledger, and it replays the files to a resolver that lost its
// state store or the stream of entries.
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

// Recovery reads files again. All fields are required except Finished, which is empty if files are never moved.
type Recovery struct {
	*intake.Intake
	// Inputs are the input directories. Finished are the directories that files are moved to, in the order in which a
	// file may pass through them.
	Inputs   files.Inputs
	Finished []string
	// Lifetime is how long an event counts; 0 means for ever.
	Lifetime time.Duration
	// Pause keeps the mover from moving files until resume is called.
	Pause func() (resume func())
	// FirstPause and MaxPause are the shortest and the longest pause before a failed attempt is repeated.
	FirstPause, MaxPause time.Duration
}

// listed is a file in one of the directories.
type listed struct {
	watch.Found
	path    string
	arrival time.Time
	done    bool // it lies in a directory of finished files
}

// list returns the input files in a directory, except those that cannot be read as a file. Prefix begins their names.
func list(dir, prefix string, done bool) ([]listed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}

	var found []listed
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !files.IsCSV(e.Name()) {
			continue // in an input directory, the watcher reports it as a problem
		}

		found = append(found, listed{
			Found: watch.Found{Name: prefix + e.Name(), Stat: files.StatOf(info)}, path: filepath.Join(dir, e.Name()),
			arrival: files.Arrival(info), done: done,
		})
	}

	return found, nil
}

// inputFiles lists the files in the input directories. If some directories cannot be listed, it returns an error along
// with the files in the others.
func (r *Recovery) inputFiles() (all []listed, err error) {
	for _, in := range r.Inputs {
		some, listErr := list(in.Dir, in.Prefix(), false)
		all, err = append(all, some...), errors.Join(err, listErr)
	}

	return all, err
}

// finishedFiles lists the finished files that may still matter: those that arrived within the lifetime of duty. The
// limit allows for clock skew, since an event may be later than the arrival of its file by as much.
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

// Rebuild fills a ledger that was recreated. It imports the finished files, so that their content is recognized. It
// gives every file, waiting ones included, a sequence number by the file's own time, so that the order of reading is
// the same as before the loss.
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

// ForgetHalfRead drops finished files whose import a crash interrupted, so that they are imported again. A half-read
// file must be read again from its start, and of these no copy is left in the input directories to read.
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

// assignSequences returns the sequence numbers of sorted files: each is the file's modification time, but no later than
// now, and at least one above the number before it.
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

// importFinished adds a finished file to the ledger if the ledger does not know it. A file that cannot be read is left
// out.
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

// found is the result of a search for a copy of a file.
type found int

const (
	gone       found = iota
	unreadable       // one is there, but cannot be read now
	read
)

// withFinished opens a finished file and reads it as choose says. If choose returns nil, the file is not read, but
// counts as read. A file that was moved or changed since it was listed counts as gone.
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
