package mover

// What is written to a file after it was copied to another file system and removed: the copy cannot show it.

import (
	"context"
	"time"

	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
)

// maxRemnants bounds how many such files are kept open.
const maxRemnants = 256

type remnant struct {
	files.Remnant
	id, name string
	at       time.Time
	stat     files.Stat // at the last look, if it had been written to by then
}

func (a *aftercare) leave(r *remnant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remnants = append(a.remnants, r)
	if len(a.remnants) > maxRemnants {
		a.m.let(a.remnants[0])
		a.remnants = a.remnants[1:]
	}
}

// checkRemnants takes back what was written to and does not change any more; at the end, all that was written to.
func (a *aftercare) checkRemnants(ctx context.Context, end bool) {
	a.mu.Lock()
	left := a.remnants
	a.remnants = nil
	a.mu.Unlock()
	var kept []*remnant
	for _, r := range left {
		now, written := r.Written()
		switch {
		case !written && !end && a.m.Now().Sub(r.at) <= careTime:
			kept = append(kept, r)
			continue
		case written && !end && now != r.stat:
			r.stat = now
			kept = append(kept, r)
			continue
		case written:
			if err := a.m.restore(ctx, r); err != nil {
				a.m.Log.Warn("a file was written to after it was moved to another file system, and cannot be taken back: what is new in it is not read",
					"file", r.name, "file_id", ledger.Short(r.id), "error", err)
				if !end {
					kept = append(kept, r)
					continue
				}
			}
		}
		a.m.let(r)
	}
	a.mu.Lock()
	a.remnants = append(kept, a.remnants...)
	a.mu.Unlock()
}

// restore puts a file back into its input directory, to be read as a new one.
func (m *Mover) restore(ctx context.Context, r *remnant) error {
	m.still.Lock()
	defer m.still.Unlock()
	input, err := files.OpenDir(m.inputOf(r.name))
	if err != nil {
		return err
	}
	defer input.Close()
	to, err := r.Restore(ctx, input, files.Base(r.name), ledger.Short(r.id), m.token)
	if err != nil {
		return err
	}
	m.Log.Warn("a file was written to after it was moved: it is taken back and read as a new one; its producer should write it "+
		"under another name first, or SETTLE_TIME is too short", "file", r.name, "file_id", ledger.Short(r.id), "taken_back_as", to)
	return m.Ledger.Update(func(tx *ledger.Tx) error {
		f, err := tx.File(r.id)
		if err != nil || f == nil {
			return err
		}
		f.Note(m.Now(), "written to after it was moved, taken back as "+to+" to be read as a new file: "+r.name)
		return tx.Put(f)
	})
}

// let closes the remnant of a file.
func (m *Mover) let(r *remnant) {
	from, err := files.OpenDir(m.inputOf(r.name))
	if err != nil {
		r.Close(nil)
		return
	}
	defer from.Close()
	r.Close(from)
}

// inputOf returns the directory that a file came from, or the first one if its feed is not configured.
func (m *Mover) inputOf(name string) string {
	if dir, known := m.Inputs.Dir(name); known {
		return dir
	}
	return m.Inputs[0].Dir
}
