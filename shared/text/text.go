// Package text writes for people. Text that others chose (a file's name, an id, AtHoc's words, a certificate's name) is
// shown so that it can neither control a terminal nor pass for a line of the program's own: see [Clean].
package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Clean shows as an escape what is invisible, or is more than one character on its line: control characters, line
// breaks, marks that change the direction of writing, zero-width characters, blanks other than the space, and bytes
// that are not UTF-8.
func Clean(s string) string {
	if clean(s) {
		return s
	}

	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case visible(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}

		i += size
	}

	return b.String()
}

func clean(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !visible(r) }) < 0
}

// braille is the only Braille pattern that shows nothing.
const braille = '\u2800'

// visible reports whether a character shows something or is the space.
func visible(r rune) bool {
	return strconv.IsPrint(r) && r != braille &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Cell makes a text safe for a cell of a CSV file that is opened in a spreadsheet: cleaned, and not a formula.
func Cell(s string) string {
	parts := strings.Split(Clean(s), ";") // with a decimal comma, spreadsheets end cells at ;
	for i, part := range parts {
		if strings.ContainsRune("=+-@＝＋－＠|%", first(strings.TrimLeft(part, ` '"`))) {
			parts[i] = "'" + part
		}
	}

	return strings.Join(parts, ";")
}

func first(s string) rune {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return ' '
	}

	return r
}

// Ago shows how long something has lasted, in the two largest units.
func Ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		if minutes := int(d.Minutes()) % 60; minutes > 0 {
			return fmt.Sprintf("%d h %d min", int(d.Hours()), minutes)
		}
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// Seconds shows a duration given in milliseconds: to a tenth of a second below a minute, else as Ago does.
func Seconds(ms int64) string {
	if d := time.Duration(ms) * time.Millisecond; d >= time.Minute {
		return Ago(d)
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}

// When shows a moment in the machine's zone; a dash for the zero time.
func When(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// Moment shows a moment in a zone and names the zone, so that the hour that autumn repeats is unambiguous; a dash for
// the zero time.
func Moment(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}

// Count shows a number of things: 1 file, 2 files.
func Count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Times shows how often something happened: once, 2 times.
func Times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Short returns the beginning of an id, enough to identify it.
func Short(id string) string { return id[:min(len(id), 12)] }

// Dash returns a dash for an empty text.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
