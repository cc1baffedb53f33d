package web

// What was done and when, and who ordered what.

import (
	"cmp"

	"bobosync/shared/audit"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// maxEntries is how many of the latest entries are shown.
const maxEntries = 500

func journalSubs(q *Request, here string) []Link {
	links := []Link{{Text: "What was done", Href: "/journal", Here: here == "/journal"}, {Text: "Report", Href: "/report", Here: here == "/report"}}
	if q.operator() {
		links = append(links, Link{Text: "Orders", Href: "/audit", Here: here == "/audit"})
	}

	return links
}

func journalPage(q *Request) (*Page, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	kind := q.url.Query().Get("kind")

	entries, failed, err := client.Journal(q.ctx, conn, client.JournalQuery{Kind: kind, Most: maxEntries})
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Journal", Subs: journalSubs(q, "/journal")}
	for _, err := range failed {
		p.Level, p.Intro = verdict.Warning, "Something is missing here: "+text.Clean(err.Error())
	}

	kinds := []Link{{Text: "all", Href: ""}}
	for _, k := range client.JournalKinds {
		kinds = append(kinds, Link{Text: k, Href: k})
	}

	p.Blocks = []Block{{Form: &Form{Action: "/journal", Label: "Text", Name: "q", Value: q.url.Query().Get("q"), Button: "Show", More: []Field{{Label: "Kind", Name: "kind", Value: kind, Options: kinds}}}}}
	t := &Table{Caption: "What was done, the latest first", Columns: columns("Begun", "Took", "Kind", "Outcome", "By", "What"), Empty: "Nothing of that was done, as far as is known."}
	for _, e := range entries {
		t.Rows = append(t.Rows, entryRow(q, e))
	}

	p.Blocks = append(p.Blocks, Block{Table: t})

	return p, nil
}

func entryRow(q *Request, e control.JournalEntry) []Cell {
	took, outcome := "–", words(cmp.Or(e.Outcome, "under way"))
	if !e.Ended.IsZero() {
		took = text.Ago(e.Ended.Sub(e.Started))
	}

	if e.Outcome == control.OutcomeFailed || e.Outcome == control.OutcomeHeld || e.Kind == control.KindVerdict {
		outcome = marked(verdict.Warning, e.Outcome)
	}

	what := client.WhatOf(e)
	if e.Kind == client.KindReplay && !q.operator() {
		what = client.Counts(e.Counts) // its words may name workers
	}

	return []Cell{moment(e.Started, q.now()), words(took), words(e.Kind), outcome, words(cmp.Or(e.By, client.ByClock(e.Kind))), words(what)}
}

// auditPage lists orders as they are recorded; they may name workers.
func auditPage(q *Request) (*Page, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	chains, err := audit.Load(q.ctx, conn.JS)
	if err != nil {
		return nil, err
	}

	orders := audit.Orders(chains.Entries())
	p := &Page{Title: "Orders", Subs: journalSubs(q, "/audit"), Intro: "Each order, as it was recorded before it was followed. bobosync audit verify proves that none was changed."}
	t := &Table{Caption: "Orders, the latest first", Columns: columns("At", "By", "Known by", "From", "Order", "Outcome", "What"), Empty: "Nothing was ordered, as far as the audit goes back."}
	for _, o := range orders[:min(len(orders), maxEntries)] {
		t.Rows = append(t.Rows, []Cell{
			moment(o.At, q.now()), words(text.Dash(o.Caller.String())), words(o.Caller.KnownBy()), words(text.Dash(o.Caller.Host)), words(o.Service + " " + o.Endpoint),
			words(cmp.Or(o.Outcome, "unknown")), words(o.Words()),
		})
	}

	p.Blocks = []Block{{Table: t}}

	return p, nil
}
