package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bobosync/services/ingest/internal/folder"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
)

// purgeMargin is how much older than the lifetime of duty a file must be, whatever is asked for: the finished files of a
// lifetime are read again when the resolver's memory was lost.
const purgeMargin = 24 * time.Hour

// purgePause is after how long a purge that was not gone on with is begun anew.
const purgePause = time.Minute

// purger remembers between the requests of one purge how far it has come. Without that, files that cannot be deleted would be
// tried again and again and keep it from ever ending.
type purger struct {
	mu    sync.Mutex
	by    string
	last  time.Time // of the last part, if there was more to do
	after string    // the last file that was looked at
	total control.PurgeAnswer
}

// purge deletes old processed files and forgets old records, or does a part of that. It goes on where the last request of the
// same origin has ended.
//
// The order makes that no crash leaves a file unaccounted: the ledger first notes which files are about to be deleted, then they are
// deleted, then the ledger notes that and forgets their rows. After a crash in between, a marked file that is gone was deleted
// by this, and one that is still there is looked at like any other.
func (s *service) purge(ctx context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
	p := &s.purger
	p.mu.Lock()
	defer p.mu.Unlock()
	old, err := s.newAged(req)
	if err != nil {
		return control.PurgeAnswer{}, err
	}
	began := s.now()
	if p.by != req.By || began.Sub(p.last) > purgePause {
		p.by, p.after, p.total = req.By, "", control.PurgeAnswer{}
	}
	answer := control.PurgeAnswer{}
	for more := true; more; more = answer.More && s.goOn(s.now().Sub(began), answer) {
		if answer.More, err = s.purgePart(ctx, old, p, &answer); err != nil {
			return answer, fmt.Errorf("purge old files: %w", err)
		}
	}
	p.sum(&answer)
	if answer.More {
		p.last = s.now()
		return answer, nil
	}
	p.last = time.Time{}
	s.purged(ctx, p.total, req.By, &answer)
	return answer, nil
}

// goOn says whether there is time for more. An answer that tells of nothing done is put off for longer: who asks may take it
// for a standstill.
func (s *service) goOn(took time.Duration, so control.PurgeAnswer) bool {
	if so.Files+so.Records == 0 {
		took /= 5
	}
	return took < s.purgeTime
}

// sum adds up the parts. An answer tells of all failures so far.
func (p *purger) sum(a *control.PurgeAnswer) {
	p.total.Files += a.Files
	p.total.Bytes += a.Bytes
	p.total.Records += a.Records
	p.total.Failed += a.Failed
	if a.Error != "" {
		p.total.Error = a.Error
	}
	a.Failed, a.Error = p.total.Failed, p.total.Error
}

// purged ends a purge: it makes the ledger's file smaller if that is worth it, and logs what was done.
func (s *service) purged(ctx context.Context, total control.PurgeAnswer, by string, answer *control.PurgeAnswer) {
	if total.Files+total.Records > 0 {
		saved, err := s.ledger.Compact(ctx)
		if err != nil {
			s.log.Warn("the file ledger is mostly empty and cannot be made smaller", "error", err)
		}
		answer.Compacted = saved
		s.log.Info("old files were deleted", "files", total.Files, "bytes", total.Bytes, "records", total.Records, "asked_by", by)
	}
	if total.Failed > 0 {
		s.log.Warn("old files cannot be deleted: make sure that this program may delete in PROCESSED_DIRECTORY",
			"files", total.Failed, "error", total.Error)
	}
}

// purgePart looks at the next records, and says whether there may be further ones.
func (s *service) purgePart(ctx context.Context, old *aged, p *purger, answer *control.PurgeAnswer) (more bool, err error) {
	files, err := s.ledger.After(p.after, s.purgeRecords)
	if err != nil || len(files) == 0 {
		return false, err
	}
	marked, err := s.markOld(old, files)
	if err != nil {
		return false, err
	}
	if err := s.reach(pointMarked); err != nil {
		return false, err
	}
	results := map[string]*deletion{}
	for _, m := range marked {
		if result := s.deleteOld(ctx, m); ctx.Err() == nil || result.deleted {
			results[m.place.MovedTo] = result
		}
	}
	if err := s.reach(pointDeleted); err != nil {
		return false, err
	}
	if err := errors.Join(s.noteOld(old, files, results, answer), ctx.Err()); err != nil {
		return false, err
	}
	p.after = files[len(files)-1].ID
	return true, nil
}

// aged says what is old enough.
type aged struct {
	files, records time.Time
	processed      fs.FileInfo // nil if there is no such directory
	dirs           map[string]bool
}

func (s *service) newAged(req control.PurgeRequest) (*aged, error) {
	latest := s.now().Add(-s.cfg.Lifetime.Duration() - purgeMargin)
	old := &aged{files: earlier(req.FilesBefore, latest), records: earlier(req.RecordsBefore, latest), dirs: map[string]bool{}}
	if s.cfg.ProcessedDirectory == "" {
		return old, nil
	}
	// A directory that is away for a while must not make its files count as deleted.
	d := directory{"PROCESSED_DIRECTORY", s.cfg.ProcessedDirectory}
	if err := d.check(false); err != nil {
		return nil, control.Refuse("%s", err)
	}
	var err error
	old.processed, err = os.Stat(d.path)
	return old, err
}

// earlier returns the earlier moment; a zero one, which means never, stays zero.
func earlier(t, limit time.Time) time.Time {
	if t.After(limit) {
		return limit
	}
	return t
}

// before says whether something is older than a limit; nothing is older than none, and what has no time is not old.
func before(t, limit time.Time) bool { return !t.IsZero() && t.Before(limit) }

// due says whether the copy is to be deleted: it lies in the directory of processed files, and its file was finished, and the
// copy itself moved there, long enough ago.
func (a *aged) due(f *ledger.File, p ledger.Place) bool {
	return f.Status == ledger.Moved && p.Kept() && before(later(f.Finished, p.Moved), a.files) && a.inProcessed(p.MovedTo)
}

// forgettable says whether the record of a file, and of its further copies, is old enough to be forgotten, and no copy is left.
func (a *aged) forgettable(f *ledger.File, copies []ledger.Copy) bool {
	if f.Status != ledger.Moved || !before(f.Finished, a.records) {
		return false
	}
	for _, p := range f.Places {
		if later(p.Found, p.Moved).After(a.records) || p.Kept() && !missing(p.MovedTo) {
			return false
		}
	}
	for _, c := range copies {
		if !missing(c.MovedTo) {
			return false
		}
	}
	return true
}

// missing says whether somebody has removed a file from its directory, which itself is there.
func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) && directoryOf(path) == nil
}

// directoryOf returns why the directory of a file cannot be looked at; nil if it is there.
func directoryOf(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("look at a file's directory: %w", err)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// inProcessed says whether a file lies in the directory of processed files, however that is spelled now.
func (a *aged) inProcessed(path string) bool {
	dir := filepath.Dir(path)
	is, known := a.dirs[dir]
	if !known {
		info, err := os.Stat(dir)
		is = err == nil && a.processed != nil && os.SameFile(info, a.processed)
		a.dirs[dir] = is
	}
	return is
}

// mark is a copy that the ledger says is about to be deleted.
type mark struct {
	file  *ledger.File
	place ledger.Place
	// before: it said so before this purge, which was cut off then.
	before bool
}

// markOld notes which copies are about to be deleted.
func (s *service) markOld(old *aged, files []*ledger.File) ([]mark, error) {
	if old.files.IsZero() {
		return nil, nil
	}
	files = finishedBefore(files, old.files)
	if len(files) == 0 {
		return nil, nil
	}
	var marked []mark
	err := s.ledger.Update(func(tx *ledger.Tx) error {
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

// finishedBefore picks the files that something may be done about.
func finishedBefore(files []*ledger.File, limit time.Time) []*ledger.File {
	var some []*ledger.File
	for _, f := range files {
		if f.Status == ledger.Moved && before(f.Finished, limit) {
			some = append(some, f)
		}
	}
	return some
}

func markFile(tx *ledger.Tx, old *aged, id string) ([]mark, error) {
	f, err := tx.File(id)
	if err != nil || f == nil {
		return nil, err
	}
	copies, err := tx.Copies(id)
	if err != nil {
		return nil, err
	}
	var marked []mark
	for i := range f.Places {
		if p := &f.Places[i]; old.due(f, *p) {
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
		takenOver := slices.ContainsFunc(f.Places, func(p ledger.Place) bool { return p.Kept() && p.MovedTo == c.MovedTo })
		if takenOver || !old.due(f, c.Place) {
			continue
		}
		marked = append(marked, mark{f, c.Place, c.Deleting})
		c.Deleting = true
		if err := tx.PutCopy(c); err != nil {
			return nil, err
		}
	}
	return marked, nil
}

// deletion is what became of a copy that was to be deleted.
type deletion struct {
	deleted bool
	bytes   int64
	// note says for the file's history what was found instead of the file; err, why it could not be deleted.
	note string
	err  error
}

// deleteOld deletes a copy, unless something else lies there now.
func (s *service) deleteOld(ctx context.Context, m mark) *deletion {
	path := m.place.MovedTo
	same, err := holds(ctx, path, m.file, m.place)
	if err == nil && same {
		err = s.remove(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.before:
		return &deletion{deleted: true, bytes: m.file.Size}
	case errors.Is(err, fs.ErrNotExist):
		return &deletion{note: "was gone already when it was to be deleted for its age: " + path}
	case err != nil:
		return &deletion{err: err}
	case !same:
		return &deletion{note: "not deleted for its age, since something else lies there now: " + path}
	default:
		return &deletion{deleted: true, bytes: m.file.Size}
	}
}

// holds says whether the moved copy of a file still is what lies at the path. It is if it looks exactly as it did when it was
// moved there; otherwise its content decides. The error is that of the file system if nothing is there.
func holds(ctx context.Context, path string, f *ledger.File, p ledger.Place) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return false, nil
	}
	if folder.StatOf(info) == p.Stat {
		return true, nil
	}
	id, err := idOf(ctx, path)
	if errors.Is(err, errChanged) {
		return false, nil // somebody is at work on it
	}
	return id == f.ID, err
}

// noteOld notes what was deleted, and forgets the records that nothing is left of.
func (s *service) noteOld(old *aged, files []*ledger.File, results map[string]*deletion, answer *control.PurgeAnswer) error {
	if len(results) == 0 && len(finishedBefore(files, old.records)) == 0 {
		return nil
	}
	var part control.PurgeAnswer
	err := s.ledger.Update(func(tx *ledger.Tx) error {
		part = control.PurgeAnswer{}
		for _, f := range files {
			if err := s.noteFile(tx, old, f.ID, results, &part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note which files were deleted: %w", err)
	}
	answer.Files += part.Files
	answer.Bytes += part.Bytes
	answer.Records += part.Records
	answer.Failed += part.Failed
	if part.Error != "" {
		answer.Error = part.Error
	}
	return nil
}

func (s *service) noteFile(tx *ledger.Tx, old *aged, id string, results map[string]*deletion, part *control.PurgeAnswer) error {
	f, err := tx.File(id)
	if err != nil || f == nil {
		return err
	}
	copies, err := tx.Copies(id)
	if err != nil {
		return err
	}
	n := noted{now: s.now(), file: f, part: part}
	for i := range f.Places {
		n.place(&f.Places[i], results)
	}
	left := copies[:0]
	for _, c := range copies {
		if n.place(&c.Place, results) {
			if err := tx.PutCopy(c); err != nil {
				return err
			}
		}
		if !c.Gone {
			left = append(left, c)
		}
	}
	if old.forgettable(f, left) {
		part.Records++
		return tx.Remove(id)
	}
	if !n.changed {
		return nil
	}
	n.finish()
	if !n.kept && len(left) == 0 {
		f.Purged = n.now.UTC()
		if err := tx.ForgetRows(id); err != nil {
			return fmt.Errorf("forget the rows of file %s: %w", ledger.Short(id), err)
		}
	}
	return tx.Put(f)
}

// noted gathers what became of the copies of one file.
type noted struct {
	now     time.Time
	file    *ledger.File
	part    *control.PurgeAnswer
	changed bool
	kept    bool // a copy in the record is left
	deleted []string
}

// place notes what became of a copy, and says whether anything did.
func (n *noted) place(p *ledger.Place, results map[string]*deletion) bool {
	result := results[p.MovedTo]
	if !p.Deleting || p.Gone || result == nil {
		n.kept = n.kept || p.Kept()
		return false
	}
	n.changed, p.Deleting = true, false
	switch {
	case result.err != nil:
		n.part.Failed++
		n.part.Error = result.err.Error()
		n.kept = true
		return true
	case result.deleted:
		n.part.Files++
		n.part.Bytes += result.bytes
		n.deleted = append(n.deleted, p.MovedTo)
	default:
		n.file.Note(n.now, result.note)
	}
	p.Gone = true
	return true
}

// mostDeletions is how many deletions get a line of their own in a file's history.
const mostDeletions = 3

func (n *noted) finish() {
	for i, path := range n.deleted {
		if i == mostDeletions {
			n.file.Note(n.now, fmt.Sprintf("%d further copies deleted for their age", len(n.deleted)-i))
			break
		}
		n.file.Note(n.now, "deleted for its age: "+path)
	}
}
