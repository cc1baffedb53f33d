package ledger

import (
	"cmp"
	"slices"
	"time"

	"bobosync/services/ingest/internal/files"
	"bobosync/shared/event"
)

// Status is how far a file has come.
type Status string

const (
	// Reading: not all of its rows are in the ledger yet. After a crash, it is read again from the start.
	Reading Status = "reading"
	// Waiting: all rows are in the ledger, but not all of them are settled.
	Waiting Status = "waiting"
	// Done: every row is rejected or settled, or the file is not text at all. All that is left to do is to move it.
	Done Status = "done"
	// Moved: no copy of it is known to be left in the input directory.
	Moved Status = "moved"
)

// File is the record of a file. Its content never changes: other content is another file.
type File struct {
	// ID is the SHA-256 of the content, in lower-case hex.
	ID string `json:"-"`
	// Name is the name under which it was first seen.
	Name   string `json:"name"`
	Status Status `json:"status"`
	Size   int64  `json:"size"`
	// Sequence is the file's sequence number in the order of reading.
	Sequence int64 `json:"order"`
	// Modified is the file's modification time when it was first seen.
	Modified time.Time `json:"modified"`
	// Reference is the time by which events are judged to lie in the future or not.
	Reference time.Time `json:"reference"`
	// Lines counts the physical lines, Rows the rows on them, and Rejected the rows that are not entries. They are 0
	// until the whole file was read.
	Lines    int `json:"lines,omitempty"`
	Rows     int `json:"rows"`
	Rejected int `json:"rejected"`
	// Codes counts the rows by code, except those that are pending.
	Codes CodeCounts `json:"codes,omitempty"`
	// Problem says why the file cannot be read as text at all; it then has no rows.
	Problem string `json:"problem,omitempty"`
	// Partial reports that the file was changed during its first reading, so that the ledger lacks its last rows.
	// They are read if the content turns up again: the file may only have been touched.
	Partial bool `json:"partial,omitempty"`
	// Readings counts how often its entries were deliberately published again.
	Readings int `json:"readings,omitempty"`
	// Copies are the copies of it that were found in the input directory.
	Copies Copies `json:"places,omitempty"`
	// MoveBack reports that it was moved as a failed file and that its dead rows were repaired since, so that it must
	// be moved on to the processed files.
	MoveBack bool `json:"returning,omitempty"`
	// Keep reports that it stays where it is (MOVE_PROCESSED_FILES off).
	Keep bool `json:"keep,omitempty"`
	// Purged is when the last of its processed copies was deleted because of its age. Its rows were dropped then.
	Purged time.Time `json:"purged,omitzero"`

	// Arrived is when it was found, Ready when it had stopped changing. Both are zero in records of earlier versions,
	// see Arrival.
	Arrived time.Time `json:"arrived,omitzero"`
	Ready   time.Time `json:"ready,omitzero"`
	// FirstSeen is when it was first read.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	// Published is when the broker had stored all of its entries; zero if it has not.
	Published time.Time `json:"published,omitzero"`
	// Finished is when its last row was settled.
	Finished time.Time `json:"finished,omitzero"`
	History  []Note    `json:"history,omitempty"`

	// Imported reports that its rows were settled before the ledger was created, so that they are not counted as
	// settled now.
	Imported bool `json:"-"`
	// stored is the counted part of the record as it was when it was last read or put.
	stored view
}

// Note is an entry of a file's history.
type Note struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// maxHistory bounds a file's history; the first note and the latest ones are kept.
const maxHistory = 30

// Note adds a note to the file's history.
func (f *File) Note(now time.Time, text string) {
	f.History = append(f.History, Note{At: now.UTC(), Text: Display(text)})
	if len(f.History) > maxHistory {
		f.History = slices.Delete(f.History, 1, 2)
	}
}

// Arrival returns when the file arrived, or when it was first read if the arrival was not recorded.
func (f *File) Arrival() time.Time {
	if f.Arrived.IsZero() {
		return f.FirstSeen
	}
	return f.Arrived
}

// Pending returns how many rows still wait for their outcome.
func (f *File) Pending() int { return f.Rows - f.Rejected - f.Codes.Settled() }

// Failed reports whether the file belongs in the directory of failed files: AtHoc will never take one of its rows, a
// row was withheld, or the file is not text.
func (f *File) Failed() bool { return f.Problem != "" || f.Codes.repairable() }

// NeedsRead reports whether the file must be read if its content is found: its reading did not reach the end, not all
// of its entries were published, or it was given up as gone.
func (f *File) NeedsRead() bool {
	return f.Status == Reading || f.Status == Waiting && f.Published.IsZero() || f.reopens()
}

// reopens reports whether reading the file reopens it, because it was cut short or given up as gone. A purged file is
// not reopened: nobody knows which of its rows have no outcome.
func (f *File) reopens() bool { return f.Purged.IsZero() && (f.Partial || f.Codes[Vanished] > 0) }

// IsOpen reports whether it was read, at least in part, and is not done.
func (f *File) IsOpen() bool { return f.Status == Reading || f.Status == Waiting }

// NeedsWork reports whether there is something left to do for the file.
func (f *File) NeedsWork() bool {
	switch f.Status {
	case Moved:
		return false
	case Done:
		return !f.Keep
	default:
		return true
	}
}

// Finish makes a file Done that has nothing left to wait for, and reports whether it did.
func (f *File) Finish(now time.Time) bool {
	if f.Status != Waiting || f.Pending() > 0 {
		return false
	}

	f.Status, f.Finished = Done, now.UTC()

	return true
}

func (f *File) tally(c Code) {
	if c == NoRow {
		return
	}

	f.Rows++
	if c.Rejected() {
		f.Rejected++
	}

	if c != Code(event.Pending) {
		f.Codes.add(c, 1)
	}
}

func sortFiles(files []*File) {
	slices.SortFunc(files, func(a, b *File) int { return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.ID, b.ID)) })
}

// MarkGone notes that the copy under a name is not in the input directory any more. A file that is done and has no
// copy left becomes Moved.
func (f *File) MarkGone(name string) {
	for i := range f.Copies {
		if f.Copies[i].Name == name && f.Copies[i].InInput() {
			f.Copies[i].Gone = true
		}
	}

	f.Close()
}

// Close makes a file Moved if it is done and has no copy left in the input directory and none to be moved on.
func (f *File) Close() {
	if f.Status == Done && len(f.Copies.InInput()) == 0 && !f.MoveBack {
		f.Status = Moved
	}
}

// repair makes a finished file Done again once all of its dead or withheld rows were repaired, so that copies that
// were moved as failed ones are moved on. It reports whether it did.
func (f *File) repair(now time.Time) bool {
	if f.Status != Moved && f.Status != Done || f.Failed() {
		return false
	}

	f.Note(now, "its dead rows were repaired")
	f.Status, f.MoveBack = Done, !f.Keep && slices.ContainsFunc(f.Copies, Copy.AtDest)

	return true
}

// MarkReturned notes where the copies that had been moved as failed ones are now. paths maps their old paths to the
// new ones; an empty new path means that the copy was gone.
func (f *File) MarkReturned(paths map[string]string, now time.Time) {
	for i := range f.Copies {
		p := &f.Copies[i]
		to, moved := paths[p.MovedTo]
		if !moved || p.Gone {
			continue
		}

		f.Copies.MarkRemoved(to)

		p.Gone = to == ""
		if to != "" {
			p.MovedTo, p.Moved = to, now.UTC()
			f.Note(now, "moved to "+to)
		}
	}

	f.MoveBack = false
	f.Close()
}

// MarkMoved notes that the copy under a name was moved to a path, and its stat there. An empty path means that the
// copy was gone. If it was moved as a copy of a failed file, but the dead rows were repaired meanwhile, it must be
// moved on.
func (f *File) MarkMoved(name, to string, stat files.Stat, failed bool, now time.Time) {
	for i := range f.Copies {
		p := &f.Copies[i]
		if p.Name != name || !p.InInput() {
			continue
		}

		f.Copies.MarkRemoved(to)

		p.MovedTo, p.Gone = to, to == ""
		if to != "" {
			p.Stat, p.Moved = stat, now.UTC()
			f.Note(now, "moved to "+to)
			f.MoveBack = f.MoveBack || failed && !f.Failed()
		}
	}

	f.Close()
}
