package web

// The report of a period, for handing over: one page to print.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

const (
	// maxReported is how many entries of the journal a report goes through, and reportedLines how many of each kind it
	// lists.
	maxReported   = 20_000
	reportedLines = 200
	// longestReport is the longest period of a report, and usualReport the period of a report that does not name one.
	longestReport, usualReport = 35 * 24 * time.Hour, 12 * time.Hour
)

// shifts are the periods that have a name, with their hours on the clock.
var shifts = []struct {
	name       string
	begin, end int
}{{"early", 6, 14}, {"late", 14, 22}, {"night", 22, 6}}

// reportTime returns the period that an address asks for: the latest shift of that name that has begun, or from and to.
func reportTime(shift, from, to string, now time.Time) (begin, end time.Time, err error) {
	for _, s := range shifts {
		if s.name != shift {
			continue
		}

		begin = time.Date(now.Year(), now.Month(), now.Day(), s.begin, 0, 0, 0, now.Location())
		if begin.After(now) {
			begin = begin.AddDate(0, 0, -1)
		}

		end = time.Date(begin.Year(), begin.Month(), begin.Day(), s.end, 0, 0, 0, now.Location())
		if s.end < s.begin {
			end = end.AddDate(0, 0, 1)
		}

		return begin, earlier(end, now), nil
	}

	end = now
	if to != "" {
		if end, err = client.PastMoment(to, now); err != nil {
			return begin, end, err
		}
	}

	end = earlier(end, now)
	begin = end.Add(-usualReport)
	if from != "" {
		if begin, err = client.PastMoment(from, now); err != nil {
			return begin, end, err
		}
	}

	switch {
	case !begin.Before(end):
		return begin, end, fmt.Errorf("the report would end before it begins")
	case end.Sub(begin) > longestReport:
		return begin, end, fmt.Errorf("a report is of %d days at most", longestReport/(24*time.Hour))
	}

	return begin, end, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// reportPage describes a period: when things were not well, files, decisions, orders, and what is open now. It names no
// persons except those who gave orders.
func reportPage(q *Request) (*Page, error) {
	ask := q.url.Query()

	shift, from, to := ask.Get("shift"), strings.TrimSpace(ask.Get("from")), strings.TrimSpace(ask.Get("to"))
	p := &Page{Title: "Report", Subs: journalSubs(q, "/report")}
	for _, one := range shifts {
		p.Subs = append(p.Subs, Link{Text: upper(one.name) + " shift", Href: address("/report", "shift", one.name), Here: shift == one.name})
	}

	form := Block{Form: &Form{
		Action: "/report", Label: "From", Name: "from", Value: from, Button: "Show", More: []Field{{Label: "to", Name: "to", Type: "text", Value: to}},
		Hint: "Such as 2026-06-17 22:00 (" + zone(q.now()) + "), or 12h ago as 12h. It is made to be printed.",
	}}

	begin, end, err := reportTime(shift, from, to, q.now().Local())
	if err != nil {
		p.Intro, p.Level, p.Blocks = upper(text.Clean(err.Error()))+".", verdict.Warning, []Block{form}
		return p, nil
	}

	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	entries, failed, err := client.Journal(q.ctx, conn, client.JournalQuery{Since: begin.Add(-longestReport), Most: maxReported})
	if err != nil {
		return nil, err
	}

	if n := len(entries); n == maxReported && entries[n-1].Started.After(begin) {
		failed = append(failed, fmt.Errorf("a report goes through the latest %d files and entries of the journal, and what began before %s is not among them",
			maxReported, text.Moment(entries[n-1].Started, time.Local)))
	}

	entries = slices.DeleteFunc(entries, func(e control.JournalEntry) bool {
		return e.Started.After(end) || !e.Ended.IsZero() && e.Ended.Before(begin)
	})

	p.Intro = fmt.Sprintf("From %s to %s; made for %s at %s.", text.Moment(begin, time.Local), text.Moment(end, time.Local), text.Clean(q.who.Name), text.Moment(q.now(), time.Local))
	for _, err := range failed {
		p.Level, p.Intro = verdict.Warning, p.Intro+" Something is missing here: "+text.Clean(err.Error())+"."
	}

	p.Blocks = append([]Block{form}, reportBlocks(q, entries, begin, end)...)

	return p, nil
}

// reportBlocks returns the parts of a report.
func reportBlocks(q *Request, entries []control.JournalEntry, begin, end time.Time) []Block {
	ills, files, orders, runs := sorted(entries)

	return []Block{
		{Figures: append([]Figure{illFigure(q, ills, begin, end)}, reportFigures(files, orders)...)},
		{Table: illTable(q, ills)}, {Table: reportTable(q, "Decisions and orders", "Nothing was ordered.", orders)},
		{Table: reportTable(q, "Files that failed, or with rows that were rejected", "There was none.", slices.DeleteFunc(slices.Clone(files), unremarkable))},
		{Table: reportTable(q, "What runs by the clock, and did not succeed", "All of it succeeded.", runs)},
		{Heading: "Open now", Text: openNow(q)},
	}
}

// sorted groups the entries as a report shows them: bad periods, files, orders, and runs that did not succeed.
func sorted(entries []control.JournalEntry) (ills, files, orders, runs []control.JournalEntry) {
	for _, e := range entries {
		switch {
		case e.Kind == control.KindVerdict:
			ills = append(ills, e)
		case e.Kind == client.KindFile:
			files = append(files, e)
		case e.By != "" || e.Kind == control.KindOperator || e.Kind == client.KindReplay:
			orders = append(orders, e)
		case e.Outcome != control.OutcomeOK && !e.Ended.IsZero():
			runs = append(runs, e)
		}
	}

	return ills, files, orders, runs
}

func unremarkable(e control.JournalEntry) bool {
	return e.Outcome != control.OutcomeFailed && e.Counts["rejected"] == 0
}

// notCounted says what a report does not count: a period that was not well is in the journal only once it has ended.
const notCounted = "what lasts still is not counted"

// illFigure says for how long things were not well.
func illFigure(q *Request, ills []control.JournalEntry, begin, end time.Time) Figure {
	var ill time.Duration
	for _, e := range ills {
		ill += earlier(e.Ended, end).Sub(slices.MaxFunc([]time.Time{e.Started, begin}, time.Time.Compare))
	}

	f := Figure{Label: "Not well", Cell: words("never"), Note: text.Times(len(ills))}
	if q.snap.Verdict.Level > verdict.OK {
		f.Cell, f.Note, f.Level = words("now"), f.Note+" before; "+notCounted, verdict.Warning
	}

	if ill > 0 {
		f.Cell, f.Level = words(text.Ago(ill)), verdict.Warning
	}

	return f
}

// reportFigures returns the sums of a report.
func reportFigures(files, orders []control.JournalEntry) []Figure {
	var slowest time.Duration
	rows, failed, done := 0, 0, 0
	for _, e := range files {
		rows += e.Counts["rows"]
		if e.Outcome == control.OutcomeFailed {
			failed++
		}

		if !e.Ended.IsZero() {
			done++
			slowest = max(slowest, e.Ended.Sub(e.Started))
		}
	}

	worst := words("–")
	if done > 0 {
		worst = words(text.Ago(slowest))
	}

	return []Figure{
		{Label: "Files", Cell: number(len(files)), Note: fmt.Sprintf("%d failed", failed)},
		{Label: "Rows", Cell: number(rows)},
		{Label: "The slowest file", Cell: worst, Note: "from its arrival until AtHoc had confirmed all of it"},
		{Label: "Orders", Cell: number(len(orders))},
	}
}

// illTable lists when things were not well. What is not well now is in the verdict at the top of the page.
func illTable(q *Request, ills []control.JournalEntry) *Table {
	t := &Table{Plain: true, Caption: "When the status was not OK for a minute or more", Columns: columns("From", "To", "For", "Status", "What"), Empty: "It always was, as far as the journal shows."}
	if q.snap.Verdict.Level > verdict.OK {
		t.Empty = "Nothing that has ended; " + notCounted + "."
	}

	for _, e := range ills[:min(len(ills), reportedLines)] {
		level := verdict.Warning
		if e.Outcome == strings.ToLower(verdict.Problem.String()) {
			level = verdict.Problem
		}

		t.Rows = append(t.Rows, []Cell{moment(e.Started, q.now()), moment(e.Ended, q.now()), words(text.Ago(e.Ended.Sub(e.Started))), marked(level, strings.ToUpper(e.Outcome)), words(e.Text)})
	}

	return t.cut(len(ills))
}

// reportTable lists entries of one kind.
func reportTable(q *Request, caption, empty string, entries []control.JournalEntry) *Table {
	t := &Table{Plain: true, Caption: caption, Columns: columns("At", "Kind", "Outcome", "By", "What"), Empty: empty}
	for _, e := range entries[:min(len(entries), reportedLines)] {
		row := entryRow(q, e)
		t.Rows = append(t.Rows, []Cell{row[0], row[2], row[3], row[4], row[5]})
	}

	return t.cut(len(entries))
}

// cut notes below the table how many rows are left out.
func (t *Table) cut(all int) *Table {
	if left := all - len(t.Rows); left > 0 {
		t.Note = fmt.Sprintf("and %d earlier ones; the journal has them", left)
	}
	return t
}

// openNow says what is not well now.
func openNow(q *Request) []string {
	lines := []string{cmp.Or(text.Clean(q.snap.Verdict.String()), "–") + "."}
	for _, f := range q.snap.Verdict.Findings {
		lines = append(lines, fmt.Sprintf("%s: %s. Do: %s.", f.Level, text.Clean(f.Text), text.Clean(f.Do)))
	}

	return lines
}
