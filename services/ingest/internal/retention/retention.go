// Package retention deletes old processed files and old records.
package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/disk"
)

// Margin is how much older than the lifetime of duty a file must be to be deleted, whatever the request asks for: the
// finished files of one lifetime are read again if the resolver's state store is lost.
const Margin = 24 * time.Hour

// purgePause is the pause after which a purge that was not continued starts over.
const purgePause = time.Minute

// Patience is how long to wait for a part of a purge, which is less than the caller waits. endPatience is how long to
// wait at most once the session with the broker has ended.
const Patience, endPatience = 25 * time.Second, 5 * time.Second

// Purger deletes old files. Between the requests of one purge it remembers how far it has come. Without that, files
// that cannot be deleted would be tried again and again, and the purge would never end. It is safe for concurrent use.
type Purger struct {
	Config

	mu    sync.Mutex
	by    string
	last  time.Time // of the last part, if there was more to do
	after string    // the last file that was examined
	total control.PurgeAnswer
}

// Config is what a Purger needs; all fields are required except Processed, which is empty if files are not moved.
type Config struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger
	// Processed is the directory that old files are deleted from.
	Processed string
	// Lifetime is how long an event counts.
	Lifetime time.Duration
	// Records is how many records are examined at a time, Time how long a part of a purge takes.
	Records int
	Time    time.Duration
	// Patience is how long to wait for a part of a purge; see the constant [Patience].
	Patience time.Duration
	Now      func() time.Time
	Hit      failpoint.Hit
	Remove   func(path string) error
	// TakeBack takes a moved copy back, to be read again, if it was written to after its move.
	TakeBack func(ctx context.Context, id string, p ledger.Copy) error
}

// Purge deletes old processed files and old records, or does a part of that. It continues where the last request of the
// same origin ended. If a directory does not answer, Purge returns a refusal after a while: otherwise the session
// with the broker could not end, nor the next one begin.
func (p *Purger) Purge(ctx context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
	type outcome struct {
		answer control.PurgeAnswer
		err    error
	}
	came := make(chan outcome, 1)
	go func() {
		answer, err := p.purge(ctx, req)
		came <- outcome{answer, err}
	}()

	late, ended := time.NewTimer(p.Patience), ctx.Done()
	defer late.Stop()

	for {
		select {
		case o := <-came:
			return o.answer, o.err
		case <-ended:
			ended = nil

			late.Reset(min(p.Patience, endPatience))
		case <-late.C:
			return control.PurgeAnswer{}, control.Refuse("old files: no end after %s: does one of the directories not answer?", p.Patience)
		}
	}
}

// purge does the work of Purge.
//
// The order of its steps ensures that no crash leaves a file unaccounted for. The ledger first marks the files that are
// about to be deleted, then they are deleted, and then the ledger records that and drops their rows. After a crash in
// between, a marked file that is gone was deleted by a purge, and a marked file that is still there is treated like any
// other.
func (p *Purger) purge(ctx context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if err := ctx.Err(); err != nil {
		return control.PurgeAnswer{}, err // ctx ended while an earlier purge held the lock
	}

	old, err := p.cutoffs(req)
	if err != nil {
		return control.PurgeAnswer{}, err
	}

	began := p.Now()
	if p.by != req.By || began.Sub(p.last) > purgePause {
		p.by, p.after, p.total = req.By, "", control.PurgeAnswer{}
	}

	answer := control.PurgeAnswer{}
	for more := true; more; more = answer.More && p.withinBudget(p.Now().Sub(began), answer) {
		if answer.More, err = p.page(ctx, old, &answer); err != nil {
			return answer, fmt.Errorf("purge old files: %w", err)
		}
	}

	p.add(&answer)

	if answer.More {
		p.last = p.Now()
		return answer, nil
	}

	p.last = time.Time{}
	p.end(ctx, req.By, &answer)

	return answer, nil
}

// withinBudget reports whether there is time for more. As long as nothing was done, there is five times as much: the
// caller may take an answer without progress for a stall.
func (p *Purger) withinBudget(took time.Duration, so control.PurgeAnswer) bool {
	if so.Files+so.Records == 0 {
		took /= 5
	}
	return took < p.Time
}

// add adds an answer to the totals of the purge. The answer's failures become those of all parts so far.
func (p *Purger) add(a *control.PurgeAnswer) {
	p.total.Files += a.Files
	p.total.Bytes += a.Bytes
	p.total.Records += a.Records
	p.total.Failed += a.Failed
	if a.Error != "" {
		p.total.Error = a.Error
	}

	a.Failed, a.Error = p.total.Failed, p.total.Error
}

// end ends a purge: it makes the ledger's file smaller if that is worth it, and logs what was done.
func (p *Purger) end(ctx context.Context, by string, answer *control.PurgeAnswer) {
	total := p.total
	if total.Files+total.Records > 0 {
		saved, err := p.Ledger.Compact(ctx)
		if err != nil {
			p.Log.Warn("the file ledger is mostly empty and cannot be made smaller", "error", err)
		}

		answer.Compacted = saved

		p.Log.Info("old files were deleted", "files", total.Files, "bytes", total.Bytes, "records", total.Records, "asked_by", by)
	}

	if total.Failed > 0 {
		p.Log.Warn("old files cannot be deleted: make sure that this program may delete in PROCESSED_DIRECTORY",
			"files", total.Failed, "error", total.Error)
	}
}

// page examines the next records, and reports whether there may be further ones.
func (p *Purger) page(ctx context.Context, old *cutoffs, answer *control.PurgeAnswer) (more bool, err error) {
	some, err := p.Ledger.After(p.after, p.Records)
	if err != nil || len(some) == 0 {
		return false, err
	}

	if err := p.look(old, some); err != nil {
		return false, err
	}

	marked, err := p.markOld(old, some)
	if err != nil {
		return false, err
	}

	if err := p.Hit(failpoint.Marked); err != nil {
		return false, err
	}

	results := map[string]*deletion{}
	for _, m := range marked {
		if result := p.deleteOld(ctx, m); ctx.Err() == nil || result.deleted {
			results[m.copy.MovedTo] = result
		}
	}

	if err := p.Hit(failpoint.Deleted); err != nil {
		return false, err
	}

	if err := errors.Join(p.noteOld(old, some, results, answer), ctx.Err()); err != nil {
		return false, err
	}

	p.after = some[len(some)-1].ID

	return true, nil
}

// look checks the directories and copies that the records of some files name. It does so before any transaction, since
// a share that hangs must not block the ledger for everybody. Files that are moved only afterwards do not concern this
// purge.
func (p *Purger) look(old *cutoffs, some []*ledger.File) error {
	old.missing = map[string]bool{}
	for _, f := range some {
		forgettable := olderThan(f.Finished, old.records)
		if f.Status != ledger.Moved || !forgettable && !olderThan(f.Finished, old.files) {
			continue
		}

		paths, err := p.pathsOf(f)
		if err != nil {
			return err
		}

		for _, path := range paths {
			old.lookAt(filepath.Dir(path))

			if forgettable {
				old.missing[path] = missing(path)
			}
		}
	}

	return nil
}

// pathsOf returns the known paths of a file's moved copies.
func (p *Purger) pathsOf(f *ledger.File) (paths []string, err error) {
	var extra []ledger.ExtraCopy
	err = p.Ledger.View(func(tx *ledger.Tx) error {
		extra, err = tx.ExtraCopies(f.ID)
		return err
	})

	for _, c := range f.Copies {
		if c.AtDest() {
			paths = append(paths, c.MovedTo)
		}
	}

	for _, c := range extra {
		paths = append(paths, c.MovedTo)
	}

	return paths, err
}

// cutoffs are the limits of what is old enough, and what was found out about the files in question.
type cutoffs struct {
	files, records time.Time
	processed      fs.FileInfo // nil if there is no such directory
	// dirs records, for each directory that was checked, whether it is the directory of processed files, however its
	// path is spelled now.
	dirs map[string]bool
	// missing records, for each copy that was checked, by path, whether it was gone.
	missing map[string]bool
}

func (p *Purger) cutoffs(req control.PurgeRequest) (*cutoffs, error) {
	latest := p.Now().Add(-p.Lifetime - Margin)
	old := &cutoffs{files: earlier(req.FilesBefore, latest), records: earlier(req.RecordsBefore, latest), dirs: map[string]bool{}}
	if p.Processed == "" {
		return old, nil
	}

	// A directory that is away for a while must not make its files count as deleted.
	info, err := os.Stat(p.Processed)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, control.Refuse("PROCESSED_DIRECTORY: the directory %s does not exist", p.Processed)
	case err != nil:
		return nil, control.Refuse("PROCESSED_DIRECTORY: cannot look at %s: %s", p.Processed, disk.Cause(err).Error())
	case !info.IsDir():
		return nil, control.Refuse("PROCESSED_DIRECTORY: %s is not a directory", p.Processed)
	}

	old.processed = info

	return old, nil
}

// earlier returns the earlier of t and limit; a zero t, which means never, stays zero.
func earlier(t, limit time.Time) time.Time {
	if t.After(limit) {
		return limit
	}
	return t
}

// olderThan reports whether t is set and earlier than limit.
func olderThan(t, limit time.Time) bool { return !t.IsZero() && t.Before(limit) }

// due reports whether a copy should be deleted: it lies in the directory of processed files, and it is long enough ago
// that its file was finished and the copy itself was moved there.
func (a *cutoffs) due(f *ledger.File, p ledger.Copy) bool {
	return f.Status == ledger.Moved && p.AtDest() && olderThan(slices.MaxFunc([]time.Time{f.Finished, p.Moved}, time.Time.Compare), a.files) && a.dirs[filepath.Dir(p.MovedTo)]
}

// forgettable reports whether the record of a file, and those of its extra copies, are old enough to be forgotten, and
// no copy is left.
func (a *cutoffs) forgettable(f *ledger.File, copies []ledger.ExtraCopy) bool {
	if f.Status != ledger.Moved || !olderThan(f.Finished, a.records) {
		return false
	}

	for _, p := range f.Copies {
		if slices.MaxFunc([]time.Time{p.Found, p.Moved}, time.Time.Compare).After(a.records) || p.AtDest() && !a.missing[p.MovedTo] {
			return false
		}
	}

	for _, c := range copies {
		if !a.missing[c.MovedTo] {
			return false
		}
	}

	return true
}

// missing reports whether somebody has removed a file from its directory while the directory itself is there.
func missing(path string) bool {
	dir, err := files.OpenDir(filepath.Dir(path)) // opened once: a directory that is away for a moment proves nothing
	if err != nil {
		return false
	}
	defer dir.Close()

	_, err = dir.Stat(filepath.Base(path))

	return errors.Is(err, fs.ErrNotExist)
}

// lookAt finds out, once, whether a directory is the directory of processed files.
func (a *cutoffs) lookAt(dir string) {
	if _, known := a.dirs[dir]; known {
		return
	}

	info, err := os.Stat(dir)
	a.dirs[dir] = err == nil && a.processed != nil && os.SameFile(info, a.processed)
}

// mark is a copy that the ledger says is about to be deleted.
type mark struct {
	file *ledger.File
	copy ledger.Copy
	// resumed: an earlier purge, which was cut off, had marked it already.
	resumed bool
}

// markOld notes which copies are about to be deleted.
func (p *Purger) markOld(old *cutoffs, files []*ledger.File) ([]mark, error) {
	if old.files.IsZero() {
		return nil, nil
	}

	files = finishedBefore(files, old.files)
	if len(files) == 0 {
		return nil, nil
	}

	var marked []mark

	err := p.Ledger.Update(func(tx *ledger.Tx) error {
		marked = nil
		for _, f := range files {
			some, err := markFile(tx, old, f.ID)
			if err != nil {
				return err
			}

			marked = append(marked, some...)
		}

		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("note which files are to be deleted: %w", err)
	}

	return marked, nil
}

// finishedBefore returns the moved files that were finished before limit.
func finishedBefore(files []*ledger.File, limit time.Time) []*ledger.File {
	var some []*ledger.File
	for _, f := range files {
		if f.Status == ledger.Moved && olderThan(f.Finished, limit) {
			some = append(some, f)
		}
	}

	return some
}

func markFile(tx *ledger.Tx, old *cutoffs, id string) ([]mark, error) {
	f, err := tx.File(id)
	if err != nil || f == nil {
		return nil, err
	}

	copies, err := tx.ExtraCopies(id)
	if err != nil {
		return nil, err
	}

	var marked []mark
	for i := range f.Copies {
		if p := &f.Copies[i]; old.due(f, *p) {
			marked = append(marked, mark{f, *p, p.Deleting})
			p.Deleting = true
		}
	}

	if len(marked) > 0 {
		if err := tx.Put(f); err != nil {
			return nil, err
		}
	}

	for _, c := range copies {
		takenOver := slices.ContainsFunc(f.Copies, func(p ledger.Copy) bool { return p.AtDest() && p.MovedTo == c.MovedTo })
		if takenOver || !old.due(f, c.Copy) {
			continue
		}

		marked = append(marked, mark{f, c.Copy, c.Deleting})
		c.Deleting = true
		if err := tx.PutExtraCopy(c); err != nil {
			return nil, err
		}
	}

	return marked, nil
}

// deletion is what became of a copy that was to be deleted.
type deletion struct {
	deleted bool
	bytes   int64
	// note describes, for the file's history, what was found instead of the copy; err is why the copy could not be
	// deleted.
	note string
	err  error
}

// deleteOld deletes a copy, unless something else lies there now.
func (p *Purger) deleteOld(ctx context.Context, m mark) *deletion {
	path := m.copy.MovedTo
	same, err := stillOurs(ctx, path, m.file, m.copy)
	if err == nil && same {
		err = p.Remove(path)
	}

	switch {
	case errors.Is(err, fs.ErrNotExist) && !missing(path): // its directory is away, or was until now
		return &deletion{err: err}
	case errors.Is(err, fs.ErrNotExist) && m.resumed:
		return &deletion{deleted: true, bytes: m.file.Size}
	case errors.Is(err, fs.ErrNotExist):
		return &deletion{note: "was gone already when it was to be deleted for its age: " + path}
	case err != nil:
		return &deletion{err: err}
	case !same:
		if err := p.TakeBack(ctx, m.file.ID, m.copy); err != nil {
			return &deletion{err: err}
		}

		if missing(path) {
			return &deletion{note: "written to after it was moved, taken back to be read as a new file: " + path}
		}

		return &deletion{note: "not deleted for its age, since something else lies there now: " + path}
	default:
		return &deletion{deleted: true, bytes: m.file.Size}
	}
}

// stillOurs reports whether the moved copy of a file still lies at the path. If nothing is there, the error is that of
// the file system.
func stillOurs(ctx context.Context, path string, f *ledger.File, p ledger.Copy) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, err
	}

	return content.Known{ID: f.ID, Size: f.Size, Stat: p.Stat}.Is(info, func() (string, error) { return content.ID(ctx, path) })
}

// noteOld notes what was deleted, and drops the records of files of which nothing is left.
func (p *Purger) noteOld(old *cutoffs, files []*ledger.File, results map[string]*deletion, answer *control.PurgeAnswer) error {
	if len(results) == 0 && len(finishedBefore(files, old.records)) == 0 {
		return nil
	}

	var page control.PurgeAnswer

	err := p.Ledger.Update(func(tx *ledger.Tx) error {
		page = control.PurgeAnswer{}
		for _, f := range files {
			if err := p.noteFile(tx, old, f.ID, results, &page); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("note which files were deleted: %w", err)
	}

	answer.Files += page.Files
	answer.Bytes += page.Bytes
	answer.Records += page.Records
	answer.Failed += page.Failed
	if page.Error != "" {
		answer.Error = page.Error
	}

	return nil
}

func (p *Purger) noteFile(tx *ledger.Tx, old *cutoffs, id string, results map[string]*deletion, page *control.PurgeAnswer) error {
	f, err := tx.File(id)
	if err != nil || f == nil {
		return err
	}

	copies, err := tx.ExtraCopies(id)
	if err != nil {
		return err
	}

	n := fileResult{now: p.Now(), file: f, page: page}
	for i := range f.Copies {
		n.copy(&f.Copies[i], results)
	}

	left := copies[:0]
	for _, c := range copies {
		if n.copy(&c.Copy, results) {
			if err := tx.PutExtraCopy(c); err != nil {
				return err
			}
		}

		if !c.Gone {
			left = append(left, c)
		}
	}

	if old.forgettable(f, left) {
		page.Records++
		return tx.Remove(id)
	}

	if !n.changed {
		return nil
	}

	n.finish()

	if !n.kept && len(left) == 0 {
		f.Purged = n.now.UTC()

		if err := tx.Rows(id).Forget(); err != nil {
			return fmt.Errorf("forget the rows of file %s: %w", ledger.Short(id), err)
		}
	}

	return tx.Put(f)
}

// fileResult gathers what became of the copies of one file.
type fileResult struct {
	now     time.Time
	file    *ledger.File
	page    *control.PurgeAnswer
	changed bool
	kept    bool // a copy that the record lists is left
	deleted []string
}

// copy notes what became of a copy, and reports whether that changed its record.
func (n *fileResult) copy(p *ledger.Copy, results map[string]*deletion) bool {
	result := results[p.MovedTo]
	if !p.Deleting || p.Gone || result == nil {
		n.kept = n.kept || p.AtDest()
		return false
	}

	n.changed, p.Deleting = true, false
	switch {
	case result.err != nil:
		n.page.Failed++
		n.page.Error = result.err.Error()
		n.kept = true
		return true
	case result.deleted:
		n.page.Files++
		n.page.Bytes += result.bytes
		n.deleted = append(n.deleted, p.MovedTo)
	default:
		n.file.Note(n.now, result.note)
	}

	p.Gone = true

	return true
}

// maxDeletions is how many deletions get a line of their own in a file's history.
const maxDeletions = 3

func (n *fileResult) finish() {
	for i, path := range n.deleted {
		if i == maxDeletions {
			n.file.Note(n.now, fmt.Sprintf("%d further copies deleted for their age", len(n.deleted)-i))
			break
		}

		n.file.Note(n.now, "deleted for its age: "+path)
	}
}
