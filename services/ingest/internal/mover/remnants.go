package mover

// This file rescues what is written to a file after it was copied to another file system and removed: the copy cannot
// show it.

import (
	"context"
	"time"

	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
)

// maxRemnants bounds how many remnants are kept open.
const maxRemnants = 256

type remnant struct {
	files.Remnant
	id, name string
	at       time.Time
	stat     files.Stat // at the last check, if the file had been written to by then
}

func (a *aftercare) leave(r *remnant) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.remnants = append(a.remnants, r)
	if len(a.remnants) > maxRemnants {
		a.let(a.remnants[0])
		a.remnants = a.remnants[1:]
	}
}

// checkRemnants takes back the remnants that were written to and have stopped changing; at the end, it takes back all
// that were written to.
func (a *aftercare) checkRemnants(ctx context.Context, end bool) {
	a.mu.Lock()
	left := a.remnants
	a.remnants = nil
	a.mu.Unlock()

	var kept []*remnant
	for _, r := range left {
		now, written := r.Written()
		switch {
		case !written && !end && a.Now().Sub(r.at) <= careTime:
			kept = append(kept, r)
			continue
		case written && !end && now != r.stat:
			r.stat = now
			kept = append(kept, r)
			continue
		case written:
			if err := a.restore(ctx, r); err != nil {
				a.Log.Warn("a file was written to after it was moved to another file system, and cannot be taken back: what is new in it is not read",
					"file", r.name, "file_id", ledger.Short(r.id), "error", err)

				if !end {
					kept = append(kept, r)
					continue
				}
			}
		}

		a.let(r)
	}

	a.mu.Lock()
	a.remnants = append(kept, a.remnants...)
	a.mu.Unlock()
}

// restore writes a remnant to a file in its input directory, to be read as a new one.
func (a *aftercare) restore(ctx context.Context, r *remnant) error {
	a.still.Lock()
	defer a.still.Unlock()

	input, err := files.OpenDir(a.inputOf(r.name))
	if err != nil {
		return err
	}
	defer input.Close()

	to, err := r.Restore(ctx, input, files.Base(r.name), ledger.Short(r.id), a.token)
	if err != nil {
		return err
	}

	return a.noteTakenBack(r.id, r.name, to, func(*ledger.File) {})
}

// let closes a remnant.
func (a *aftercare) let(r *remnant) {
	from, err := files.OpenDir(a.inputOf(r.name))
	if err != nil {
		r.Close(nil)
		return
	}
	defer from.Close()

	r.Close(from)
}

// inputOf returns the input directory that a file came from, or the first one if its feed is not configured.
func (a *aftercare) inputOf(name string) string {
	if dir, known := a.Inputs.Dir(name); known {
		return dir
	}
	return a.Inputs[0].Dir
}
