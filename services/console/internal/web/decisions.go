package web

// What waits for a person: mass changes and a mapping that are held.

import (
	"fmt"
	"maps"
	"slices"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// decisionsPage shows what waits, what happens either way, and what was decided. It names no persons.
func decisionsPage(q *Request) (*Page, error) {
	held, err := ask[control.HeldAnswer](q, topology.Resolver, control.Held, control.Nothing{})
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Decisions", Live: true, Intro: fmt.Sprintf("%s %s on duty, as AtHoc was told.", client.GuardWords(held.GuardState), text.Count(held.OnDuty, "user"))}
	for _, g := range held.Held {
		p.Blocks = append(p.Blocks, heldBlock(q, g))
	}

	for _, j := range q.facts().Janitor {
		if j.Held != nil {
			p.Blocks = append(p.Blocks, heldMapping(q, *j.Held))
		}
	}

	if len(p.Blocks) == 0 {
		p.Blocks = []Block{{Text: []string{"Nothing waits for a decision."}}}
	}

	t := &Table{
		Caption: "Mass changes, those that wait first", Empty: "There was none within 30 days.",
		Columns: columns("Id", "Since", ">Users", "What", "Decision", "By", "Reason"),
	}
	for _, g := range append(held.Held, held.Decided...) {
		id, decision := words(g.ID), words(g.Decision)
		if ways := q.mayOrder(auth.Approver, "rejected: take in after all", "take-in", "id", g.ID); g.Decision == "rejected" && ways != nil {
			decision = linked(ways[0].Text, ways[0].Href)
		}

		if q.operator() && g.Decision == "" {
			id = linked(g.ID, "/decisions/"+g.ID)
		}

		if g.Decision == "" {
			decision = marked(verdict.Warning, "waits")
		}

		t.Rows = append(t.Rows, []Cell{id, moment(g.Since, q.now()), number(g.Users), words(client.HeldKind(g.Kind)), decision, words(g.By), words(g.Reason)})
	}

	p.Blocks = append(p.Blocks, Block{Table: t})

	return p, nil
}

func heldBlock(q *Request, g control.HeldGroup) Block {
	b := Block{Heading: fmt.Sprintf("%s would %s", text.Count(g.Users, "user"), client.WouldWords(g.Kind)), Facts: []Fact{
		{"Waits since", moment(g.Since, q.now())}, {"Last one came", moment(g.Last, q.now())},
		{"Usual", words(fmt.Sprintf("at most %d within the window at this hour of the week; %d are allowed, of %d on duty", g.Usual, g.Allowed, g.OnDuty))},
		{"If it is approved", words("AtHoc is sent each of them, unless a newer booking has won meanwhile")},
		{"If it is rejected", words("AtHoc goes on showing what it shows; their rows never count, and their file goes to the failed ones")},
		{"Until then", words("AtHoc goes on showing what it shows of them; all others go on")},
	}}
	if q.operator() {
		b.Facts = append(b.Facts, Fact{"Who", linked("the forecast, and everybody in it", "/decisions/"+g.ID)})
	}

	b.Actions = append(q.mayOrder(auth.Approver, "Approve", "approve", "id", g.ID), q.mayOrder(auth.Approver, "Reject", "reject", "id", g.ID)...)

	return b
}

func heldMapping(q *Request, h control.HeldMapping) Block {
	return Block{Heading: "A new mapping is held back", Actions: q.mayOrder(auth.Approver, "Approve", "approve-mapping"), Facts: []Fact{
		{"Why", words(h.Reason)}, {"Waits since", moment(h.Since, q.now())}, {"AtHoc last gave the same", moment(h.Seen, q.now())},
		{"If it is approved", words(fmt.Sprintf("%d employee ids instead of %d: %d added, %d changed, %d removed", h.After, h.Before, h.Added, h.Changed, h.Removed))},
		{"Until then", words("the previous mapping stays in force")}, {"More", linked("the mapping", "/mapping")},
	}}
}

// decisionPage shows what an approval of a mass change leads to, and whom it affects.
func decisionPage(q *Request) (*Page, error) {
	conn, err := q.connection(q.orders)
	if err != nil {
		return nil, err
	}

	set, err := client.HeldSet(q.ctx, conn, q.id)
	if err != nil {
		return nil, err
	}

	names := client.FileNames(q.ctx, conn, slices.Sorted(maps.Keys(set.Files)))
	p := &Page{
		Title: "Decision", Subs: []Link{{Text: "All decisions", Href: "/decisions"}}, Level: verdict.Warning,
		Intro: fmt.Sprintf("%s would %s. On duty: %d now, %d after an approval%s.", text.Count(set.Users, "user"), client.WouldWords(set.Kind), set.OnDutyNow, set.OnDutyAfter, client.UsualWords(set)),
	}
	b := heldBlock(q, set.HeldGroup)
	b.Facts = b.Facts[:len(b.Facts)-1]
	if set.Sent > 0 {
		b.Facts = append(b.Facts, Fact{"Sent before", words(fmt.Sprintf("%d, who stay as they are", set.Sent))})
	}

	b.Facts = append(b.Facts, fromFiles(set, names)...)
	t := &Table{Caption: "Everybody who is held", Columns: columns("Employee id", "AtHoc user", "Booked at", "File", ">Line")}
	for _, w := range set.Workers {
		t.Rows = append(t.Rows, []Cell{words(text.Dash(w.Employee)), words(w.User), moment(w.At, q.now()), words(fileName(w.File, names)), number(w.Row)})
	}

	p.Blocks = []Block{b, {Table: t}}

	return p, nil
}

// fromFiles returns how many of those who are held come from each file.
func fromFiles(set control.HeldSet, names map[string]string) (facts []Fact) {
	for _, file := range slices.Sorted(maps.Keys(set.Files)) {
		facts = append(facts, Fact{"From", words(fmt.Sprintf("%s: %s", fileName(file, names), text.Count(set.Files[file], "user")))})
	}
	return facts
}

// fileName returns a file's name or, if that is unknown, the beginning of its id.
func fileName(id string, names map[string]string) string {
	if name := names[id]; name != "" {
		return name
	}
	return text.Dash(text.Short(id))
}
