package event

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// RowSet is a set of row numbers of one file. Its wire form is a text such as "2-500,502", which stays small for the
// long runs that are the rule: nearly all rows of a large file are superseded by later ones of the same file.
// The zero value is an empty set. It is not safe for concurrent use.
type RowSet struct {
	rows   []int
	sorted bool
}

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
	if row < 1 {
		return
	}
	s.sorted = s.sorted && len(s.rows) > 0 && row > s.rows[len(s.rows)-1] || len(s.rows) == 0
	s.rows = append(s.rows, row)
}

// Len returns the number of rows in the set.
func (s *RowSet) Len() int {
	s.sort()
	return len(s.rows)
}

// All yields the rows in ascending order.
func (s *RowSet) All() iter.Seq[int] {
	s.sort()
	return slices.Values(s.rows)
}

// Split cuts the set into sets whose text has at most about limit bytes each, so that each fits into a message.
func (s *RowSet) Split(limit int) []RowSet {
	var parts []RowSet
	size := 0
	var part RowSet
	for first, last := range s.ranges() {
		size += len(strconv.Itoa(first)) + len(strconv.Itoa(last)) + 2
		if size > limit && len(part.rows) > 0 {
			parts, part, size = append(parts, part), RowSet{}, 0
		}
		for r := first; r <= last; r++ {
			part.Add(r)
		}
	}
	if len(part.rows) > 0 {
		parts = append(parts, part)
	}
	return parts
}

func (s *RowSet) sort() {
	if s.sorted {
		return
	}
	slices.Sort(s.rows)
	s.rows = slices.Compact(s.rows)
	s.sorted = true
}

// ranges yields the runs of consecutive rows.
func (s *RowSet) ranges() iter.Seq2[int, int] {
	s.sort()
	return func(yield func(int, int) bool) {
		for i := 0; i < len(s.rows); {
			j := i
			for j+1 < len(s.rows) && s.rows[j+1] == s.rows[j]+1 {
				j++
			}
			if !yield(s.rows[i], s.rows[j]) {
				return
			}
			i = j + 1
		}
	}
}

// MarshalText writes the set as ascending runs.
func (s RowSet) MarshalText() ([]byte, error) {
	var b []byte
	for first, last := range s.ranges() {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(first), 10)
		if last > first {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(last), 10)
		}
	}
	return b, nil
}

// maxRows bounds what a text of a few bytes may unfold to: no file has as many rows.
const maxRows = 100_000_000

// UnmarshalText reads the text form.
func (s *RowSet) UnmarshalText(text []byte) error {
	*s = RowSet{}
	if len(text) == 0 {
		return nil
	}
	for run := range strings.SplitSeq(string(text), ",") {
		first, last, isRun := strings.Cut(run, "-")
		if !isRun {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 1 || to < from || to-from >= maxRows-len(s.rows) {
			return fmt.Errorf("not a set of rows: run at byte %d is not ascending numbers from 1", len(s.rows))
		}
		for r := from; r <= to; r++ {
			s.Add(r)
		}
	}
	return nil
}
