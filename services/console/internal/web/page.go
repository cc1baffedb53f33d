package web

// What a page is made of: blocks of text, figures, findings and tables, from which one template makes HTML, and tables CSV and JSON.

import (
	"html/template"
	"time"

	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// Page is a page without what all pages have.
type Page struct {
	Title string
	// Intro says in a sentence what matters most.
	Intro  string
	Level  verdict.Level
	Blocks []Block
	// Subs lead to the pages beside it.
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

// Block is a part of a page; what is empty is not shown.
type Block struct {
	Heading string
	// Alert is what somebody has to read before he goes on.
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

// Finding is one of the verdict's, with the section of the runbook that goes on from there.
type Finding struct {
	verdict.Finding
	Number int
	Help   string
	// Here leads to the page on which it is fixed, if there is one.
	Here string
}

// Figure is a number that is read from afar.
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

// Line is a line of a card; only one that is not OK has a mark of its own.
type Line struct {
	Text  string
	Note  string
	Level verdict.Level
}

// Fact is a name and what it is.
type Fact struct {
	Name string
	Cell
}

// Link is a link that may be where one is.
type Link struct {
	Text, Href string
	Here       bool
}

// Form asks for one text, in the address; or it is an order's.
type Form struct {
	Action, Label, Name, Value, Button string
	Hint                               string
	// Search says that the key / leads here.
	Search bool
	// More are further fields.
	More []Field
	// Post says that it gives an order, with what is Hidden; it has no text of its own then.
	Post   bool
	Hidden []Field
}

// Field is a further field of a form; one with options is chosen from.
type Field struct {
	Label, Name, Type, Value string
	Options                  []Link
	// Required has to be filled in; Number is typed with digits.
	Required, Number bool
}

// Cell is a text, a number or a moment.
type Cell struct {
	Text string
	// Time, if not zero, is shown with its age before Now.
	Time, Now time.Time
	// Number sorts before the text does; Right aligns it.
	Number float64
	Right  bool
	Href   string
	Level  verdict.Level
	// Choose, if not empty, is what a box beside it chooses.
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

// Age is how long ago the moment was.
func (c Cell) Age() string {
	if d := c.Now.Sub(c.Time); d >= 0 {
		return text.Ago(d)
	}
	return "in " + text.Ago(c.Time.Sub(c.Now))
}

// ISO is the moment for machines.
func (c Cell) ISO() string { return c.Time.UTC().Format(time.RFC3339) }

// count groups a number's digits by three.
func count(n int64) string {
	s := []byte(text.Dash(itoa(n)))
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = append(s[:i], append([]byte{','}, s[i:]...)...)
	}

	return string(s)
}
