package event

import (
	"encoding/json"
	"strconv"
	"strings"
)

// This file writes and reads the JSON form of Entries by hand. Entries has one object for each row of each file, so a
// million rows make a million objects; encoding/json takes some ten times as long for them as everything else that is
// done with a row. The form is that of encoding/json, to the byte. Whatever differs from the form that this program
// writes is left to encoding/json.

func (e *Entries) appendJSON(b []byte) []byte {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, int64(e.V), 10)
	b = append(b, `,"file":`...)
	b = appendText(b, e.File)
	if e.Feed != "" {
		b = append(b, `,"feed":`...)
		b = appendText(b, e.Feed)
	}

	b = append(b, `,"order":`...)

	b = strconv.AppendInt(b, e.Sequence, 10)
	b = appendFlag(b, `,"last":true`, e.Last)
	b = appendFlag(b, `,"more":true`, e.More)
	b = appendFlag(b, `,"ahead":true`, e.Ahead)
	b = appendFlag(b, `,"settled":true`, e.Settled)
	if e.Entries == nil {
		return append(b, `,"entries":null}`...)
	}

	b = append(b, `,"entries":[`...)
	for i := range e.Entries {
		if i > 0 {
			b = append(b, ',')
		}

		b = e.Entries[i].appendJSON(b)
	}

	return append(b, `]}`...)
}

func (e *Entry) appendJSON(b []byte) []byte {
	b = append(b, `{"row":`...)

	b = strconv.AppendInt(b, int64(e.Row), 10)
	b = append(b, `,"emp":`...)
	b = appendText(b, e.Employee)
	b = append(b, `,"at":`...)
	b = strconv.AppendInt(b, e.At, 10)
	if e.Rank != 0 {
		b = append(b, `,"rank":`...)
		b = strconv.AppendInt(b, e.Rank, 10)
	}

	if e.On {
		return append(b, `,"on":true}`...)
	}

	return append(b, `,"on":false}`...)
}

func appendFlag(b []byte, text string, set bool) []byte {
	if set {
		return append(b, text...)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain(s[i]) {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(b, quoted...)
		}
	}

	b = append(b, '"')
	b = append(b, s...)

	return append(b, '"')
}

// plain reports whether encoding/json always writes a byte of a text unchanged.
func plain(c byte) bool {
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

// readJSON reads what appendJSON writes. If it returns false, e is unchanged and the payload is something else, or
// damaged. The employee ids share one string as long as the payload: clone those that are kept longer.
func (e *Entries) readJSON(data []byte) bool {
	r := reader{text: string(data)}
	got := Entries{V: int(r.number(`{"v":`)), File: strings.Clone(r.quoted(`,"file":"`))}
	if r.has(`,"feed":"`) {
		got.Feed = strings.Clone(r.quoted(``))
	}

	got.Sequence = r.number(`,"order":`)
	got.Last, got.More, got.Ahead = r.has(`,"last":true`), r.has(`,"more":true`), r.has(`,"ahead":true`)
	got.Settled = r.has(`,"settled":true`)
	r.expect(`,"entries":[`)
	got.Entries = make([]Entry, 0, strings.Count(r.text, `{"row":`))

	for more := !r.bad && !r.has(`]`); more; more = !r.bad && r.has(`,`) {
		entry := Entry{Row: int(r.number(`{"row":`)), Employee: r.quoted(`,"emp":"`), At: r.number(`,"at":`)}
		if r.has(`,"rank":`) {
			entry.Rank = r.number(``)
		}

		if entry.On = r.has(`,"on":true}`); !entry.On {
			r.expect(`,"on":false}`)
		}

		got.Entries = append(got.Entries, entry)
	}

	if len(got.Entries) > 0 {
		r.expect(`]`)
	}

	r.expect(`}`)

	if r.bad || r.at != len(r.text) {
		return false
	}

	*e = got

	return true
}

// reader reads a JSON text of a known form. Once bad is set, it stays set.
type reader struct {
	text string
	at   int
	bad  bool
}

// has skips a text if it comes next, and reports whether it does.
func (r *reader) has(text string) bool {
	if !strings.HasPrefix(r.text[r.at:], text) {
		return false
	}

	r.at += len(text)

	return true
}

func (r *reader) expect(text string) { r.bad = !r.has(text) || r.bad }

// number reads a whole number of at most 18 digits after a text.
func (r *reader) number(after string) int64 {
	r.expect(after)

	negative := r.has(`-`)
	begin := r.at
	n := int64(0)
	for ; r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9'; r.at++ {
		if r.at-begin < 19 {
			n = n*10 + int64(r.text[r.at]-'0')
		}
	}

	digits := r.at - begin

	r.bad = r.bad || digits == 0 || digits > 19 || n < 0 || digits > 1 && r.text[begin] == '0'
	if negative {
		return -n
	}

	return n
}

// quoted reads a text without escapes up to its closing quote. The text must follow after, which ends with the opening
// quote.
func (r *reader) quoted(after string) string {
	r.expect(after)

	begin := r.at
	for r.at < len(r.text) && plain(r.text[r.at]) {
		r.at++
	}

	text := r.text[begin:r.at]
	r.expect(`"`)

	return text
}
