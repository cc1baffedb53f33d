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
	// Reading: not all of its rows are in the ledger yet. After a crash it is read again from the start.
	Reading Status = "reading"
	// Waiting: all rows are in the ledger, not all of them are settled.
	Waiting Status = "waiting"
	// Done: every row is rejected or settled, or the file is not a text at all. What is left to do is to move it.
	Done Status = "done"
	// Moved: no copy of it is left in the input directory, as far as is known.
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
	// Reference is the moment by which it was judged whether an event lies in the future.
	Reference time.Time `json:"reference"`
	// Lines counts physical lines, Rows the rows on them, Rejected those of them that are no entries. Until the file is
	// wholly read they are 0.
	Lines    int `json:"lines,omitempty"`
	Rows     int `json:"rows"`
	Rejected int `json:"rejected"`
	// Codes counts the rows by code, without those that are pending.
	Codes CodeCounts `json:"codes,omitempty"`
	// Problem says why the file cannot be read as text at all; it then has no rows.
	Problem string `json:"problem,omitempty"`
	// Partial reports that the file was changed while it was read first, so that the ledger lacks its last rows. They are read if the
	// content turns up again: it may only have been touched.
	Partial bool `json:"partial,omitempty"`
	// Readings counts how often its entries were deliberately published again.
	Readings int `json:"readings,omitempty"`
	// Copies are where copies of it were found in the input directory.
	Copies Copies `json:"places,omitempty"`
	// MoveBack reports that it was moved as a failed file and that its dead rows were repaired since: it is to be moved on to the
	// processed ones.
	MoveBack bool `json:"returning,omitempty"`
	// Keep reports that it stays where it is (MOVE_PROCESSED_FILES off).
	Keep bool `json:"keep,omitempty"`
	// Purged is when the last of its processed copies was deleted for its age; its rows are dropped
	// since then.
	Purged time.Time `json:"purged,omitzero"`

	// Arrived is when it was found, Ready when it had stopped changing; zero in records of earlier versions, see Arrival.
	Arrived time.Time `json:"arrived,omitzero"`
	Ready   time.Time `json:"ready,omitzero"`
	// FirstSeen is when it was read first.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	// Published is when all of its entries were stored by the broker; zero if they were not.
	Published time.Time `json:"published,omitzero"`
	// Finished is when its last row was settled.
	Finished time.Time `json:"finished,omitzero"`
	History  []Note    `json:"history,omitempty"`

	// Imported reports that its rows were settled before the ledger was begun, so that they are not counted as settled now.
	Imported bool `json:"-"`
	// stored is what of it was stored when it was read or put last.
	stored view
}

// Note is an entry of a file's history.
type Note struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// maxHistory bounds a file's history; the first note and the latest ones are kept.
const maxHistory = 30

// Note adds to the history.
func (f *File) Note(now time.Time, text string) {
	f.History = append(f.History, Note{At: now.UTC(), Text: Display(text)})
	if len(f.History) > maxHistory {
		f.History = slices.Delete(f.History, 1, 2)
	}
}

// Arrival is when the file came, as far as is known.
func (f *File) Arrival() time.Time {
	if f.Arrived.IsZero() {
		return f.FirstSeen
	}
	return f.Arrived
}

// Pending counts the rows that still wait for their outcome.
func (f *File) Pending() int { return f.Rows - f.Rejected - f.Codes.Settled() }

// Failed reports whether the file belongs into the directory of failed files: AtHoc will never take one of its rows, or it was
// withheld, or the file is not a text.
func (f *File) Failed() bool { return f.Problem != "" || f.Codes.repairable() }

// NeedsRead reports whether the file has to be read if its content is found: it was cut off, its entries were not wholly published, or
// it was given up as gone.
func (f *File) NeedsRead() bool {
	return f.Status == Reading || f.Status == Waiting && f.Published.IsZero() || f.reopens()
}

// reopens reports whether a reading takes the file up again that was closed or cut short. Of a purged file nobody knows which rows
// have no outcome.
func (f *File) reopens() bool { return f.Purged.IsZero() && (f.Partial || f.Codes[Vanished] > 0) }

// IsOpen reports whether it was read, in part at least, and is not done.
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

// Finish makes a file that has nothing left to wait for Done, and reports whether it did.
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

// MarkGone notes that the copy under a name is not there any more. A file that is done and has no copy left is Moved.
func (f *File) MarkGone(name string) {
	for i := range f.Copies {
		if f.Copies[i].Name == name && f.Copies[i].InInput() {
			f.Copies[i].Gone = true
		}
	}

	f.Close()
}

// Close makes a file Moved that is done, has no copy left in the input directory and none to be moved on.
func (f *File) Close() {
	if f.Status == Done && len(f.Copies.InInput()) == 0 && !f.MoveBack {
		f.Status = Moved
	}
}

// repair makes a file that was moved as a failed one, and has no dead row any more, one that is to be moved on. It reports
// whether it did.
func (f *File) repair(now time.Time) bool {
	if f.Status != Moved && f.Status != Done || f.Failed() {
		return false
	}

	f.Note(now, "its dead rows were repaired")
	f.Status, f.MoveBack = Done, !f.Keep && slices.ContainsFunc(f.Copies, Copy.AtDest)

	return true
}

// MarkReturned notes that the copies that were moved as failed ones lie elsewhere now: the new paths by the old ones. An empty
// path means that the copy was gone.
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

// MarkMoved notes that the copy under a name was moved to a path, and how it looks there; an empty path means that it was gone. A copy that was
// moved as one of a failed file, whose dead rows were repaired meanwhile, is to be moved on.
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
