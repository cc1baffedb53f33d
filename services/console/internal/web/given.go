package web

// The result of an order: a page that stays, made from the audit.

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/audit"
	"bobosync/shared/check"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// givenPage shows the result of an order, as it was recorded.
func givenPage(q *Request) (*Page, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	parts, err := audit.Find(q.ctx, conn.JS, q.id)
	if err != nil || len(parts) == 0 {
		return nil, &notFound{"The audit knows of no such order."}
	}

	first := parts[0]
	p := &Page{Title: "What was ordered", Subs: []Link{{Text: "All orders", Href: "/audit"}}}
	p.Intro, p.Level = outcomeWords(parts)

	facts := []Fact{
		{"Order", words(first.Service + " " + first.Endpoint)}, {"By", words(text.Dash(first.Caller.String()))}, {"Given", moment(first.At, q.now())}, {"Recorded as", words(first.ID)},
	}
	if first.What != nil {
		facts = append(facts, scalars(q, first.What.Request, "once", "by")...)
	}

	p.Blocks = []Block{{Facts: facts}}
	if first.Endpoint == control.Check {
		return checkedPage(q, p, parts), nil
	}

	for _, part := range parts {
		p.Live = p.Live || part.Ended.IsZero() && q.now().Sub(part.At) < orderTimeout
		if part.Answer != nil {
			p.Blocks = append(p.Blocks, answerOf(q, p, part)...)
		}
	}

	return p, nil
}

// outcomeWords says in a sentence whether the order was carried out.
func outcomeWords(parts []audit.Ordered) (string, verdict.Level) {
	for _, part := range parts {
		switch {
		case part.Ended.IsZero():
			return "It was ordered, and is under way: it is not known yet what came of it.", verdict.OK
		case part.Outcome == audit.Refused:
			return "Nothing was done: " + whyNot(part) + ".", verdict.Warning
		case part.Outcome != audit.OK:
			return "It failed: " + whyNot(part) + ".", verdict.Problem
		}
	}

	if n, of := lettersOf(parts); n < of {
		return fmt.Sprintf("Only %d of %d were ordered, and the service has done that; the others stay as they are.", n, of), verdict.Problem
	}

	return "It was ordered, and the service has done it.", verdict.OK
}

// whyNot returns what the service said.
func whyNot(part audit.Ordered) string {
	if part.Answer == nil {
		return "why is not there any more"
	}
	return text.Clean(part.Answer.Error)
}

// lettersOf returns how many dead letters the parts that were ordered are about, and how many the whole order was
// about.
func lettersOf(parts []audit.Ordered) (n, of int) {
	for _, part := range parts {
		var letters control.DeadRequest
		if part.What == nil || part.Endpoint != control.DeadRequeue && part.Endpoint != control.DeadDrop || json.Unmarshal(part.What.Request, &letters) != nil {
			return 0, 0 // the order is about none, or that is not known
		}

		n, of = n+len(letters.IDs), max(of, letters.Of)
	}

	return n, of
}

// answerOf shows what a service answered, and the progress of what it began.
func answerOf(q *Request, p *Page, o audit.Ordered) (blocks []Block) {
	var letters []control.DeadResult
	switch {
	case json.Unmarshal(o.Answer.Result, &letters) == nil && len(letters) > 0:
		return []Block{{Table: letterResults(letters)}}
	case len(o.Answer.Result) > 0:
		if facts := scalars(q, o.Answer.Result, "by", "reason"); len(facts) > 0 {
			blocks = append(blocks, Block{Heading: "The answer", Facts: facts})
		}
	}

	var begun struct{ Entry, ID string }
	_ = json.Unmarshal(o.Answer.Result, &begun) // an answer that is not an object has begun nothing
	switch {
	case begun.Entry != "":
		blocks = append(blocks, goesOn(q, p, begun.Entry))
	case o.Endpoint == control.Replay && begun.ID != "":
		blocks = append(blocks, replayGoesOn(q, p, begun.ID))
	}

	return blocks
}

// checkedPage shows what the services that were asked to check have found, the worst first.
func checkedPage(q *Request, p *Page, parts []audit.Ordered) *Page {
	var all []check.Result
	for _, part := range parts {
		var found []check.Result
		switch {
		case part.Answer == nil:
			p.Live = p.Live || q.now().Sub(part.At) < orderTimeout
		case json.Unmarshal(part.Answer.Result, &found) == nil && len(found) > 0:
			all = append(all, found...)
		default:
			all = append(all, check.NoAnswer(topology.Service(part.Service), errors.New(part.Answer.Error)))
		}
	}

	for _, service := range client.Checked { // a service that is not there has recorded nothing
		if !slices.ContainsFunc(parts, func(o audit.Ordered) bool { return o.Service == string(service) }) {
			all = append(all, check.NoAnswer(service, control.ErrNobody))
		}
	}

	level := map[check.Level]verdict.Level{check.Warning: verdict.Warning, check.Problem: verdict.Problem}
	slices.SortStableFunc(all, func(a, b check.Result) int { return cmp.Compare(level[b.Level], level[a.Level]) })

	t := &Table{Caption: "What the services found", Plain: true, Columns: columns("State", "Service", "Check", "How it is", "What to do")}
	for _, r := range all {
		t.Rows = append(t.Rows, []Cell{marked(level[r.Level], string(r.Level)), words(string(r.Service)), words(r.Check), words(r.Message), words(text.Dash(r.Advice))})
	}

	if len(all) > 0 && !p.Live {
		p.Intro, p.Level = upper(check.Summary(all))+".", level[all[0].Level]
	}

	p.Blocks = append(p.Blocks, Block{Table: t})

	return p
}

func letterResults(letters []control.DeadResult) *Table {
	t := &Table{Plain: true, Caption: "What became of each", Columns: columns("Id", "What")}
	for _, l := range letters {
		did := words(l.Did)
		if l.Error != "" {
			did = marked(verdict.Warning, l.Error)
		}

		t.Rows = append(t.Rows, []Cell{number(l.ID), did})
	}

	return t
}

// goesOn shows how far the janitor has got.
func goesOn(q *Request, p *Page, entry string) Block {
	b := Block{Heading: "How it goes on"}
	answer, err := ask[control.JournalAnswer](q, topology.Janitor, control.Journal, control.JournalRequest{ID: entry, Most: 1})
	if err != nil || len(answer.Entries) == 0 {
		b.Text = []string{"The janitor does not answer; the journal has its end."}
		return b
	}

	e := answer.Entries[0]
	p.Live = p.Live || e.Ended.IsZero()
	outcome := words(cmp.Or(e.Outcome, "under way"))
	if e.Outcome != "" && e.Outcome != control.OutcomeOK {
		outcome = marked(verdict.Warning, e.Outcome)
	}

	b.Facts = []Fact{{"Outcome", outcome}, {"Begun", moment(e.Started, q.now())}, {"Ended", moment(e.Ended, q.now())}, {"What", words(text.Dash(client.WhatOf(e)))}}

	return b
}

func replayGoesOn(q *Request, p *Page, id string) Block {
	b := Block{Heading: "How it goes on", Text: []string{"The resolver does not answer; the list of replays has its end."}}
	all, err := ask[[]control.ReplayState](q, topology.Resolver, control.Replays, control.Nothing{})
	if at := slices.IndexFunc(all, func(r control.ReplayState) bool { return r.ID == id }); err == nil && at >= 0 {
		r := all[at]
		p.Live = p.Live || r.Ended.IsZero()
		b.Text = nil
		b.Facts = []Fact{{"Users", number(r.Users)}, {"Still to be published", number(r.Left)}, {"Ended", moment(r.Ended, q.now())}}
		if r.Ended.IsZero() {
			b.Actions = []Link{{Text: "Stop it", Href: address(pathOrders+"replay-stop", "id", r.ID)}}
		}
	}

	return b
}

// scalars returns the fields of a JSON object that are not objects themselves, except those that but names.
func scalars(q *Request, data json.RawMessage, but ...string) (facts []Fact) {
	var fields map[string]any
	_ = json.Unmarshal(data, &fields) // data that is not an object has no fields
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if slices.Contains(but, name) {
			continue
		}

		var cell Cell
		switch value := fields[name].(type) {
		case string:
			cell = words(text.Dash(value))
			if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
				cell = moment(at, q.now())
			}
		case float64, bool:
			cell = words(fmt.Sprint(value))
		case []any:
			cell = words(fmt.Sprintf("%d: %s", len(value), shorten(strings.Trim(fmt.Sprint(value), "[]"))))
		default:
			continue
		}

		facts = append(facts, Fact{upper(strings.ReplaceAll(name, "_", " ")), cell})
	}

	return facts
}

// shorten cuts a long list.
func shorten(list string) string {
	if len(list) > 200 {
		return list[:200] + "..."
	}
	return list
}
