package ledger

// What the ledger records of a row, and how rows are counted by it.

import (
	"maps"
	"slices"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/shared/event"
)

// Code is what the ledger records of a line, in one byte. Below 31 it is an event.Outcome; from 31 on it is a
// bobocsv.Reason or one of the codes below. Never renumber them.
type Code byte

const (
	// SettledEarlier: the row was settled before the ledger was lost; its outcome is not known any more.
	SettledEarlier Code = 31
	// Vanished: the row was an entry, but its file was removed or changed before the row was settled, and anything
	// that was under way is gone as well. If the file turns up again, the row is pending again.
	Vanished Code = 200
	// NoRow: no row starts on this line. It is blank, a header, or part of the row before it.
	NoRow Code = 255
)

// Rejected reports whether the code is that of a row that never was, or never will be, an event.
func (c Code) Rejected() bool { return c >= Code(bobocsv.FirstReason) && c != NoRow }

// Settled reports whether the code is a final outcome.
func (c Code) Settled() bool { return c > Code(event.Pending) && c <= SettledEarlier }

// repairable reports whether another outcome may replace this one.
func (c Code) repairable() bool { return c == Code(event.Dead) || c == Code(event.Withheld) }

// String returns the code's short name.
func (c Code) String() string {
	switch {
	case c == SettledEarlier:
		return "settled_earlier"
	case c == Vanished:
		return "vanished"
	case c == NoRow:
		return "no_row"
	case c.Rejected():
		return bobocsv.Reason(c).String()
	default:
		return event.Outcome(c).String()
	}
}

// Text explains the code to an operator.
func (c Code) Text() string {
	switch {
	case c == SettledEarlier:
		return "settled before the ledger was lost"
	case c == Vanished:
		return "the file was removed or changed before this row was settled"
	case c.Rejected() && c != NoRow:
		return bobocsv.Reason(c).Text()
	default:
		return c.String()
	}
}

// CodeCounts counts rows by code.
type CodeCounts map[Code]int

func (c *CodeCounts) add(code Code, n int) {
	if *c == nil {
		*c = CodeCounts{}
	}

	if (*c)[code] += n; (*c)[code] == 0 {
		delete(*c, code)
	}
}

// Settled counts the rows with a final outcome.
func (c CodeCounts) Settled() int {
	n := 0
	for code, count := range c {
		if code.Settled() {
			n += count
		}
	}

	return n
}

// repairable reports whether any row has an outcome that another one may replace.
func (c CodeCounts) repairable() bool { return c[Code(event.Dead)]+c[Code(event.Withheld)] > 0 }

// Summary lists the counts, in the order of the codes, for a log line.
func (c CodeCounts) Summary() []any {
	var args []any
	for _, code := range slices.Sorted(maps.Keys(c)) {
		args = append(args, code.String(), c[code])
	}

	return args
}
