package text

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
)

// Raw is the program's own text, such as a colour, that a [Printer] writes unchanged.
type Raw string

// Printer writes for people. It cleans whatever it is given to show, and only formats decide where a line ends. It
// keeps the first error, which Err returns.
type Printer struct {
	w   io.Writer
	err error
}

// To returns a printer that writes to w.
func To(w io.Writer) *Printer { return &Printer{w: w} }

// Err returns the error of the first write that failed.
func (p *Printer) Err() error { return p.err }

// Printf writes as fmt.Printf does, after cleaning every argument that is a text or is shown as one.
func (p *Printer) Printf(format string, args ...any) {
	p.write(fmt.Sprintf(format, cleaned(args)...))
}

// Line writes one text as one line.
func (p *Printer) Line(s string) { p.write(Clean(s) + "\n") }

// Table writes rows in columns; the first row is the heading. Cells are cleaned.
func (p *Printer) Table(rows [][]string) {
	var page bytes.Buffer

	t := tabwriter.NewWriter(&page, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Clean(cell)
		}

		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}

	_ = t.Flush() // a buffer accepts everything

	p.write(page.String())
}

// JSON writes v for scripts, as the function [JSON] does.
func (p *Printer) JSON(v any) error { return JSON(p.w, v) }

// CSV writes rows for spreadsheets; the first row is the heading. Each text is made safe for a cell by [Cell].
func (p *Printer) CSV(rows ...[]string) error {
	w := csv.NewWriter(p.w)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Cell(cell)
		}

		_ = w.Write(cells) // Error returns the first error
	}

	w.Flush()

	if err := w.Error(); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}

	return nil
}

func (p *Printer) write(s string) {
	if p.err != nil {
		return
	}

	if _, err := io.WriteString(p.w, s); err != nil {
		p.err = fmt.Errorf("write the answer: %w", err)
	}
}

func cleaned(args []any) []any {
	clean := make([]any, len(args))
	for i, arg := range args {
		switch a := arg.(type) {
		case Raw:
			clean[i] = string(a)
		case string:
			clean[i] = Clean(a)
		case error:
			clean[i] = Clean(a.Error())
		case fmt.Stringer:
			clean[i] = Clean(a.String())
		case []string:
			list := make([]string, len(a))
			for j := range a {
				list[j] = Clean(a[j])
			}

			clean[i] = list
		case []byte:
			clean[i] = Clean(string(a))
		default:
			clean[i] = arg
			if v := reflect.ValueOf(arg); v.Kind() == reflect.String { // a type based on string
				clean[i] = Clean(v.String())
			}
		}
	}

	return clean
}

// Lines returns the texts of an error, cleaned: one for each error that was joined to it.
func Lines(err error) []string {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) && fmt.Sprint(err) == fmt.Sprint(errors.Join(joined.Unwrap()...)) {
		var lines []string
		for _, one := range joined.Unwrap() {
			lines = append(lines, Lines(one)...)
		}

		return lines
	}

	return []string{Clean(err.Error())}
}

// JSON writes v for scripts, indented, in visible characters. The others are written as JSON escapes, which a reader
// decodes again.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(Escaping(w))
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")

	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}

	return nil
}

// Escaping returns a writer for JSON that replaces invisible characters with JSON escapes. Each Write must contain
// whole characters.
func Escaping(w io.Writer) io.Writer { return escaping{w} }

type escaping struct{ io.Writer }

// Write implements [io.Writer].
func (e escaping) Write(p []byte) (int, error) {
	if bytes.IndexFunc(p, hidden) < 0 {
		return e.Writer.Write(p)
	}

	var b bytes.Buffer
	for _, r := range string(p) {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}

	if _, err := e.Writer.Write(b.Bytes()); err != nil {
		return 0, err
	}

	return len(p), nil
}

// hidden reports whether a character of a JSON text must be escaped. The control characters below the blank need not be:
// encoding/json escapes them within strings, and those that are left end its lines. It leaves DEL as it is.
func hidden(r rune) bool { return r > ' ' && !visible(r) }
