package event

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// RowSet is a set of row numbers of one file, kept as runs of consecutive rows: nearly all rows of a large file are
// superseded by later ones of the same file. Its wire form is a text such as "2-500,502". A run costs the same however
// long it is, even in a text from another service, so callers that iterate over Runs must limit it to the lines that
// the file has. The zero value is an empty set. It is not safe for concurrent use.
type RowSet struct {
	runs []run
	// unsorted reports that runs may overlap or be out of order; see normalize.
	unsorted bool
}

// run is the rows first to last, both included.
type run struct{ first, last int }

// maxRow is the highest row number that is accepted.
const maxRow = 1 << 40

// Rows makes a set of the given row numbers.
func Rows(rows ...int) RowSet {
	var s RowSet
	for _, r := range rows {
		s.Add(r)
	}

	return s
}

// Add puts a row into the set. Numbers below 1 are ignored: there is no such row.
func (s *RowSet) Add(row int) {
	if row >= 1 {
		s.add(run{row, row})
	}
}

// Merge puts the rows of another set into this one.
func (s *RowSet) Merge(other RowSet) {
	for _, r := range other.runs {
		s.add(r)
	}
}

func (s *RowSet) add(r run) {
	if len(s.runs) > 0 {
		last := &s.runs[len(s.runs)-1]
		if r.first == last.last+1 {
			last.last = r.last
			return
		}

		s.unsorted = s.unsorted || r.first <= last.last
	}

	s.runs = append(s.runs, r)
}

// Len returns the number of rows in the set.
func (s *RowSet) Len() int {
	s.normalize()

	n := 0
	for _, r := range s.runs {
		n += r.last - r.first + 1
	}

	return n
}

// Runs yields the first and the last row of each run of consecutive rows, in ascending order.
func (s *RowSet) Runs() iter.Seq2[int, int] {
	s.normalize()

	return func(yield func(first, last int) bool) {
		for _, r := range s.runs {
			if !yield(r.first, r.last) {
				return
			}
		}
	}
}

// Has reports whether a row is in the set.
func (s *RowSet) Has(row int) bool {
	s.normalize()
	_, found := slices.BinarySearchFunc(s.runs, row, func(r run, row int) int {
		switch {
		case r.last < row:
			return -1
		case r.first > row:
			return 1
		default:
			return 0
		}
	})

	return found
}

// Split cuts the set into sets whose text has at most about limit bytes each, so that each fits into a message.
func (s *RowSet) Split(limit int) []RowSet {
	s.normalize()

	var parts []RowSet
	size := 0
	for _, r := range s.runs {
		cost := len(strconv.Itoa(r.first)) + len(strconv.Itoa(r.last)) + len("-,")
		if size += cost; size > limit || len(parts) == 0 {
			parts, size = append(parts, RowSet{}), cost
		}

		part := &parts[len(parts)-1]
		part.runs = append(part.runs, r)
	}

	return parts
}

// normalize sorts the runs and joins those that touch.
func (s *RowSet) normalize() {
	if !s.unsorted {
		return
	}

	slices.SortFunc(s.runs, func(a, b run) int { return cmp.Compare(a.first, b.first) })

	joined := s.runs[:1]
	for _, r := range s.runs[1:] {
		last := &joined[len(joined)-1]
		if r.first <= last.last+1 {
			last.last = max(last.last, r.last)
			continue
		}

		joined = append(joined, r)
	}

	s.runs, s.unsorted = joined, false
}

// MarshalText writes the set as ascending runs.
func (s RowSet) MarshalText() ([]byte, error) {
	s.runs = slices.Clone(s.runs) // leave the caller's unchanged
	s.normalize()

	var b []byte
	for _, r := range s.runs {
		if len(b) > 0 {
			b = append(b, ',')
		}

		b = strconv.AppendInt(b, int64(r.first), 10)
		if r.last > r.first {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(r.last), 10)
		}
	}

	return b, nil
}

// UnmarshalText reads the text form.
func (s *RowSet) UnmarshalText(text []byte) error {
	*s = RowSet{}

	if len(text) == 0 {
		return nil
	}

	at := 0
	for part := range strings.SplitSeq(string(text), ",") {
		first, last, isRun := strings.Cut(part, "-")
		if !isRun {
			last = first
		}

		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 1 || to < from || to > maxRow {
			return fmt.Errorf("not a set of rows: the run at byte %d is not ascending numbers from 1", at)
		}

		s.add(run{from, to})

		at += len(part) + len(",")
	}

	return nil
}
