package web

// A worker: what AtHoc shows, and why. For operators alone.

import (
	"strings"

	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func (s *Site) worker(q *Request) (*Page, error) {
	asked := strings.TrimSpace(q.url.Query().Get("q"))
	at, when, wrong := pastAt(q)
	p := &Page{Title: "Worker", Subs: personSubs("/worker"), Blocks: []Block{{Form: &Form{
		Action: "/worker", Label: "Employee id or AtHoc username", Name: "q", Value: asked, Button: "Show", Search: true,
		More: []Field{{Label: "As of", Name: "at", Type: "text", Value: when}}, Hint: "As of: nothing for now. " + atHint(q),
	}}}}
	switch {
	case wrong != "":
		p.Intro, p.Level = wrong, verdict.Warning
		return p, nil
	case asked == "":
		p.Intro = "What AtHoc shows of somebody, and why; or what it showed at a moment of the past."
		return p, nil
	case !at.IsZero():
		return p, s.workerAt(q, p, asked, at)
	}
	a, err := askWith[control.WorkerAnswer](q, s.orders, topology.Resolver, control.WorkerShow, control.WorkerRequest{Text: asked})
	if err != nil {
		return nil, err
	}
	conn, err := q.connection(s.orders)
	if err != nil {
		return nil, err
	}
	names := client.FileNames(q.ctx, conn, client.FilesOf(a))
	p.Intro = upper(text.Clean(a.Status)) + "."
	p.Blocks = append(p.Blocks, Block{Facts: workerFacts(q, a)}, Block{Table: workerLine(q, a, names)})
	if a.Partial {
		p.Blocks = append(p.Blocks, Block{Text: []string{"Not all entries could be read in time: bookings may be missing here."}})
	}
	return p, nil
}

func workerFacts(q *Request, a control.WorkerAnswer) []Fact {
	all := []Fact{{"Employee id", words(text.Dash(a.Employee))}, {"AtHoc user", words(text.Dash(a.User))}}
	if a.Stale {
		all = append(all, Fact{"Stale", words("the latest booking on is older than AUTO_CLEANUP_HOURS: off duty to AtHoc")})
	}
	if !a.Unsure.IsZero() {
		all = append(all, Fact{"In doubt", moment(a.Unsure, q.now())})
	}
	return all
}

// workerLine is what happened, the latest first: bookings, what was sent, what AtHoc answered.
func workerLine(q *Request, a control.WorkerAnswer, names map[string]string) *Table {
	t := &Table{Plain: true, Caption: "What happened", Columns: columns("What", "When", "Status", "File", ">Line"), Empty: "BOBO has told nothing of this worker."}
	add := func(what string, at Cell, on bool, file string, row int) {
		t.Rows = append(t.Rows, []Cell{words(what), at, words(client.OnOrOff(on)), {Text: text.Clean(fileName(file, names)), Href: hrefOf(file)}, number(row)})
	}
	if c := a.Confirmed; c != nil {
		add("AtHoc answered: "+text.Dash(c.Outcome), moment(c.Answered, q.now()), c.On, c.File, c.Row)
	}
	if c := a.Sent; c != nil {
		add("decided and sent, booked", moment(c.At, q.now()), c.On, c.File, c.Row)
	}
	for _, e := range a.Events {
		add("booked", moment(e.At, q.now()), e.On, e.File, e.Row)
	}
	if len(a.Events) == 0 && a.Latest != nil {
		add("booked", moment(a.Latest.At, q.now()), a.Latest.On, a.Latest.File, a.Latest.Row)
	}
	return t
}

func hrefOf(file string) string {
	if file == "" {
		return ""
	}
	return "/files/" + file
}
