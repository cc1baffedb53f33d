// Package boborow writes rows as BOBO's exports have them, for the demo, the tests and the benchmarks: no service writes any.
package boborow

import (
	"strings"
	"time"
)

// Header is the header row, which a file may begin with or not.
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

// Row is a row, column by column, as it stands in the file: with quotes and blanks, where there are any.
type Row [columns]string

// New returns the row of a worker who books on or off at a moment, by the clock of the moment's zone.
func New(on bool, employee string, at time.Time) Row {
	r := Row{Type: "BOF", Employee: employee, Payroll: "P", GeoStatus: "1"}
	if on {
		r[Type] = "BON"
	}

	return r.At(at)
}

// At returns the row with another moment.
func (r Row) At(at time.Time) Row {
	created := at.Format(CreatedLayout)
	r[Date], r[Clock], r[Created] = created[:len(DateLayout)], created[len(DateLayout):], created
	return r
}

// String returns the row as a line without its end.
func (r Row) String() string { return strings.Join(r[:], ",") }

// Flaw is something for which a row has to be rejected.
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
	// Flaws counts them.
	Flaws
)

// With returns the line that a good row is with a flaw. future is a moment that is too far ahead.
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
