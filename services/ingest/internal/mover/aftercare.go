package mover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/pause"
)

const (
	// careTime is how long a moved file is checked: a producer that kept it open may still write to it.
	careTime = 5 * time.Minute
	// careTimeAfterStart is how old a move may be for its file still to be checked when ingest starts.
	careTimeAfterStart = 24 * time.Hour
)

// aftercare checks files that were moved recently. A file that was written to after its move is taken back to the input
// directory and read as a new file: its old rows are known, and its new ones must not be lost.
type aftercare struct {
	*Config
	token string
	// still is the Mover's lock: nothing is taken back while files are being moved, or have to stay where they are.
	still *sync.Mutex

	mu     sync.Mutex
	recent map[string]moved // by path
	// remnants are the sources, still open, of files that were copied to another file system, the oldest first.
	remnants []*remnant
}

func newToken() string { return rand.Text()[:12] + "-" }

// load adds the files that were moved before ingest started, but not too long before.
func (a *aftercare) load() error {
	if a.Stay {
		return nil
	}

	all, err := a.Ledger.Files()
	if err != nil {
		return fmt.Errorf("look up files that were moved recently: %w", err)
	}

	since := a.Now().Add(-careTimeAfterStart)
	for _, f := range all {
		for _, p := range f.Copies {
			if p.AtDest() && p.Moved.After(since) && p.Moved.After(a.recent[p.MovedTo].at) {
				a.recent[p.MovedTo] = moved{id: f.ID, name: p.Name, to: p.MovedTo, stat: p.Stat, at: p.Moved}
			}
		}
	}

	return nil
}

func (a *aftercare) add(done []moved) {
	a.mu.Lock()
	defer a.mu.Unlock()

	for _, d := range done {
		if d.to != "" {
			a.recent[d.to] = d
		}
	}
}

// run checks the files at regular intervals until ctx ends. At the end it takes back all remnants that were written to.
func (a *aftercare) run(ctx context.Context, every time.Duration) {
	_ = pause.Every(ctx, every, func() error {
		a.check(ctx)
		a.checkRemnants(ctx, false)
		return nil
	})
	a.checkRemnants(context.WithoutCancel(ctx), true)
}

// check checks all recent files once, and drops those that were moved long enough ago. A file that was written to and
// could not be taken back is kept.
func (a *aftercare) check(ctx context.Context) {
	a.mu.Lock()

	recent := make([]moved, 0, len(a.recent))
	for _, d := range a.recent {
		recent = append(recent, d)
	}
	a.mu.Unlock()

	for _, d := range recent {
		if ctx.Err() != nil {
			return
		}

		if info, err := os.Lstat(d.to); err == nil && files.StatOf(info).Same(d.stat) && a.Now().Sub(d.at) <= careTime {
			continue
		}

		now, taken, err := a.takeBackIfWritten(ctx, d.id, ledger.Copy{Name: d.name, MovedTo: d.to, Stat: d.stat})
		if err != nil && !errors.Is(err, content.ErrChanged) && a.Now().Sub(d.warned) >= time.Minute {
			d.warned = a.Now()
			a.Log.Warn("a file was written to after it was moved, and cannot be taken back: what is new in it is not read",
				"file", d.to, "file_id", ledger.Short(d.id), "error", err)
		}

		a.mu.Lock()
		switch known := a.recent[d.to]; {
		case known.id != d.id: // another file was moved there meanwhile
		case err != nil: // it is tried again, however long that takes
			a.recent[d.to] = d
		case taken, a.Now().Sub(d.at) > careTime:
			delete(a.recent, d.to)
		default:
			d.stat = now
			a.recent[d.to] = d
		}
		a.mu.Unlock()
	}
}

// takeBackIfWritten takes a copy back if it was written to, and reports whether it did. It also returns the state to
// compare the copy with next time. The error is content.ErrChanged if the copy is still being written to.
func (a *aftercare) takeBackIfWritten(ctx context.Context, id string, p ledger.Copy) (now files.Stat, taken bool, err error) {
	dir, err := files.OpenDir(filepath.Dir(p.MovedTo))
	if err != nil {
		return p.Stat, false, nil // the directories are watched elsewhere
	}
	defer dir.Close()

	name := filepath.Base(p.MovedTo)
	info, err := dir.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return p.Stat, false, nil // somebody took it, which is allowed
	}

	now = files.StatOf(info)
	if now.Same(p.Stat) || now.Key != p.Stat.Key || now.Key == "" && now.Size <= p.Stat.Size {
		return p.Stat, false, nil
	}

	switch is, err := content.IDIn(ctx, dir, name); {
	case err != nil:
		return p.Stat, false, err
	case is == id:
		return now, false, nil // it was only touched
	}

	taken, err = a.takeBack(ctx, dir, id, p, now)

	return p.Stat, taken, err
}

func (a *aftercare) takeBack(ctx context.Context, dir *files.Dir, id string, p ledger.Copy, now files.Stat) (bool, error) {
	a.still.Lock()
	defer a.still.Unlock()
	// Another file may have been moved there since, perhaps the very one that was taken back before.
	if f, err := a.Ledger.File(id); err != nil || f == nil || f.Copies.LeftPath(p.MovedTo) {
		return false, err
	}

	input, err := files.OpenDir(a.inputOf(p.Name)) // the feed may be gone, or known to a lost ledger only
	if err != nil {
		return false, err
	}
	defer input.Close()

	to, _, err := files.Move{
		From: dir, Name: filepath.Base(p.MovedTo), Into: input, Wanted: files.Base(p.Name), Tag: ledger.Short(id), Token: a.token, Stat: now,
		Same: func(*files.Dir, string) (bool, error) { return false, nil },
	}.Do(ctx)
	if errors.Is(err, files.ErrGone) {
		return false, nil // somebody took it
	}

	if errors.Is(err, files.ErrReplaced) {
		return false, content.ErrChanged
	}

	if err != nil {
		return false, err
	}

	return true, a.noteTakenBack(id, p.MovedTo, to, func(f *ledger.File) { f.Copies.MarkRemoved(p.MovedTo) })
}

// noteTakenBack records, in the log and in the file's history, that a moved file was taken back: from says where it
// was, and to is its new name. mark updates the file's record.
func (a *aftercare) noteTakenBack(id, from, to string, mark func(*ledger.File)) error {
	a.Log.Warn("a file was written to after it was moved: it is taken back and read as a new one; its producer should write it "+
		"under another name first, or SETTLE_TIME is too short", "file", from, "file_id", ledger.Short(id), "taken_back_as", to)

	return a.Ledger.Update(func(tx *ledger.Tx) error {
		return tx.Change(id, func(f *ledger.File) {
			mark(f)
			f.Note(a.Now(), "written to after it was moved, taken back as "+to+" to be read as a new file: "+from)
		})
	})
}
