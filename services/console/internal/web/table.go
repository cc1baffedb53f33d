package web

// Tables: sorted by links, filtered by the address, shown a part at a time; and the same as CSV and JSON.

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"bobosync/shared/text"
)

// rowsAtOnce is how many rows a page shows.
const rowsAtOnce = 50

// Table is a list of things of one kind.
type Table struct {
	Caption string
	Columns []Column
	Rows    [][]Cell
	// Empty is shown when there are no rows.
	Empty string
	// Note is shown below the table.
	Note string
	// Plain says that the table has no filter, no sort links, no pages, and no CSV or JSON.
	Plain bool

	// What follows is for the template.
	Query    string
	Total    int
	Pages    []Link
	CSV      string
	JSON     string
	Filtered bool
}

// Column is a column's heading; its sort links are made for the template.
type Column struct {
	Title string
	Right bool

	Href  string
	Order string // ascending or descending, if sorted by
}

func columns(titles ...string) []Column {
	all := make([]Column, len(titles))
	for i, title := range titles {
		name, right := strings.CutPrefix(title, ">")
		all[i] = Column{Title: name, Right: right}
	}

	return all
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// arrange filters and sorts the rows as an address asks.
func (t *Table) arrange(q url.Values) {
	if filter := strings.ToLower(strings.TrimSpace(q.Get("q"))); filter != "" && !t.Plain {
		t.Query, t.Filtered = q.Get("q"), true
		t.Rows = slices.DeleteFunc(t.Rows, func(row []Cell) bool {
			return !slices.ContainsFunc(row, func(c Cell) bool { return strings.Contains(strings.ToLower(c.Text), filter) })
		})
	}

	t.Total = len(t.Rows)
	key, down := strings.CutPrefix(q.Get("sort"), "-")

	at := slices.IndexFunc(t.Columns, func(c Column) bool { return slug(c.Title) == key })
	if at < 0 {
		return
	}

	t.Columns[at].Order = "ascending"
	slices.SortStableFunc(t.Rows, func(a, b []Cell) int {
		by := cmp.Or(cmp.Compare(a[at].Number, b[at].Number), cmp.Compare(strings.ToLower(a[at].Text), strings.ToLower(b[at].Text)))
		if down {
			return -by
		}

		return by
	})

	if down {
		t.Columns[at].Order = "descending"
	}
}

// link makes the table's links for a page at an address, and cuts the rows to those of one part.
func (t *Table) link(u *url.URL) {
	q := u.Query()
	for i, c := range t.Columns {
		order := slug(c.Title)
		if c.Order == "ascending" {
			order = "-" + order
		}

		t.Columns[i].Href = with(u.Path, q, "sort", order)
	}

	t.CSV, t.JSON = with(u.Path+".csv", q, "page", ""), with(u.Path+".json", q, "page", "")
	pages := (len(t.Rows) + rowsAtOnce - 1) / rowsAtOnce
	at, _ := strconv.Atoi(q.Get("page"))
	at = max(1, min(at, pages))
	if pages > 1 {
		for _, n := range near(at, pages) {
			t.Pages = append(t.Pages, Link{Text: strconv.Itoa(n), Href: with(u.Path, q, "page", strconv.Itoa(n)), Here: n == at})
		}
	}

	if !t.Plain {
		first := (at - 1) * rowsAtOnce
		t.Rows = t.Rows[min(first, len(t.Rows)):min(first+rowsAtOnce, len(t.Rows))]
	}
}

// near returns the page numbers to offer: the first, the last, and those around the current one.
func near(at, pages int) (all []int) {
	for n := 1; n <= pages; n++ {
		if n == 1 || n == pages || n >= at-2 && n <= at+2 {
			all = append(all, n)
		}
	}

	return all
}

func with(path string, q url.Values, name, value string) string {
	q = url.Values(http.Header(q).Clone())
	q.Del(name)

	if value != "" {
		q.Set(name, value)
	}

	if len(q) == 0 {
		return path
	}

	return path + "?" + q.Encode()
}

func slug(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "_") }

// value returns a cell's content for machines.
func (c Cell) value() string {
	if !c.Time.IsZero() {
		return c.ISO()
	}

	if c.Right {
		return strings.ReplaceAll(c.Text, ",", "")
	}

	return c.Text
}

// writeCSV writes all rows for spreadsheets.
func (t *Table) writeCSV(out *text.Printer) error {
	rows := make([][]string, 0, len(t.Rows)+1)
	head := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = slug(c.Title)
	}

	rows = append(rows, head)
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = c.value()
		}

		rows = append(rows, cells)
	}

	return out.CSV(rows...)
}

// writeJSON writes all rows for scripts: a list of objects, in which all values are texts.
func (t *Table) writeJSON(out *text.Printer) error {
	rows := make([]map[string]string, 0, len(t.Rows)) // not nil, which JSON would write as null
	for _, row := range t.Rows {
		object := map[string]string{}
		for i, c := range row {
			object[slug(t.Columns[i].Title)] = c.value()
		}

		rows = append(rows, object)
	}

	return out.JSON(rows)
}
