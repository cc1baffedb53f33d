// Package bobocsv reads the export files of BOBO, the duty clock: ten columns, comma-separated, RFC 4180 quoting,
// with or without a header row. Its results depend on its input alone, and it needs bounded memory.
//
// It accepts a UTF-8 byte-order mark, any line ends (CRLF, LF, CR), blank lines, a header row, a missing last line
// end, quoted values, and blanks around a value. Everything else about a row is strict: it is an entry, or it is
// rejected with a Reason, and reading goes on with the next row.
//
// A row is identified by the physical line, counted from 1, on which it starts.
//
// Personal data: columns 3 and 7 to 10 (payroll id, place) are counted and dropped, and no result but an entry holds
// a value from the file.
package bobocsv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bobosync/shared/event"
)

// MaxEmployee is the longest employee id, in characters. BOBO's ids usually have five digits.
const MaxEmployee = 64

// columnCount is the number of columns of a row.
const columnCount = 10

// columnNames are the names in a header row, in lower case and reduced to letters and digits.
var columnNames = [columnCount]string{
	"transactiontype", "employeeid", "payrollid", "clockingdate", "clockingtime", "datetimecreated", "geostatus", "geolatitude", "geolongitude", "geoaccuracy",
}

// usedColumns is the number of columns up to the last one that is used.
const usedColumns = 6

// maxJoinedLines bounds over how many more lines a quoted value may extend.
const maxJoinedLines = 10

// Options control how a Reader reads.
type Options struct {
	// Zone is the zone of the wall clock in the file; nil is UTC.
	Zone *time.Location
	// Latest is the latest time that an event may have; zero means no limit. A later event is rejected, since it
	// would supersede all events to come.
	Latest time.Time
}

// Row is one row of a file: an entry, or a rejected row if Reason is not 0.
type Row struct {
	// Line is the physical line, counted from 1, on which the row starts.
	Line int
	// Reason says why the row was rejected; 0 for an entry.
	Reason Reason
	// Number belongs to Reason: the number of columns for Columns, the length of the line in bytes for LineTooLong, 0
	// otherwise.
	Number int
	// Entry is the row's entry, if it was not rejected.
	Entry event.Entry
}

// Reader reads the rows of one file. It is not safe for concurrent use.
type Reader struct {
	lines    *lineReader
	again    []line // lines read in vain to find a closing quote; they are read again
	clock    wallClock
	latest   int64
	begun    bool // the first non-blank line, which may be a header, was read
	shuffled bool // that line was a header with the columns in another order
	last     int
	seen     map[string]string // employee ids, since a file names the same workers again and again
	fields   [columnCount][]byte
	unquoted []byte
}

// NewReader returns a Reader for the file that src yields.
func NewReader(src io.Reader, o Options) *Reader {
	r := &Reader{
		lines: newLineReader(src), clock: wallClock{zone: o.Zone}, latest: forever, seen: map[string]string{},
	}
	if o.Zone == nil {
		r.clock.zone = time.UTC
	}

	if !o.Latest.IsZero() {
		r.latest = o.Latest.Unix()
	}

	return r
}

// Lines returns the number of physical lines read so far.
func (r *Reader) Lines() int { return r.last }

// Read returns the next row, or io.EOF at the end of the file. Any other error comes from the source.
func (r *Reader) Read() (Row, error) {
	for {
		l, err := r.nextLine()
		if errors.Is(err, io.EOF) {
			return Row{}, io.EOF
		}

		if err != nil {
			return Row{}, fmt.Errorf("read after line %d: %w", r.last, err)
		}

		r.last = l.number
		if l.number == 1 {
			l.text = bytes.TrimPrefix(l.text, []byte("\uFEFF"))
		}

		if l.size > MaxLine {
			r.begun = true
			return Row{Line: l.number, Reason: LineTooLong, Number: l.size}, nil
		}

		if len(bytes.TrimSpace(l.text)) == 0 {
			continue
		}

		row, err := r.row(l)
		if err != nil {
			return Row{}, fmt.Errorf("read after line %d: %w", r.last, err)
		}

		if first := !r.begun; first {
			r.begun = true
			if row.Reason != 0 && r.isHeader() {
				continue
			}
		}

		return row, nil
	}
}

func (r *Reader) nextLine() (line, error) {
	if len(r.again) > 0 {
		l := r.again[0]
		r.again = r.again[1:]
		return l, nil
	}

	return r.lines.next()
}

// isHeader reports whether the row that was just split is a header, and checks the order of its columns. If a known
// name stands in the wrong column and either that column or its own one is used, it sets shuffled: the values must
// not be taken for something else.
func (r *Reader) isHeader() bool {
	header := columnName(r.fields[0]) == columnNames[0]
	for i, field := range r.fields {
		at := slices.Index(columnNames[:], columnName(field))
		if at >= 0 && at != i && min(at, i) < usedColumns {
			header, r.shuffled = true, true
		}
	}

	return header
}

func columnName(field []byte) string {
	return strings.ToLower(string(bytes.Join(bytes.FieldsFunc(field, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }), nil)))
}

// row makes a row of a line, and of the lines after it if a quoted value extends over them.
func (r *Reader) row(l line) (Row, error) {
	r.fields[0] = nil
	if bytes.IndexByte(l.text, '"') < 0 {
		return r.judge(l.number, r.splitPlain(l.text)), nil
	}

	columns, state := r.splitQuoted(l.text)
	switch state {
	case complete:
		return r.judge(l.number, columns), nil
	case open:
		return r.join(l)
	default:
		return Row{Line: l.number, Reason: Quoting}, nil
	}
}

// join tries to find the end of a quoted value on one of the next lines. It uses these lines only if the result is a
// whole row. Otherwise only the first line is rejected and the others are read by themselves: a stray quote must not
// swallow the good rows after it.
func (r *Reader) join(l line) (Row, error) {
	first, joined := l.number, append([]byte(nil), l.text...)
	var taken []line
	for len(taken) < maxJoinedLines {
		next, err := r.nextLine()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			return Row{}, err
		}

		next.text = bytes.Clone(next.text)
		taken = append(taken, next)
		if startsRow(next.text) || len(joined)+1+next.size > MaxLine {
			break
		}

		joined = append(append(joined, '\n'), next.text...)
		columns, state := r.splitQuoted(joined)
		if state == complete && columns == columnCount {
			r.last = next.number
			return r.judge(first, columns), nil
		}

		if state != open {
			break
		}
	}

	r.again = append(taken, r.again...)

	return Row{Line: first, Reason: Quoting}, nil
}

// startsRow reports whether a line begins as a row does. No value of a BOBO row begins like that, so a quoted value
// that seems to extend that far was never closed.
func startsRow(text []byte) bool {
	first, _, found := bytes.Cut(text, []byte(","))
	_, known := transaction(bytes.Trim(first, " \t\""))
	return found && known
}

// splitPlain splits a line without quotes and returns the number of columns; fields beyond the tenth are only counted.
func (r *Reader) splitPlain(text []byte) int {
	columns := 0
	for {
		i := bytes.IndexByte(text, ',')
		field := text
		if i >= 0 {
			field = text[:i]
		}

		if columns < columnCount {
			r.fields[columns] = field
		}

		columns++
		if i < 0 {
			return columns
		}

		text = text[i+1:]
	}
}

// quoteState says whether the quotes in a text fit together.
type quoteState int

const (
	complete quoteState = iota // the quotes fit together
	open                       // the last value's closing quote is missing
	broken                     // no further text can fix it
)

// splitQuoted does what splitPlain does, for a text with quotes. encoding/csv would not do: it refuses blanks around
// a quoted value, and does not distinguish a value that may go on in the next line from a broken one.
func (r *Reader) splitQuoted(text []byte) (columns int, state quoteState) {
	r.unquoted = r.unquoted[:0]
	for {
		field, rest, more, state := r.cutField(text)
		if columns < columnCount {
			r.fields[columns] = field
		}

		columns++
		if state != complete || !more {
			return columns, state
		}

		text = rest
	}
}

// cutField cuts the first field off a text. more reports whether a comma followed it.
func (r *Reader) cutField(text []byte) (field, rest []byte, more bool, state quoteState) {
	text = bytes.TrimLeftFunc(text, unicode.IsSpace)
	if len(text) == 0 || text[0] != '"' {
		field, rest, more = bytes.Cut(text, []byte(","))
		if bytes.IndexByte(field, '"') >= 0 {
			return nil, nil, false, broken
		}

		return field, rest, more, complete
	}

	text = text[1:]
	start := len(r.unquoted)
	for {
		i := bytes.IndexByte(text, '"')
		if i < 0 {
			return nil, nil, false, open
		}

		r.unquoted = append(r.unquoted, text[:i]...)
		text = text[i+1:]
		if len(text) == 0 || text[0] != '"' {
			break
		}

		r.unquoted = append(r.unquoted, '"')
		text = text[1:]
	}

	beside, rest, more := bytes.Cut(text, []byte(","))
	if len(bytes.TrimSpace(beside)) > 0 {
		return nil, nil, false, broken
	}

	return r.unquoted[start:len(r.unquoted):len(r.unquoted)], rest, more, complete
}

// judge makes an entry of the fields, or returns the reason why they are not one.
func (r *Reader) judge(number, columns int) Row {
	if columns != columnCount {
		return Row{Line: number, Reason: Columns, Number: columns}
	}

	if r.shuffled {
		return Row{Line: number, Reason: Header}
	}

	entry := event.Entry{Row: number}
	reason := r.fill(&entry)
	if reason != 0 {
		return Row{Line: number, Reason: reason}
	}

	return Row{Line: number, Entry: entry}
}

func (r *Reader) fill(e *event.Entry) Reason {
	on, known := transaction(bytes.TrimSpace(r.fields[0]))
	if !known {
		return TransactionType
	}

	e.On = on

	id := bytes.TrimSpace(r.fields[1])
	if len(id) == 0 {
		return EmployeeMissing
	}

	name, usable := r.employee(id)
	if !usable {
		return EmployeeUnusable
	}

	e.Employee = name

	wall, reason := moment(bytes.TrimSpace(r.fields[3]), bytes.TrimSpace(r.fields[4]), bytes.TrimSpace(r.fields[5]))
	if reason != 0 {
		return reason
	}

	at, rank := r.clock.unix(wall)
	if at > r.latest {
		return Future
	}

	e.At = at
	if rank != at {
		e.Rank = rank
	}

	return 0
}

// transaction reads column 1. BON and BOF are the only values: nothing else may change anybody's status.
func transaction(field []byte) (on, known bool) {
	switch string(field) {
	case "BON":
		return true, true
	case "BOF":
		return false, true
	}

	return false, false
}

// maxSeen bounds the number of employee ids in memory.
const maxSeen = 1 << 16

func (r *Reader) employee(id []byte) (string, bool) {
	if s, ok := r.seen[string(id)]; ok {
		return s, true
	}

	if !utf8.Valid(id) || utf8.RuneCount(id) > MaxEmployee || bytes.IndexFunc(id, invisible) >= 0 {
		return "", false
	}

	if len(r.seen) >= maxSeen {
		clear(r.seen)
	}

	s := string(id)
	r.seen[s] = s

	return s, true
}

func invisible(c rune) bool { return !unicode.IsGraphic(c) }
