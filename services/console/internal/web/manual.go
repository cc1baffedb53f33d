package web

// The documentation as help, which is readable without any other service.

import (
	"bytes"
	"fmt"
	"html/template"
	"regexp"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"

	"bobosync/docs"
)

// chapters lists the pages of the help, in their order.
var chapters = []struct{ name, title string }{
	{"runbook", "Runbook"}, {"commands", "Commands"}, {"glossary", "Glossary"},
}

// manual is the help: pages by name, and sections of the runbook by cause.
type manual struct {
	pages  map[string]template.HTML
	causes map[string]string
}

// loadManual returns the pages, which are rendered once.
var loadManual = sync.OnceValues(renderManual)

func renderManual() (manual, error) {
	m := manual{map[string]template.HTML{}, map[string]string{}}
	md := goldmark.New(goldmark.WithExtensions(extension.Table), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	for _, c := range chapters {
		source, err := docs.Pages.ReadFile(c.name + ".md")
		if err != nil {
			return m, fmt.Errorf("read the help: %w", err)
		}

		var b bytes.Buffer
		if err := md.Convert(source, &b); err != nil {
			return m, fmt.Errorf("render the help: %w", err)
		}

		m.pages[c.name] = template.HTML(local(b.String())) //nolint:gosec // it is made of our own pages, and raw HTML in them is left out
		if c.name == "runbook" {
			m.causes = causesOf(string(source))
		}
	}

	return m, nil
}

var (
	otherPage = regexp.MustCompile(`href="([a-z]+)\.md(#[a-z0-9-]+)?"`)
	outside   = regexp.MustCompile(`<a href="\.\./[^"]*">(.*?)</a>`)
	wideTable = regexp.MustCompile(`<table>`)
)

// local makes links between pages lead to their place in the help. It removes links to other places in the source.
func local(page string) string {
	page = otherPage.ReplaceAllStringFunc(page, func(link string) string {
		m := otherPage.FindStringSubmatch(link)
		for _, c := range chapters {
			if c.name == m[1] {
				return `href="/help/` + m[1] + m[2] + `"`
			}
		}

		return `href="/help"`
	})
	page = outside.ReplaceAllString(page, "$1")

	return wideTable.ReplaceAllString(page, `<table class="manual">`)
}

var (
	causeRow = regexp.MustCompile(`(?m)^\|.*\|([^|]*)\|[^|]*\(#([a-z-]+)\) \|$`)
	causeIn  = regexp.MustCompile("`([a-z_]+)`")
)

// causesOf reads from the runbook's table which section each cause leads to.
func causesOf(runbook string) map[string]string {
	causes := map[string]string{}
	for _, row := range causeRow.FindAllStringSubmatch(runbook, -1) {
		for _, cause := range causeIn.FindAllStringSubmatch(row[1], -1) {
			causes[cause[1]] = "/help/runbook#" + row[2]
		}
	}

	return causes
}

// helpPage shows a chapter or the keys and, without a name, the runbook.
func helpPage(q *Request) (*Page, error) {
	p := &Page{Title: "Help", Subs: []Link{{Text: "Keys", Href: "/help/keys", Here: q.id == "keys"}}}
	for _, c := range chapters {
		p.Subs = append(p.Subs, Link{Text: c.title, Href: "/help/" + c.name, Here: q.id == c.name})
		if c.name == q.id {
			p.Title, p.Blocks = c.title, []Block{{HTML: q.manual.pages[c.name]}}
		}
	}

	switch {
	case q.id == "keys":
		p.Title, p.Blocks = "Keys", []Block{keysBlock()}
	case q.id == "":
		p.Intro = "Something is wrong? The first finding on Now says what to do. The runbook goes on from there."
		p.Blocks = []Block{{HTML: q.manual.pages["runbook"]}}
	case len(p.Blocks) == 0:
		return nil, &notFound{"There is no such page of help: " + strings.Join(strings.Fields(q.id), " ")}
	}

	return p, nil
}

func keysBlock() Block {
	return Block{
		Text: []string{"Everything can be reached with Tab and Enter. These single keys are a shortcut; the switch at the foot of each page turns them off. No order has a key."},
		Table: &Table{
			Plain: true, Caption: "Single keys", Columns: columns("Key", "Does"), Rows: [][]Cell{
				{words("/"), words("goes to the search or filter of the page")}, {words("g n"), words("goes to Now")},
				{words("g d"), words("goes to Decisions")}, {words("c"), words("goes on with the session, when its end is near")}, {words("?"), words("shows this page")},
			},
		},
	}
}
