package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// event is a valid row.
type event struct {
	at   time.Time
	on   bool
	file int // the first file with this content
	line int
}

// history is all events of a worker, oldest first: the last one wins.
type history struct {
	employee string
	events   []event
	user     *person // nil: AtHoc has nobody with this number
}

// reading is how the auditor reads one file.
type reading struct {
	id       string // SHA-256 of the content
	text     bool
	first    int // the first file with the same content; this one, unless it is a copy
	rows     []int
	rejected map[int]bool
	events   map[int]string // line to employee id
}

const columns = 10

// FileID returns the id of a file: the SHA-256 of its content, in lower-case hex.
func FileID(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// isText reports whether a file can be read at all.
func isText(content []byte) bool { return utf8.Valid(content) && bytes.IndexByte(content, 0) < 0 }

// readFiles reads all files and sorts every worker's events.
func (a *auditor) readFiles() {
	first := map[string]int{}
	for i, f := range a.in.Files {
		r := reading{id: FileID(f.Content), text: isText(f.Content), first: i, rejected: map[int]bool{}, events: map[int]string{}}
		if seen, copied := first[r.id]; copied {
			r.first = seen
		}

		first[r.id] = r.first
		if r.text {
			a.readFile(i, &r)
		}

		a.read = append(a.read, r)
	}

	for _, h := range a.workers {
		slices.SortStableFunc(h.events, compare)
	}
}

func compare(x, y event) int {
	return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.file, y.file), cmp.Compare(x.line, y.line))
}

func (a *auditor) readFile(i int, r *reading) {
	text := strings.TrimPrefix(string(a.in.Files[i].Content), "\ufeff")
	begun := false
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}

		fields := split(line)
		header := !begun && strings.EqualFold(fields[0], "Transaction_Type")
		begun = true

		if header {
			continue
		}

		r.rows = append(r.rows, n+1)
		a.readRow(i, n+1, fields, r)
	}

	if r.first == i {
		a.report.Rows += len(r.rows)
		a.report.Rejected += len(r.rejected)
	}
}

func (a *auditor) readRow(file, line int, fields []string, r *reading) {
	e, ok := a.parse(fields, a.in.Files[file].Appeared)
	if !ok {
		r.rejected[line] = true
		return
	}

	employee := fields[1]

	r.events[line] = employee
	if r.first != file {
		return // a copy adds nothing
	}

	h := a.workers[employee]
	if h == nil {
		h = &history{employee: employee}
		a.workers[employee] = h
	}

	e.file, e.line = file, line
	h.events = append(h.events, e)
}

// parse reads the columns that matter here.
func (a *auditor) parse(fields []string, seen time.Time) (e event, ok bool) {
	if len(fields) != columns || fields[0] != "BON" && fields[0] != "BOF" || fields[1] == "" {
		return e, false
	}

	const layout = "20060102150405"
	if len(fields[5]) != len(layout) || fields[3]+fields[4] != fields[5] {
		return e, false
	}

	at, err := time.ParseInLocation(layout, fields[5], a.in.Rules.BoboZone)
	if err != nil || at.Sub(seen) > a.in.Rules.MaxSkew {
		return e, false
	}

	return event{at: at, on: fields[0] == "BON"}, true
}

// split cuts a line at its commas, except those between double quotes, and strips blanks and quotes from the values.
func split(line string) []string {
	var fields []string
	var field strings.Builder
	quoted := false
	for _, c := range line {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			fields = append(fields, strings.TrimSpace(field.String()))
			field.Reset()
		default:
			field.WriteRune(c)
		}
	}

	return append(fields, strings.TrimSpace(field.String()))
}

// checkDepartures checks that, when a file was gone, every row of it had been settled.
func (a *auditor) checkDepartures() {
	for _, d := range a.in.Departures {
		f, r := a.in.Files[d.File], a.read[d.File]
		for _, line := range r.rows {
			employee, valid := r.events[line]
			if !valid {
				continue
			}

			h := a.workers[employee]
			i := slices.IndexFunc(h.events, func(e event) bool { return e.file == r.first && e.line == line })
			if !a.settled(h, i, d.Gone) {
				about := Finding{Kind: Unconfirmed, File: f.Name, Row: line, User: h.user.Login}
				a.find(about, "the file was gone at %s, and nothing had settled this row of worker %s (%s)",
					clock(d.Gone), employee, a.describe(h.events[i]))
			}
		}
	}
}

// standsFor reports whether same says the same as e, and lies in another file that was still there at a time. Then it
// does not matter which of the two rows is read later: the other file still waits to be settled.
func (a *auditor) standsFor(same, e event, at time.Time) bool {
	if same.file == e.file || !same.at.Equal(e.at) || same.on != e.on || a.in.Files[same.file].Appeared.After(at) {
		return false
	}

	return !slices.ContainsFunc(a.in.Departures, func(d Departure) bool {
		return a.read[d.File].first == same.file && !d.Gone.After(at)
	})
}

// settled reports whether the outcome of the i-th event of a worker can have been final at a time.
func (a *auditor) settled(h *history, i int, at time.Time) bool {
	e := h.events[i]
	switch {
	case h.user == nil || h.user.Removed || h.user.Forbidden || h.user.Mapped.After(at) || a.mappingLost(at):
		return true
	case slices.ContainsFunc(h.events[i+1:], func(newer event) bool { return !a.in.Files[newer.file].Appeared.After(at) }):
		return true
	case a.staleEvent(e, at), a.fate(e).ordered(at, Reject):
		return true
	case slices.ContainsFunc(h.events[:i], func(same event) bool { return a.standsFor(same, e, at) }):
		return true
	}

	held, sure := a.initial(h.user), true // what AtHoc holds, and whether its answer said so
	known := a.in.Files[e.file].Appeared.UnixNano()
	for _, s := range h.user.sends {
		if s.arrived > at.UnixNano() {
			break
		}

		// A permanent refusal settles a row as well.
		if s.arrived >= known && s.value == a.value(e) && (s.confirmed || s.denied) {
			return true
		}

		if s.applied {
			held, sure = s.value, s.confirmed || sure && held == s.value
		}
	}

	return sure && held == a.value(e)
}

func (a *auditor) mappingLost(at time.Time) bool {
	return slices.ContainsFunc(a.in.MappingLost, func(w Window) bool {
		return !at.Before(w.From) && (w.To.IsZero() || !at.After(w.To))
	})
}

// checkKept compares the files that were dropped with those that were kept: each must be kept once, unchanged.
func (a *auditor) checkKept() {
	for _, name := range a.in.Left {
		a.find(Finding{Kind: Stuck, File: name}, "still in the input directory")
	}

	type count struct{ dropped, kept int }
	counts := map[string]*count{}

	get := func(id string) *count {
		if counts[id] == nil {
			counts[id] = &count{}
		}
		return counts[id]
	}
	for _, r := range a.read {
		get(r.id).dropped++
	}

	for _, k := range a.in.Kept {
		id := FileID(k.Content)
		c := get(id)
		c.kept++
		if c.dropped == 0 && !a.in.Loose[id] {
			a.find(Finding{Kind: Unaccounted, File: k.Name}, "kept, but its content was never dropped")
		}

		if text := isText(k.Content); text == k.Failed && !(text && a.mayFail(id)) {
			a.find(Finding{Kind: Failed, File: k.Name}, "readable: %t, and set aside as failed: %t", text, k.Failed)
		}
	}

	left := map[string]bool{}
	for _, name := range a.in.Left {
		left[name] = true
	}

	for i, r := range a.read {
		c := get(r.id)
		if c.dropped != c.kept && r.first == i && !left[a.in.Files[i].Name] {
			a.find(Finding{Kind: Unaccounted, File: a.in.Files[i].Name}, "dropped %d times, kept %d times", c.dropped, c.kept)
		}
	}
}

// settlements are the final outcomes of a row.
var settlements = []string{"applied", "superseded", "expired", "unmapped", "unknown_user", "forbidden_user", "dead", "withheld", "settled_earlier"}

// checkRows compares what the pipeline says about each row with how the auditor reads it, if the pipeline was asked.
func (a *auditor) checkRows() {
	if a.in.Rows == nil {
		return
	}

	for i, r := range a.read {
		if r.first != i || !r.text {
			continue
		}

		said := a.in.Rows[r.id]
		about := Finding{Kind: Unaccounted, File: a.in.Files[i].Name}
		for _, line := range r.rows {
			about.Row = line
			outcome, known := said[line]
			switch {
			case !known:
				a.find(about, "the row has no outcome")
			case r.rejected[line] != (outcome == "rejected"):
				a.find(about, "the row is valid: %t, and its outcome is %q", !r.rejected[line], outcome)
			case outcome != "rejected" && !slices.Contains(settlements, outcome):
				a.find(about, "the row's outcome %q is not a final one", outcome)
			}
		}

		about.Row = 0
		if len(said) > len(r.rows) {
			a.find(about, "%d rows have an outcome, but the file has %d", len(said), len(r.rows))
		}
	}
}
