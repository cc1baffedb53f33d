package web

// What a page is made of: blocks of text, figures, findings and tables. One template makes HTML of them; tables are
// also available as CSV and JSON.

import (
	"html/template"
	"time"

	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// Page is a page without what all pages share.
type Page struct {
	Title string
	// Intro says in a sentence what matters most.
	Intro  string
	Level  verdict.Level
	Blocks []Block
	// Subs lead to the neighbouring pages.
	Subs []Link
	// Live makes the page keep itself up to date.
	Live bool
}

// table returns the page's first table, or nil.
func (p *Page) table() *Table {
	for _, b := range p.Blocks {
		if b.Table != nil {
			return b.Table
		}
	}

	return nil
}

// Block is a part of a page; empty fields are not shown.
type Block struct {
	Heading string
	// Alert is what a user has to read before going on.
	Alert    string
	Text     []string
	Findings []Finding
	Figures  []Figure
	Cards    []Card
	Facts    []Fact
	Form     *Form
	Table    *Table
	HTML     template.HTML
	// Actions lead to the forms of orders.
	Actions []Link
}

// Finding is a finding of the verdict, with the section of the runbook that goes on from there.
type Finding struct {
	verdict.Finding
	Number int
	Help   string
	// Here leads to the page on which it is fixed, if there is one.
	Here string
}

// Figure is a number that can be read from afar.
type Figure struct {
	Label string
	Cell
	Note  string
	Level verdict.Level
}

// Card is a short list under a heading.
type Card struct {
	Heading string
	Link    string
	Lines   []Line
}

// Line is a line of a card; only a line that is not OK has a mark of its own.
type Line struct {
	Text  string
	Note  string
	Level verdict.Level
}

// Fact is a name and its value.
type Fact struct {
	Name string
	Cell
}

// Link is a link; Here says that it leads to the current page.
type Link struct {
	Text, Href string
	Here       bool
}

// Form asks for one text, which goes into the address, or it gives an order.
type Form struct {
	Action, Label, Name, Value, Button string
	Hint                               string
	// Search says that the key / leads here.
	Search bool
	// More holds further fields.
	More []Field
	// Post says that the form gives an order, with the fields in Hidden; it has no text of its own then.
	Post   bool
	Hidden []Field
}

// Field is a further field of a form; if it has Options, one of them is chosen.
type Field struct {
	Label, Name, Type, Value string
	Options                  []Link
	// Required says that the field has to be filled in; Number, that it takes digits.
	Required, Number bool
}

// Cell is a text, a number or a moment.
type Cell struct {
	Text string
	// Time, if not zero, is shown with its age before Now.
	Time, Now time.Time
	// Number is compared before Text when rows are sorted; Right aligns the cell to the right.
	Number float64
	Right  bool
	Href   string
	Level  verdict.Level
	// Choose, if not empty, is the value of the checkbox next to the cell.
	Choose string
}

func words(s string) Cell { return Cell{Text: text.Clean(s)} }

func number[N int | int64 | uint64](n N) Cell {
	return Cell{Text: text.Clean(count(int64(n))), Number: float64(n), Right: true} //nolint:gosec // no count is that large
}

func moment(t, now time.Time) Cell {
	if t.IsZero() {
		return Cell{Text: "–"}
	}
	return Cell{Text: text.When(t), Time: t, Now: now, Number: float64(t.Unix())}
}

func linked(s, href string) Cell { return Cell{Text: text.Clean(s), Href: href} }

func marked(level verdict.Level, s string) Cell {
	return Cell{Text: text.Clean(s), Level: level, Number: float64(-level)}
}

// Age returns how long ago the moment was.
func (c Cell) Age() string {
	if d := c.Now.Sub(c.Time); d >= 0 {
		return text.Ago(d)
	}
	return "in " + text.Ago(c.Time.Sub(c.Now))
}

// ISO returns the moment for machines, in UTC.
func (c Cell) ISO() string { return c.Time.UTC().Format(time.RFC3339) }

// count groups a number's digits by three.
func count(n int64) string {
	s := []byte(text.Dash(itoa(n)))
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = append(s[:i], append([]byte{','}, s[i:]...)...)
	}

	return string(s)
}
