package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"time"

	"bobosync/shared/event"
)

// Detail is a number that goes with a rejected line, such as how many columns it has.
type Detail struct {
	Line, Number int
}

// Chunk returns the number of the chunk that a line, counted from 1, is in, and its index there.
func Chunk(line int) (chunk, index int) { return (line - 1) / ChunkLines, (line - 1) % ChunkLines }

// AddChunk stores the codes of a chunk's lines as they were read from the file. If the chunk is known from an earlier
// reading, that one stands: its rows may be settled already. It returns the codes that are valid now.
func (t *Tx) AddChunk(id string, chunk int, codes []byte, details []Detail) ([]byte, error) {
	known, err := t.Codes(id, chunk)
	if err != nil || known != nil {
		return known, err
	}
	key := numbered(keyOf(id), chunk)
	if err := t.tx.Bucket(bucketRows).Put(key, codes); err != nil {
		return nil, fmt.Errorf("store rows of file %s: %w", Short(id), err)
	}
	if len(details) == 0 {
		return codes, nil
	}
	data := make([]byte, 0, 8*len(details))
	for _, d := range details {
		data = binary.BigEndian.AppendUint32(data, uint32(d.Line))
		data = binary.BigEndian.AppendUint32(data, uint32(d.Number))
	}
	if err := t.tx.Bucket(bucketRejected).Put(key, data); err != nil {
		return nil, fmt.Errorf("store rejected rows of file %s: %w", Short(id), err)
	}
	return codes, nil
}

// Codes returns a copy of a chunk's codes, nil if the chunk is unknown.
func (t *Tx) Codes(id string, chunk int) ([]byte, error) {
	key := keyOf(id)
	if key == nil {
		return nil, fmt.Errorf("look up rows: %d characters are no file id", len(id))
	}
	return bytes.Clone(t.tx.Bucket(bucketRows).Get(numbered(key, chunk))), nil
}

// maxDeadTexts bounds the texts kept for the dead rows of one file; the dead letters have all of them.
const maxDeadTexts = 1000

// settlement is an outcome for a row.
type settlement struct {
	line   int
	code   Code
	detail string
	// employee and athoc go with AtHoc's own answer: of whom it is, and how long it was waited for.
	employee string
	athoc    time.Duration
}

// Settle notes the outcomes that acknowledgements carry, all in one transaction, and returns the files that have become
// Done by it, in the order of reading. Files and rows that are unknown, and rows that are settled already, are left as
// they are.
func (l *Ledger) Settle(acks []*event.Acks, now time.Time) (finished []*File, err error) {
	byFile := map[string]*outcomes{}
	for _, a := range acks {
		gather(a, byFile)
	}
	if len(byFile) == 0 {
		return nil, nil
	}
	err = l.Update(func(tx *Tx) error {
		finished = finished[:0]
		for _, id := range slices.Sorted(maps.Keys(byFile)) {
			f, err := tx.settle(id, byFile[id], now)
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
		return nil, fmt.Errorf("note outcomes: %w", err)
	}
	sortFiles(finished)
	return finished, nil
}

// outcomes are what acknowledgements say of one file's rows. Runs of rows stay runs until it is known how many lines the file has.
type outcomes struct {
	rows    map[Code]*event.RowSet
	answers []settlement
}

func gather(a *event.Acks, byFile map[string]*outcomes) {
	of := func(file string) *outcomes {
		if byFile[file] == nil {
			byFile[file] = &outcomes{rows: map[Code]*event.RowSet{}}
		}
		return byFile[file]
	}
	for _, r := range a.Rows {
		o, code := of(r.File), Code(r.Settled())
		if o.rows[code] == nil {
			o.rows[code] = &event.RowSet{}
		}
		o.rows[code].Merge(r.Rows)
	}
	for _, answer := range a.Answers {
		if answer.File == "" {
			continue
		}
		o := of(answer.File)
		o.answers = append(o.answers, settlement{
			line: answer.Version.Row, code: Code(answer.Outcome), detail: answer.Detail, employee: answer.Employee,
			athoc: time.Duration(answer.Waited) * time.Millisecond,
		})
	}
}

// linesKnown returns the number of the last line of a file that has a code.
func (t *Tx) linesKnown(id string) int {
	key := keyOf(id)
	if key == nil {
		return 0
	}
	c := t.tx.Bucket(bucketRows).Cursor()
	next, _ := c.Seek(numbered(key, math.MaxUint32))
	before := c.Prev
	if next == nil {
		before = c.Last
	}
	k, codes := before()
	if !bytes.HasPrefix(k, key) {
		return 0
	}
	return int(binary.BigEndian.Uint32(k[len(key):]))*ChunkLines + len(codes)
}

// settle notes the outcomes of one file's rows and returns the file if that finished it.
func (t *Tx) settle(id string, o *outcomes, now time.Time) (*File, error) {
	f, err := t.File(id)
	closed := f != nil && (f.Status == Done || f.Status == Moved)
	if err != nil || f == nil || closed && !f.repairable() {
		return nil, err
	}
	rows := &settling{tx: t, f: f, lines: t.linesKnown(id), chunks: map[int]*chunk{}}
	for _, code := range slices.Sorted(maps.Keys(o.rows)) {
		for first, last := range o.rows[code].Runs() {
			if err := rows.settleRun(first, last, code); err != nil {
				return nil, err
			}
		}
	}
	for _, answer := range o.answers {
		if err := rows.settle(answer); err != nil {
			return nil, err
		}
	}
	changed, err := rows.store()
	if err != nil || !changed {
		return nil, err
	}
	done := f.Finish(now) || closed && f.repair(now)
	if err := t.Put(f); err != nil || !done {
		return nil, err
	}
	return f, nil
}

// settling is the rows of a file while their outcomes are noted: those of a line in the order in which they are given.
type settling struct {
	tx     *Tx
	f      *File
	lines  int // that are known
	chunks map[int]*chunk
}

// chunk is a chunk's codes; nil if it is unknown.
type chunk struct {
	codes   []byte
	changed bool
}

func (s *settling) chunk(number int) (*chunk, error) {
	if c := s.chunks[number]; c != nil {
		return c, nil
	}
	codes, err := s.tx.Codes(s.f.ID, number)
	if err != nil {
		return nil, err
	}
	c := &chunk{codes: codes}
	s.chunks[number] = c
	return c, nil
}

// settleRun notes the same outcome for the rows from first to last. A run may be as long as it likes: what the file does not have
// is left out.
func (s *settling) settleRun(first, last int, code Code) error {
	for line := max(first, 1); line <= min(last, s.lines); {
		number, i := Chunk(line)
		c, err := s.chunk(number)
		if err != nil {
			return err
		}
		end := min(len(c.codes), i+last-line+1)
		fresh := 0
		for ; i < end; i++ {
			if Code(c.codes[i]) == Code(event.Pending) && code.Settled() {
				c.codes[i] = byte(code)
				fresh++
				continue
			}
			if err := s.replace(c, i, settlement{line: number*ChunkLines + i + 1, code: code}); err != nil {
				return err
			}
		}
		if fresh > 0 {
			s.f.count(code, fresh)
			c.changed = true
		}
		line = (number+1)*ChunkLines + 1
	}
	return nil
}

// settle notes one row's outcome.
func (s *settling) settle(r settlement) error {
	if r.line < 1 || r.line > s.lines {
		return nil
	}
	number, i := Chunk(r.line)
	c, err := s.chunk(number)
	if err != nil || i >= len(c.codes) {
		return err
	}
	return s.replace(c, i, r)
}

// replace replaces a row's code by an outcome, if it may.
func (s *settling) replace(c *chunk, i int, r settlement) error {
	known := Code(c.codes[i])
	if !replaces(r.code, known) {
		return nil
	}
	dead, key := s.tx.tx.Bucket(bucketDead), numbered(keyOf(s.f.ID), r.line)
	if known.repairable() {
		s.f.count(known, -1)
		if err := dead.Delete(key); err != nil {
			return fmt.Errorf("forget why a row of file %s was dead: %w", Short(s.f.ID), err)
		}
	}
	if known == Code(event.Pending) && r.employee != "" && r.code == Code(event.Applied) {
		s.tx.confirm(s.f, r)
	}
	c.codes[i], c.changed = byte(r.code), true
	s.f.count(r.code, 1)
	if r.detail != "" && s.f.Codes[r.code] <= maxDeadTexts {
		if err := dead.Put(key, []byte(r.detail)); err != nil {
			return fmt.Errorf("store why a row of file %s is dead: %w", Short(s.f.ID), err)
		}
	}
	return nil
}

// store stores what was changed, and reports whether anything was.
func (s *settling) store() (changed bool, err error) {
	for _, number := range slices.Sorted(maps.Keys(s.chunks)) {
		c := s.chunks[number]
		if !c.changed {
			continue
		}
		changed = true
		if err := s.tx.tx.Bucket(bucketRows).Put(numbered(keyOf(s.f.ID), number), c.codes); err != nil {
			return false, fmt.Errorf("store rows of file %s: %w", Short(s.f.ID), err)
		}
	}
	return changed, nil
}

// replaces reports whether an outcome may replace a row's code: the first outcome stands, but a dead row
// can be repaired, and one that was withheld let through.
func replaces(outcome, known Code) bool {
	switch {
	case known == Code(event.Pending):
		return outcome.Settled()
	case known.repairable():
		return outcome.Settled() && outcome != known
	default:
		return false
	}
}

// Complete closes the reading of a file: it counts the codes of its lines again, so that the record is right whatever was
// settled meanwhile, and makes it Waiting, or Done if nothing is left to settle.
func (t *Tx) Complete(f *File, lines int, now time.Time) error {
	f.Lines, f.Rows, f.Rejected, f.Codes = lines, 0, 0, nil
	for chunk, codes := range t.chunks(f.ID) {
		if chunk*ChunkLines >= lines {
			break
		}
		for _, b := range codes {
			f.tally(Code(b))
		}
	}
	f.Status = Waiting
	f.Finish(now)
	return t.Put(f)
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
		f.count(c, 1)
	}
}

// Abandon gives the pending rows of a file the code, so that it can be closed. It is for a file that is gone, or whose
// rows were settled before the ledger was lost.
func (t *Tx) Abandon(f *File, code Code, now time.Time) error {
	lines, err := t.recode(f, Code(event.Pending), code)
	if err != nil {
		return err
	}
	return t.Complete(f, lines, now)
}

// Reopen takes up a file again whose content has turned up, see File.NeedsRead: rows that were given up wait again, and what
// was not read of it is to be read. The first outcome of a row stands. It reports whether there was anything to take up; then the
// record is to be put afterwards.
func (t *Tx) Reopen(f *File, now time.Time) (bool, error) {
	if !f.reopens() {
		return false, nil
	}
	if _, err := t.recode(f, Vanished, Code(event.Pending)); err != nil {
		return false, err
	}
	f.Rejected -= f.Codes[Vanished]
	delete(f.Codes, Vanished)
	f.Status = Waiting
	if f.Partial {
		f.Status = Reading
	}
	f.Partial, f.Keep, f.Published, f.Finished = false, false, time.Time{}, time.Time{}
	f.Note(now, "found again, its rows without an outcome wait again")
	return true, nil
}

// recode gives the rows of a file that have one code another one, and returns how many lines are known.
func (t *Tx) recode(f *File, from, to Code) (lines int, err error) {
	changed := map[int][]byte{}
	for chunk, codes := range t.chunks(f.ID) {
		lines = chunk*ChunkLines + len(codes)
		if bytes.IndexByte(codes, byte(from)) >= 0 {
			changed[chunk] = bytes.ReplaceAll(codes, []byte{byte(from)}, []byte{byte(to)})
		}
	}
	for chunk, codes := range changed {
		if err := t.tx.Bucket(bucketRows).Put(numbered(keyOf(f.ID), chunk), codes); err != nil {
			return 0, fmt.Errorf("store rows of file %s: %w", Short(f.ID), err)
		}
	}
	return lines, nil
}

// chunks yields a file's chunks in order. The codes are valid within the transaction and must not be changed.
func (t *Tx) chunks(id string) iter.Seq2[int, []byte] {
	key := keyOf(id)
	return func(yield func(int, []byte) bool) {
		if key == nil {
			return
		}
		c := t.tx.Bucket(bucketRows).Cursor()
		for k, v := c.Seek(key); k != nil && bytes.HasPrefix(k, key); k, v = c.Next() {
			if !yield(int(binary.BigEndian.Uint32(k[len(key):])), v) {
				return
			}
		}
	}
}

// Row is one row of a file as an operator looks it up.
type Row struct {
	Line int
	Code Code
	// Number goes with a rejected row: its columns, or the length of its line.
	Number int
	// Detail is why a row is dead, as far as the ledger kept it.
	Detail string
}

// Rows yields the rows of a file that want takes, in the order of their lines. Each chunk is read in a transaction of its
// own, so a slow consumer blocks nobody.
func (l *Ledger) Rows(id string, want func(Code) bool) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for chunk := 0; ; chunk++ {
			rows, more, err := l.rowsOf(id, chunk, want)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

func (l *Ledger) rowsOf(id string, chunk int, want func(Code) bool) (rows []Row, more bool, err error) {
	key := keyOf(id)
	if key == nil {
		return nil, false, nil
	}
	err = l.View(func(tx *Tx) error {
		codes, err := tx.Codes(id, chunk)
		if err != nil || codes == nil {
			return err
		}
		more = true
		numbers := map[int]int{}
		data := tx.tx.Bucket(bucketRejected).Get(numbered(key, chunk))
		for ; len(data) >= 8; data = data[8:] {
			numbers[int(binary.BigEndian.Uint32(data))] = int(binary.BigEndian.Uint32(data[4:]))
		}
		for i, b := range codes {
			c := Code(b)
			if c == NoRow || !want(c) {
				continue
			}
			line := chunk*ChunkLines + i + 1
			detail := tx.tx.Bucket(bucketDead).Get(numbered(key, line))
			rows = append(rows, Row{Line: line, Code: c, Number: numbers[line], Detail: string(detail)})
		}
		return nil
	})
	return rows, more, err
}

// Files yields the records of all files, oldest reading first. It holds all of them in memory: some hundred bytes a file.
func (l *Ledger) Files() ([]*File, error) {
	var files []*File
	err := l.View(func(tx *Tx) error {
		return tx.tx.Bucket(bucketFiles).ForEach(func(k, _ []byte) error {
			f, err := tx.File(hex.EncodeToString(k))
			if f != nil {
				files = append(files, f)
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	sortFiles(files)
	return files, nil
}
