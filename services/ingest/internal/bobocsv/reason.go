package bobocsv

import "fmt"

// Reason says why a row was rejected. The ledger stores the numbers, one byte a row, in one space with event.Outcome,
// which stays below FirstReason: never renumber them.
type Reason byte

// FirstReason is the smallest Reason. A smaller number in the ledger is an outcome.
const FirstReason = Reason(32)

// The reasons for rejecting a row.
const (
	// Columns: the row has fewer or more than ten columns; Row.Number says how many.
	Columns = FirstReason + iota
	// TransactionType: column 1 is neither BON nor BOF.
	TransactionType
	// EmployeeMissing: column 2 is empty.
	EmployeeMissing
	// EmployeeUnusable: column 2 holds invisible characters or is longer than MaxEmployee characters.
	EmployeeUnusable
	// Date: column 4, or the date in column 6, is not a date that exists, written as YYYYMMDD.
	Date
	// Time: column 5, or the time of day in column 6, is not a time that exists, written as HHMMSS.
	Time
	// Contradiction: columns 4 and 5 name another moment than column 6.
	Contradiction
	// Future: the event lies further in the future than clocks may differ.
	Future
	// LineTooLong: the line has more than MaxLine bytes.
	LineTooLong
	// Quoting: a quoted value does not end, or there is text next to its quotes.
	Quoting
	// Header: the file's header has the columns in another order, so that none of its rows can be read.
	Header
	endOfReasons
)

var reasonNames = [endOfReasons - FirstReason]string{
	"columns", "transaction_type", "employee_missing", "employee_unusable", "date", "time", "contradiction", "future",
	"line_too_long", "quoting", "header",
}

var reasonTexts = [endOfReasons - FirstReason]string{
	"not ten columns",
	"column 1 is neither BON nor BOF",
	"column 2 (employee id) is empty",
	"column 2 (employee id) holds invisible characters or is too long",
	"column 4, or the date in column 6, is not an existing date as YYYYMMDD",
	"column 5, or the time in column 6, is not an existing time as HHMMSS",
	"columns 4 and 5 contradict column 6",
	"the event lies in the future",
	"the line is too long",
	"the quotes do not fit together",
	"the header has the columns in another order",
}

// Reasons lists all reasons.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasonNames))
	for r := FirstReason; r < endOfReasons; r++ {
		all = append(all, r)
	}

	return all
}

// String returns the reason's short name, for logs and metrics.
func (r Reason) String() string {
	if r < FirstReason || r >= endOfReasons {
		return fmt.Sprintf("reason %d", byte(r))
	}
	return reasonNames[r-FirstReason]
}

// Text explains the reason to an operator. It contains no value of the row: where columns are shifted, any of them
// may be somebody's personal data.
func (r Reason) Text() string {
	if r < FirstReason || r >= endOfReasons {
		return r.String()
	}
	return reasonTexts[r-FirstReason]
}
