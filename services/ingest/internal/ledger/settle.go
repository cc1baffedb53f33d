package ledger

// What acknowledgements do to the rows of files.

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"bobosync/shared/event"
)

// maxDeadTexts bounds the texts kept for the dead rows of one file; the dead letters have all of them.
const maxDeadTexts = 1000

// settlement is an outcome for a row.
type settlement struct {
	line   int
	code   Code
	detail string
	// employee and athoc belong to an answer of AtHoc's: whose it is, and how long it was waited for.
	employee string
	athoc    time.Duration
}

// Settle notes the outcomes that acknowledgements carry, all in one transaction. It returns the files that became
// Done by this, in the order of reading. Unknown files and rows, and rows that are settled already, are left as they
// are.
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
			f, err := byFile[id].settle(tx, id, now)
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

// outcomes is what acknowledgements say about the rows of one file. Runs of rows stay runs until it is known how many
// lines the file has.
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

// settle notes the outcomes, and returns the file if that finished or repaired it.
func (o *outcomes) settle(tx *Tx, id string, now time.Time) (*File, error) {
	f, err := tx.File(id)
	closed := f != nil && (f.Status == Done || f.Status == Moved)
	if err != nil || f == nil || closed && !f.Codes.repairable() {
		return nil, err
	}

	rows := &settling{tx: tx, f: f, rows: tx.Rows(id), lines: tx.Rows(id).lines(), chunks: map[int]*chunk{}}
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
	if err := tx.Put(f); err != nil || !done {
		return nil, err
	}

	return f, nil
}

// settling is the rows of a file while outcomes are noted. Several outcomes for one line are noted in the order in
// which they are given.
type settling struct {
	tx     *Tx
	f      *File
	rows   Rows
	lines  int // how many are known
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

	codes, err := s.rows.codes(number)
	if err != nil {
		return nil, err
	}

	c := &chunk{codes: codes}
	s.chunks[number] = c

	return c, nil
}

// settleRun notes the same outcome for the rows from first to last. The run may extend beyond the file: lines that
// the file does not have are ignored.
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
			s.f.Codes.add(code, fresh)

			c.changed = true
		}

		line = (number+1)*ChunkLines + 1
	}

	return nil
}

// settle notes the outcome of one row.
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

// replace replaces a row's code by an outcome, if replaces allows it.
func (s *settling) replace(c *chunk, i int, r settlement) error {
	known := Code(c.codes[i])
	if !replaces(r.code, known) {
		return nil
	}

	dead, key := s.tx.tx.Bucket(bucketDead), numbered(s.rows.key, r.line)
	if known.repairable() {
		s.f.Codes.add(known, -1)

		if err := dead.Delete(key); err != nil {
			return fmt.Errorf("forget why a row of file %s was dead: %w", Short(s.f.ID), err)
		}
	}

	if known == Code(event.Pending) && r.employee != "" && r.code == Code(event.Applied) {
		s.confirm(r)
	}

	c.codes[i], c.changed = byte(r.code), true
	s.f.Codes.add(r.code, 1)

	if r.detail != "" && s.f.Codes[r.code] <= maxDeadTexts {
		if err := dead.Put(key, []byte(r.detail)); err != nil {
			return fmt.Errorf("store why a row of file %s is dead: %w", Short(s.f.ID), err)
		}
	}

	return nil
}

// confirm reports a row once the transaction is committed.
func (s *settling) confirm(r settlement) {
	c := Confirmed{
		File: s.f.ID, Name: s.f.Name, Arrived: s.f.Arrival(), Ready: s.f.Ready, Line: r.line, Employee: r.employee, AtHoc: r.athoc,
	}
	s.tx.tx.OnCommit(func() { s.tx.stats.onConfirm(c) })
}

// store stores the chunks that were changed, and reports whether there were any.
func (s *settling) store() (changed bool, err error) {
	for _, number := range slices.Sorted(maps.Keys(s.chunks)) {
		c := s.chunks[number]
		if !c.changed {
			continue
		}

		changed = true

		if err := s.rows.put(number, c.codes); err != nil {
			return false, err
		}
	}

	return changed, nil
}

// replaces reports whether an outcome may replace a row's code: the first outcome stands, but a dead row can be
// repaired and a withheld one released.
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
