package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

const (
	// entriesPerMessage is the most entries in a message. An entry usually takes some 60 bytes, and 450 at worst, so
	// a message always stays below the broker's limit of 1 MiB.
	entriesPerMessage = 500
	// WindowLines is how many lines of a file are in memory at once. It is a multiple of ledger.ChunkLines, so that
	// only the last chunk of a file can be a short one.
	WindowLines = 16 * ledger.ChunkLines
	// groupFiles is the most small files that share a commit of the ledger and a round of publishing.
	groupFiles = 256
)

// Reading is one pass through a file: the first one, or a later one to publish its entries again.
type Reading struct {
	// File is the file's record when the reading begins; for a new file, the record that will be stored.
	File *ledger.File
	// New reports that the ledger does not have the file yet.
	New bool
	// Copy is the copy that was found in the input directory; nil if the file was found elsewhere.
	Copy *ledger.Copy
	// Arrived is when the file was found there, Ready when it had stopped changing. Both are zero if it was found
	// elsewhere.
	Arrived, Ready time.Time
	// Again reports that the entries are republished on purpose, so that the broker must not take them for
	// duplicates.
	Again bool
	// Settled reports that all rows are settled: the entries are for a resolver that lost its state store.
	Settled bool
	// MovedTo is the path of a file that was finished before the ledger was lost.
	MovedTo string

	begun   bool   // some of it is in the ledger
	suffix  string // of the message ids
	opened  time.Time
	sent    int // messages made so far
	entries int // entries in them
	stored  int // lines stored in the ledger
}

// feed returns the name of the file's feed as events have it: empty for the default feed.
func (r *Reading) feed() string {
	if feed := files.FeedOf(r.File.Name); feed != files.DefaultFeed {
		return feed
	}
	return ""
}

// window is a part of a file that was parsed but is not in the ledger yet.
type window struct {
	r       *Reading
	first   int // the line before its first one
	codes   []byte
	details []ledger.Detail
	entries []event.Entry
	last    bool // the file ends here
	lines   int  // lines of the whole file, if last
	ahead   bool // entries follow of files that lay in the input directory together with this one
}

// attachment is a known content that was found under a name.
type attachment struct {
	id   string
	copy ledger.Copy
	note string // for the file's history
}

// Publish puts messages into the stream of entries, however long that takes. It fails only if ctx ends or the stream
// is gone.
type Publish func(ctx context.Context, msgs []*message.Message) error

// Group gathers what was read until there is enough for a commit and a round of publishing: the next lines of one
// large file, or many small files. The order is always the same: store in the ledger, publish to the broker, mark as
// published in the ledger. After a crash in between, the file is read again. A Group is for one goroutine.
type Group struct {
	*Intake
	publish Publish // nil to store in the ledger only

	// ahead reports whether files are read next that lay in the input directory together with those of the group.
	ahead    func() bool
	windows  []*window
	attached []attachment
	lines    int
	pending  map[string]*Reading // new files that are not in the ledger yet
}

// NewGroup begins a group. If publish is nil, files are only stored in the ledger.
func (in *Intake) NewGroup(publish Publish) *Group {
	return &Group{Intake: in, publish: publish, pending: map[string]*Reading{}, ahead: func() bool { return false }}
}

// Pending reports whether the group holds a content that the ledger does not know yet.
func (g *Group) Pending(id string) bool { return g.pending[id] != nil }

// FileError is a problem with one file, which does not affect other files.
type FileError struct{ Err error }

func (e *FileError) Error() string { return e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Read parses a file into the group, and flushes the group whenever it is full. A *FileError concerns this file
// alone; nothing of the file is left in the group then.
func (g *Group) Read(ctx context.Context, c *content.File, r *Reading) error {
	r.opened = g.Now()
	if r.New {
		g.pending[r.File.ID] = r
	}

	if r.File.Problem != "" {
		return g.add(ctx, &window{r: r, last: true})
	}

	text, err := c.Text(ctx)
	if err != nil {
		g.drop(r)
		return &FileError{err}
	}

	w, lines, err := g.parse(ctx, text, r)
	if file := new(FileError); err != nil && !errors.As(err, &file) {
		return err
	}

	if err == nil {
		err = text.Check()
	}

	if err != nil {
		g.drop(r)
		return errors.Join(&FileError{err}, g.cutShort(r, err))
	}

	w.last, w.lines = true, lines

	return g.add(ctx, w)
}

// parse adds all windows of the file to the group but the last one. It returns the last one and the number of lines.
func (g *Group) parse(ctx context.Context, src io.Reader, r *Reading) (*window, int, error) {
	o := bobocsv.Options{Zone: g.Zone}
	if r.File.Status == ledger.Reading || r.File.Partial || !r.File.Purged.IsZero() { // otherwise the ledger knows the rejected rows
		o.Latest = r.File.Reference.Add(g.MaxClockSkew)
	}

	rows := bobocsv.NewReader(src, o)
	w := &window{r: r}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return w, rows.Lines(), nil
		}

		if err != nil {
			return nil, 0, &FileError{err}
		}

		for row.Line > w.first+WindowLines {
			w.fillTo(WindowLines)

			if err := g.add(ctx, w); err != nil {
				return nil, 0, err
			}

			w = &window{r: r, first: w.first + WindowLines}
		}

		w.put(row)
	}
}

// fillTo marks the lines without a code, up to the window's n-th line, as having no row.
func (w *window) fillTo(n int) {
	for len(w.codes) < n {
		w.codes = append(w.codes, byte(ledger.NoRow))
	}
}

func (w *window) put(row bobocsv.Row) {
	w.fillTo(row.Line - w.first - 1)

	if row.Reason == 0 {
		w.codes = append(w.codes, byte(event.Pending))
		w.entries = append(w.entries, row.Entry)
		return
	}

	w.codes = append(w.codes, byte(row.Reason))
	if row.Number != 0 {
		w.details = append(w.details, ledger.Detail{Line: row.Line, Number: row.Number})
	}
}

// add adds a window and flushes the group if it is full.
func (g *Group) add(ctx context.Context, w *window) error {
	g.windows = append(g.windows, w)
	g.lines += len(w.codes)
	if g.lines < WindowLines && len(g.windows) < groupFiles {
		return nil
	}

	return g.Flush(ctx)
}

// attach has the next flush note that a known content was found under a name.
func (g *Group) attach(a attachment) { g.attached = append(g.attached, a) }

// storeCopy attaches a name to a known file. It returns the file if it is done, because the copy must then be moved
// away.
func (g *Group) storeCopy(tx *ledger.Tx, a attachment) (*ledger.File, error) {
	f, err := tx.File(a.id)
	if err != nil {
		return nil, err
	}

	if f == nil { // the copy that was being read changed, so this is the only one now
		g.Retry(a.copy.Name)
		return nil, nil
	}

	a.copy.Found = g.Now().UTC()
	if err := tx.Attach(f, a.copy); err != nil {
		return nil, err
	}

	if a.note != "" {
		f.Note(g.Now(), a.note)
	}

	if err := tx.Names().Enter(a.copy, a.id); err != nil {
		return nil, err
	}

	f.Keep = f.Status == ledger.Done && g.Stay
	if err := tx.Put(f); err != nil {
		return nil, err
	}

	if f.Status != ledger.Done || f.Keep {
		return nil, nil
	}

	return f, nil
}

// drop removes a reading's windows from the group.
func (g *Group) drop(r *Reading) {
	delete(g.pending, r.File.ID)

	kept := g.windows[:0]
	for _, w := range g.windows {
		if w.r == r {
			g.lines -= len(w.codes)
			continue
		}

		kept = append(kept, w)
	}

	clear(g.windows[len(kept):])
	g.windows = kept
}

// cutShort closes a file that changed while it was read. The rows published so far are settled as their outcomes
// arrive, and the new content is another file, or the same one again if it was only touched. (A file that was read
// before keeps its rows; they are known from the first reading.) A file that could not be read to its end for any
// other reason is left as it would be after a crash: it is read again from the start.
func (g *Group) cutShort(r *Reading, reason error) error {
	if !r.begun || r.MovedTo == "" && !errors.Is(reason, content.ErrChanged) {
		return nil
	}

	now := g.Now()

	return g.Ledger.Update(func(tx *ledger.Tx) error {
		f, err := tx.File(r.File.ID)
		if err != nil || f == nil || f.Status != ledger.Reading {
			return err
		}

		if r.MovedTo != "" {
			return tx.Remove(f.ID) // a finished file; it stays unknown, as it was before
		}

		if r.Copy != nil {
			f.MarkGone(r.Copy.Name)
		}

		f.Note(now, "changed while it was read; the rows published so far are settled as they come")

		f.Partial, f.Published = true, now.UTC()
		if err := tx.Complete(f, r.stored, now); err != nil {
			return err
		}

		f.Close()

		return tx.Put(f)
	})
}

// Flush stores the group in the ledger, publishes its entries, and marks its files as published.
func (g *Group) Flush(ctx context.Context) error {
	if len(g.windows) == 0 && len(g.attached) == 0 {
		return nil
	}

	msgs, finished, err := g.store()
	if err != nil {
		return err
	}

	if err := g.Hit(failpoint.Stored); err != nil {
		return err
	}

	if len(msgs) > 0 && g.publish != nil {
		for _, m := range msgs {
			g.Traces.FileHeader(m.Metadata.Get(topology.HeaderFile), m.Metadata.Set)
		}

		if err := g.publish(ctx, msgs); err != nil {
			return err
		}

		if err := g.Hit(failpoint.Published); err != nil {
			return err
		}

		if err := g.mark(); err != nil {
			return err
		}
	}

	g.report(len(msgs) > 0 && g.publish != nil)
	clear(g.windows) // releases the memory of the entries
	g.windows, g.attached, g.lines = g.windows[:0], g.attached[:0], 0
	clear(g.pending)
	g.Finished(finished...)

	return nil
}

// report counts and logs what was read. A file that is read again gets no log line of its own.
func (g *Group) report(published bool) {
	for _, w := range g.windows {
		r := w.r
		if published {
			g.Metrics.EntriesPublished(len(w.entries))
		}

		if !w.last || r.Again || r.Settled || r.MovedTo != "" {
			continue
		}

		now := g.Now()
		g.Metrics.FileRead(now.Sub(r.opened))
		g.Traces.NoteRoot(r.File.ID, telemetry.Work{
			Name: "read file", Began: r.opened, Ended: now, Counts: map[string]int{"lines": w.lines, "entries": r.entries},
		})
		g.Log.Info("file read", "file", r.File.Name, "file_id", ledger.Short(r.File.ID), "bytes", r.File.Size, "lines", w.lines,
			"entries", r.entries, "seconds", g.Now().Sub(r.opened).Round(time.Millisecond).Seconds())
	}
}

// store commits the group to the ledger. It returns the messages to publish and the files that are done already.
func (g *Group) store() (msgs []*message.Message, finished []*ledger.File, err error) {
	err = g.Ledger.Update(func(tx *ledger.Tx) error {
		msgs, finished = nil, nil
		for i, w := range g.windows {
			w.ahead = g.ahead() || slices.ContainsFunc(g.windows[i+1:], func(w *window) bool { return len(w.entries) > 0 })

			m, f, err := g.storeWindow(tx, w)
			if err != nil {
				return err
			}

			msgs = append(msgs, m...)
			if f != nil {
				finished = append(finished, f)
			}
		}

		for _, a := range g.attached {
			f, err := g.storeCopy(tx, a)
			if err != nil {
				return err
			}

			if f != nil {
				finished = append(finished, f)
			}
		}

		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("store what was read: %w", err)
	}

	return msgs, finished, nil
}

// storeWindow stores a window. It returns the window's messages, and the file if the window finished it.
func (g *Group) storeWindow(tx *ledger.Tx, w *window) ([]*message.Message, *ledger.File, error) {
	r := w.r

	f, begun, err := g.begin(tx, r)
	if err != nil {
		return nil, nil, err
	}

	f.Imported = r.MovedTo != ""
	if f.Purged.IsZero() { // for a purged file, the outcomes of its rows are lost
		if err := w.storeCodes(tx); err != nil {
			return nil, nil, err
		}
	}

	r.stored = w.first + len(w.codes)
	var finished *ledger.File
	switch {
	case w.last && f.Status == ledger.Reading:
		finished, err = g.complete(tx, r, f, w.lines)
	case begun:
		if r.Copy != nil && f.Status == ledger.Done && !f.Keep { // the mover may have just moved it, and begin noted the copy again
			finished = f
		}

		err = tx.Put(f)
	}

	if err != nil {
		return nil, nil, err
	}

	return w.messages(f.Sequence), finished, nil
}

// begin returns the record of the reading's file. With the reading's first window, it creates the record of a new
// file or counts a deliberate re-reading. Then begun is true, and the caller must put the record.
func (g *Group) begin(tx *ledger.Tx, r *Reading) (f *ledger.File, begun bool, err error) {
	if r.begun {
		f, err := tx.File(r.File.ID)
		if err == nil && f == nil {
			err = fmt.Errorf("file %s is gone from the ledger", ledger.Short(r.File.ID))
		}

		return f, false, err
	}

	now := g.Now()

	f, err = record(tx, r, now)
	if err != nil {
		return nil, false, err
	}

	reopened := false
	if r.Copy != nil {
		if reopened, err = tx.Reopen(f, now); err != nil {
			return nil, false, err
		}
	}

	if r.New || reopened {
		f.Arrived, f.Ready = r.Arrived.UTC(), r.Ready.UTC()
	}

	if r.Again || reopened {
		f.Readings++
	}

	// The sequence number distinguishes the readings of a file whose record was dropped in between.
	r.suffix = fmt.Sprintf("%.8s.%x.%d", g.Ledger.Epoch(), f.Sequence, f.Readings)
	if r.Copy != nil {
		found := *r.Copy
		found.Found = cmp.Or(found.Found, now.UTC())
		if err := tx.Attach(f, found); err != nil {
			return nil, false, err
		}

		if err := tx.Names().Enter(found, f.ID); err != nil {
			return nil, false, err
		}
	}

	r.begun = true

	return f, true, nil
}

// record returns the record of a file: a new one with a sequence number in the order of reading, or the stored one.
func record(tx *ledger.Tx, r *Reading, now time.Time) (*ledger.File, error) {
	f := r.File
	if !r.New {
		stored, err := tx.File(f.ID)
		if err != nil {
			return nil, err
		}

		return cmp.Or(stored, f), nil
	}

	if f.Sequence != 0 {
		if err := tx.RaiseSequence(f.Sequence); err != nil {
			return nil, err
		}
	} else {
		sequence, err := tx.NextSequence(f.Modified, now)
		if err != nil {
			return nil, err
		}

		f.Sequence = sequence
	}

	f.FirstSeen = now.UTC()
	if f.Imported = r.MovedTo != ""; f.Imported {
		f.FirstSeen = f.Reference.UTC()
	}

	return f, nil
}

// storeCodes stores the window's codes, chunk by chunk. It drops entries that an earlier reading rejected: an event
// that lay in the future then is not accepted now either.
func (w *window) storeCodes(tx *ledger.Tx) error {
	kept := w.entries[:0:0]
	entries := w.entries
	for at := 0; at < len(w.codes); at += ledger.ChunkLines {
		end := min(at+ledger.ChunkLines, len(w.codes))
		chunk, _ := ledger.Chunk(w.first + at + 1)

		codes, err := tx.Rows(w.r.File.ID).Add(chunk, w.codes[at:end], detailsOf(w.details, w.first+at, w.first+end))
		if err != nil {
			return err
		}

		for len(entries) > 0 && entries[0].Row <= w.first+end {
			_, i := ledger.Chunk(entries[0].Row)
			if i < len(codes) && !ledger.Code(codes[i]).Rejected() {
				kept = append(kept, entries[0])
			}

			entries = entries[1:]
		}
	}

	w.entries = kept

	return nil
}

func detailsOf(all []ledger.Detail, after, upTo int) []ledger.Detail {
	var some []ledger.Detail
	for _, d := range all {
		if d.Line > after && d.Line <= upTo {
			some = append(some, d)
		}
	}

	return some
}

// complete ends the first reading of a file, and returns the file if nothing is left to wait for.
func (g *Group) complete(tx *ledger.Tx, r *Reading, f *ledger.File, lines int) (*ledger.File, error) {
	now := g.Now()
	if err := tx.Complete(f, lines, now); err != nil {
		return nil, err
	}

	if r.MovedTo == "" {
		if f.Status == ledger.Done {
			return f, nil
		}
		return nil, nil
	}

	if err := tx.Abandon(f, ledger.SettledEarlier, now); err != nil {
		return nil, err
	}

	f.Status, f.Finished = ledger.Moved, f.Reference.UTC()
	f.Note(now, "found finished, as the ledger was recreated")

	return nil, tx.Put(f)
}

// messages returns the window's messages. The last message of the file is marked as the last. If the last window has
// no entries, an empty message is added for that, provided that there were messages before.
func (w *window) messages(sequence int64) []*message.Message {
	var msgs []*message.Message
	r := w.r
	for entries := w.entries; len(entries) > 0; {
		n := min(len(entries), entriesPerMessage)
		e := event.Entries{
			File: r.File.ID, Feed: r.feed(), Sequence: sequence, Settled: r.Settled, Last: w.last && n == len(entries), More: w.ahead, Ahead: w.ahead,
			Entries: entries[:n],
		}
		msgs = append(msgs, entriesMessage(e, fmt.Sprintf("%s-%d-%s", r.File.ID, entries[0].Row, r.suffix)))
		entries = entries[n:]
	}

	r.sent += len(msgs)
	r.entries += len(w.entries)
	if w.last && len(w.entries) == 0 && r.sent > 0 {
		e := event.Entries{File: r.File.ID, Sequence: sequence, Settled: r.Settled, Last: true, Entries: []event.Entry{}}
		msgs = append(msgs, entriesMessage(e, fmt.Sprintf("%s-end-%s", r.File.ID, r.suffix)))
	}

	return msgs
}

func entriesMessage(e event.Entries, id string) *message.Message {
	m := bus.NewMessage(topology.EntriesSubject(e.File), event.Encode(&e))
	m.Metadata.Set(bus.MsgIDKey, id)
	m.Metadata.Set(topology.HeaderFile, e.File)
	return m
}

// mark notes which files are published completely.
func (g *Group) mark() error {
	now := g.Now()

	err := g.Ledger.Update(func(tx *ledger.Tx) error {
		for _, w := range g.windows {
			if !w.last || w.r.Settled {
				continue
			}

			if err := tx.Change(w.r.File.ID, func(f *ledger.File) { f.Published = now.UTC() }); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("note what was published: %w", err)
	}

	return nil
}
