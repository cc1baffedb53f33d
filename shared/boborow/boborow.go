// Package boborow writes rows in the format of BOBO's exports, for the demo, the tests and the benchmarks. No service
// writes such rows.
package boborow

import (
	"strings"
	"time"
)

// Header is the header row, with which a file may begin.
const Header = "Transaction_Type,Employee_ID,Payroll_ID,Clocking_Date,Clocking_Time,DateTime_Created,Geo_Status,Geo_Latitude,Geo_Longitude,Geo_Accuracy"

// Layouts of dates and times, as Go's time package writes them.
const (
	DateLayout    = "20060102"
	ClockLayout   = "150405"
	CreatedLayout = DateLayout + ClockLayout
)

// The columns of a row.
const (
	Type = iota
	Employee
	Payroll
	Date
	Clock
	Created
	GeoStatus
	Latitude
	Longitude
	Accuracy
	columns
)

// Row is a row, column by column, as it appears in the file: with quotes and blanks, if there are any.
type Row [columns]string

// New returns the row of a worker who books on or off at the given moment, by the clock of the moment's zone.
func New(on bool, employee string, at time.Time) Row {
	r := Row{Type: "BOF", Employee: employee, Payroll: "P", GeoStatus: "1"}
	if on {
		r[Type] = "BON"
	}

	return r.At(at)
}

// At returns the row with its dates and times set to another moment.
func (r Row) At(at time.Time) Row {
	created := at.Format(CreatedLayout)
	r[Date], r[Clock], r[Created] = created[:len(DateLayout)], created[len(DateLayout):], created
	return r
}

// String returns the row as a line, without a line break.
func (r Row) String() string { return strings.Join(r[:], ",") }

// Flaw is a reason for which a row must be rejected.
type Flaw int

// The flaws.
const (
	FewColumns Flaw = iota
	ManyColumns
	UnknownType
	NoEmployee
	NoSuchDate
	NoSuchTime
	Contradiction
	Future
	NoRow
	// Flaws is the number of flaws.
	Flaws
)

// With returns the line of a good row to which the flaw was added. future is a moment that is too far ahead.
func (r Row) With(flaw Flaw, future time.Time) string {
	switch flaw {
	case FewColumns:
		return strings.Join(r[:columns-1], ",")
	case ManyColumns:
		return r.String() + ",more"
	case UnknownType:
		r[Type] = "BOO"
	case NoEmployee:
		r[Employee] = ""
	case NoSuchDate:
		r[Date], r[Created] = "20240230", "20240230"+r[Clock]
	case NoSuchTime:
		r[Clock], r[Created] = "250000", r[Date]+"250000"
	case Contradiction:
		other := "000001"
		if r[Clock] == other {
			other = "000002"
		}

		r[Created] = r[Date] + other
	case Future:
		r = r.At(future)
	default:
		return "--- connection to host lost ---"
	}

	return r.String()
}
