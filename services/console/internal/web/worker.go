package web

// A worker: what AtHoc shows, and why. For operators alone.

import (
	"regexp"
	"strings"
	"time"

	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func workerPage(q *Request) (*Page, error) {
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
		p.Intro = "What AtHoc shows of a worker, and why; or what it showed at a moment of the past."
		return p, nil
	case q.url.Query().Has("bookings"):
		return p, bookings(q, p, asked, at)
	case !at.IsZero():
		p.Blocks[0].Actions = booked(asked, when)
		return p, workerAt(q, p, asked, at)
	}

	p.Blocks[0].Actions = booked(asked, "")

	a, err := askWith[control.WorkerAnswer](q, q.orders, topology.Resolver, control.WorkerShow, control.WorkerRequest{Text: asked})
	if err != nil {
		return nil, err
	}

	conn, err := q.connection(q.orders)
	if err != nil {
		return nil, err
	}

	names := client.FileNames(q.ctx, conn, client.FilesOf(a))
	p.Intro = upper(text.Clean(inZone(a.Status))) + "."
	p.Blocks = append(p.Blocks, Block{Facts: workerFacts(q, a)}, Block{Table: workerLine(q, a, names)})
	if a.Partial {
		p.Blocks = append(p.Blocks, Block{Text: []string{"Not all entries could be read in time: bookings may be missing here."}})
	}

	return p, nil
}

// momentInUTC matches a moment as services write it in a text.
var momentInUTC = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`)

// inZone converts the moments in a service's text to the zone that the console shows.
func inZone(said string) string {
	return momentInUTC.ReplaceAllStringFunc(said, func(at string) string {
		t, err := time.Parse(time.DateTime+" MST", at)
		if err != nil {
			return at
		}

		return t.Local().Format(time.DateTime)
	})
}

// booked returns a link to what the worker had booked.
func booked(worker, at string) []Link {
	return []Link{{Text: "What was booked, and what became of it", Href: address("/worker", "q", worker, "at", at, "bookings", "1")}}
}

func workerFacts(q *Request, a control.WorkerAnswer) []Fact {
	all := []Fact{{"Employee id", words(text.Dash(a.Employee))}, {"AtHoc user", words(text.Dash(a.User))}}
	if a.Stale {
		all = append(all, Fact{"Stale", words("the latest booking on is older than AUTO_CLEANUP_HOURS: off duty to AtHoc")})
	}

	if !a.InDoubt.IsZero() {
		all = append(all, Fact{"In doubt", moment(a.InDoubt, q.now())})
	}

	return all
}

// workerLine lists what happened, the latest first: bookings, what was sent, what AtHoc answered.
func workerLine(q *Request, a control.WorkerAnswer, names map[string]string) *Table {
	t := &Table{Plain: true, Caption: "What happened", Columns: columns("What", "When", "Status", "File", ">Line"), Empty: "BOBO has sent nothing about this worker."}

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
