package web

// Files: where each is, and what became of its rows.

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

const (
	// maxFiles is how many of the latest files the list covers.
	maxFiles = 500
	// maxRows is how many rows of a file a page lists; the commands list all.
	maxRows = 20_000
)

// errEnough stops the reading of rows.
var errEnough = errors.New("enough rows")

// filesPage lists the files, open ones first, and says why those wait.
func filesPage(q *Request) (*Page, error) {
	open := q.url.Query().Get("open") != ""

	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	answer, err := client.AskFiles(q.ctx, conn, control.FilesRequest{Most: maxFiles, Open: open, Text: q.url.Query().Get("name")})
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Files", Live: true, Intro: waitingWords(q.facts())}
	p.Subs = []Link{{Text: "All", Href: "/files", Here: !open}, {Text: "Open", Href: "/files?open=1", Here: open}}
	t := &Table{
		Caption: "Files, those in work first, the latest first", Empty: "No file is there.",
		Columns: columns("Name", "Status", ">Rows", ">Rejected", ">Pending", "First seen", "Finished", "Why"),
	}

	slices.Reverse(answer.Files)
	slices.SortStableFunc(answer.Files, func(a, b control.FileState) int { return cmp.Compare(done(a), done(b)) })

	for _, f := range answer.Files {
		t.Rows = append(t.Rows, fileRow(q, f))
	}

	if answer.More > 0 {
		t.Note = fmt.Sprintf("%d earlier files are left out; a name in the address finds them: /files?name=monday.csv", answer.More)
	}

	p.Blocks = append(p.Blocks, Block{Table: t})
	if b := unreadable(q, answer); b != nil {
		p.Blocks = append(p.Blocks, *b)
	}

	return p, nil
}

func done(f control.FileState) int {
	if client.Finished(f) {
		return 1
	}
	return 0
}

func waitingWords(f verdict.Facts) string {
	w := waitingFigure(f)
	return upper(w.Note) + "; " + w.Text + " not confirmed by AtHoc yet."
}

func fileRow(q *Request, f control.FileState) []Cell {
	status := marked(fileLevel(f), client.FileStatus(f))
	why := ""
	if !client.Finished(f) {
		why = client.Whereabouts(f, q.snap.Facts, q.snap.Verdict)
	} else if f.Failed {
		why = client.Whereabouts(f, verdict.Facts{}, verdict.Verdict{})
	}

	return []Cell{
		linked(f.Name, "/files/"+f.ID), status, number(f.Rows), number(f.Rejected), number(f.Pending),
		moment(f.FirstSeen, q.now()), moment(f.Finished, q.now()), words(why),
	}
}

func fileLevel(f control.FileState) verdict.Level {
	if f.Failed || f.Problem != "" || f.Blocked != nil {
		return verdict.Warning
	}
	return verdict.OK
}

// unreadable lists what cannot be read in the input directory.
func unreadable(q *Request, a control.FilesAnswer) *Block {
	if len(a.Problems) == 0 {
		return nil
	}

	t := &Table{Plain: true, Caption: "What in the input directory cannot be read", Columns: columns("Name", "Since", "Why")}
	for _, name := range slices.Sorted(maps.Keys(a.Problems)) {
		problem := a.Problems[name]
		t.Rows = append(t.Rows, []Cell{words(name), moment(problem.Since, q.now()), words(problem.Reason)})
	}

	if a.MoreProblems > 0 {
		t.Note = fmt.Sprintf("and %d other names", a.MoreProblems)
	}

	return &Block{Table: t}
}

// filePage shows one file: where it is and why, what became of its rows, and the rows that somebody may have to look
// into.
func filePage(q *Request) (*Page, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	f, err := oneFile(q.ctx, conn, q.id)
	if err != nil {
		return nil, err
	}

	p := &Page{
		Title: text.Clean(f.Name), Live: !client.Finished(f), Level: fileLevel(f), Intro: text.Clean(client.Whereabouts(f, q.snap.Facts, q.snap.Verdict)),
		Subs: []Link{{Text: "All files", Href: "/files"}},
	}
	if q.operator() {
		p.Subs = append(p.Subs, Link{Text: "Receipt", Href: "/receipt/" + f.ID})
	}

	rows, err := fileRows(q, f)
	if err != nil {
		return nil, err
	}

	p.Blocks = []Block{{Heading: "Rows by what became of them", HTML: outcomeBar(f)}, {Table: rows}, {Heading: "The file", Facts: fileFacts(q, f)}, {Table: fileHistory(q, f)}}

	return p, nil
}

// fileRows returns the rows to look into; they can be sent back as CSV.
func fileRows(q *Request, f control.FileState) (*Table, error) {
	t := &Table{
		Caption: "Rows to look after", Columns: columns("File", ">Line", "Outcome", "Reason"), Empty: "No row was rejected or is dead, and AtHoc knows every worker in it.",
		Note: "Values of rows are never shown: look at the line in the file itself. The CSV is made to be sent back to the people who made the file.",
	}

	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	err = client.EachRow(q.ctx, conn, f, q.url.Query().Get("all") != "", func(rows []control.RowState) error {
		for _, r := range rows {
			t.Rows = append(t.Rows, []Cell{words(f.Name), number(r.Line), words(r.Outcome), words(r.Text)})
		}

		if len(t.Rows) >= maxRows {
			return errEnough
		}

		return nil
	})
	if errors.Is(err, errEnough) {
		t.Note, err = fmt.Sprintf("These are the first %d: bobosync files show %s --csv lists all.", len(t.Rows), text.Short(f.ID)), nil
	}

	return t, err
}

func fileFacts(q *Request, f control.FileState) []Fact {
	all := []Fact{
		{"Id", words(f.ID)}, {"Status", words(client.FileStatus(f))}, {"Rows", words(fmt.Sprintf("%s, %d rejected, %d waiting", text.Count(f.Rows, "row"), f.Rejected, f.Pending))},
		{"Size", words(count(f.Size) + " bytes")}, {"First seen", moment(f.FirstSeen, q.now())}, {"Published", moment(f.Published, q.now())}, {"Finished", moment(f.Finished, q.now())},
	}
	if len(f.Paths) > 0 {
		all = append(all, Fact{"Lies in", words(strings.Join(f.Paths, ", "))})
	}

	if f.Blocked != nil {
		all = append(all, Fact{"Cannot be moved", marked(verdict.Warning, f.Blocked.Reason)})
	}

	return all
}

func fileHistory(q *Request, f control.FileState) *Table {
	t := &Table{Plain: true, Caption: "History", Columns: columns("When", "What"), Empty: "Nothing is noted."}
	for _, n := range f.History {
		t.Rows = append(t.Rows, []Cell{moment(n.At, q.now()), words(n.Text)})
	}

	return t
}

// outcomes returns the outcomes of a file's rows, in the order in which a bar shows them.
func outcomes(f control.FileState) (names []string) {
	for _, o := range event.Outcomes() {
		if f.Outcomes[o.String()] > 0 {
			names = append(names, o.String())
		}
	}

	for _, name := range slices.Sorted(maps.Keys(f.Outcomes)) {
		if f.Outcomes[name] > 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}

	return names
}
