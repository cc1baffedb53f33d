package web

// The past: what AtHoc held of a worker, who was on duty, and what was sent for each row of a file. These pages are for
// operators alone, and each question is recorded in the audit; so they do not reload themselves.

import (
	"context"
	"fmt"
	"strings"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

const (
	// pastListed is how many of the things that AtHoc was sent for a worker are listed.
	pastListed = 10
	// pastTimeout is how long a long list may take.
	pastTimeout = time.Minute
)

// atHint says how to write a moment.
func atHint(q *Request) string {
	return "Such as 2026-06-17 03:12 (" + zone(q.now()) + "), or 90m ago as 90m. What counts is when AtHoc answered, not when somebody booked. The audit records who asks."
}

// pastAt returns the moment that the address asks for, which is zero if it names none; wrong says in words why the
// moment cannot be read.
func pastAt(q *Request) (at time.Time, asked, wrong string) {
	asked = strings.TrimSpace(q.url.Query().Get("at"))
	if asked == "" {
		return time.Time{}, "", ""
	}

	at, err := client.PastMoment(asked, q.now().Local())
	if err != nil {
		return time.Time{}, asked, upper(text.Clean(err.Error())) + "."
	}

	return at, asked, ""
}

// personSubs lead to the pages about persons.
func personSubs(here string) []Link {
	return []Link{{Text: "Worker", Href: "/worker", Here: here == "/worker"}, {Text: "On duty", Href: "/onduty", Here: here == "/onduty"}}
}

// workerAt adds to the page what AtHoc held of a worker at a moment.
func workerAt(q *Request, p *Page, worker string, at time.Time) error {
	a, err := askWith[control.PastAnswer](q, q.orders, topology.Resolver, control.WorkerPast, control.PastRequest{
		Text: worker, At: at, Most: pastListed, By: q.who.By(),
	})
	if err != nil {
		return err
	}

	conn, err := q.connection(q.reads)
	if err != nil {
		return err
	}

	names := client.FileNames(q.ctx, conn, a.Files())
	p.Intro = text.Clean(a.Sentence(names, time.Local)) + "."
	if a.State == history.Uncertain {
		p.Level = verdict.Warning
	}

	facts := []Fact{
		{"Employee id", words(text.Dash(a.Employee))}, {"AtHoc user", words(text.Dash(a.User))}, {"As of", moment(a.At, q.now())}, {"AtHoc held", words(string(a.State))},
	}
	if a.Confirmed != nil {
		facts = append(facts, Fact{"Proof", words(a.Confirmed.Words(time.Local))})
	}

	if seen, err := client.LastSeen(q.ctx, conn, a); err == nil && seen != nil {
		facts = append(facts, Fact{"Compared", words(text.Clean(seen.Words(time.Local)))})
	}

	facts = append(facts, Fact{"The history is complete from", moment(a.CompleteFrom, q.now())})
	t := &Table{Plain: true, Caption: "What AtHoc was sent around then, the latest first", Columns: columns("Sent", "Status", "Booked", "Answer", "Answered", "Call", "File", ">Line"), Empty: "Nothing."}
	for _, d := range a.Deliveries {
		t.Rows = append(t.Rows, append([]Cell{moment(d.Sent, q.now()), words(client.OnOrOff(d.On)), moment(d.Booked, q.now())}, answered(q, d, names)...))
	}

	p.Blocks = append(p.Blocks, Block{Facts: facts}, Block{Table: t})

	return nil
}

// bookings adds to the page what a worker had booked by a moment, including what was superseded before anything was
// sent.
func bookings(q *Request, p *Page, worker string, at time.Time) error {
	who, err := askWith[control.WorkerAnswer](q, q.orders, topology.Resolver, control.WorkerShow, control.WorkerRequest{Text: worker})
	if err != nil {
		return err
	}

	conn, err := q.connection(q.orders)
	if err != nil {
		return err
	}

	if at.IsZero() {
		at = q.now()
	}

	b, err := client.Bookings(q.ctx, conn, who.Employee, at, q.who.By())
	if err != nil {
		return err
	}

	t := &Table{
		Plain: true, Caption: "What was booked, by the files of the day before", Empty: "Nothing.",
		Columns: columns("Booked", "Status", "File came", "File", ">Line", "What became of it"),
	}
	for _, row := range b.Bookings {
		t.Rows = append(t.Rows, []Cell{
			moment(row.At, q.now()), words(client.OnOrOff(row.On)), moment(row.Arrived, q.now()), linked(row.Name, hrefOf(row.File)), number(row.Line), words(text.Dash(row.Text)),
		})
	}

	p.Intro = fmt.Sprintf("%s of worker %s in the files of the day before %s.", upper(text.Count(len(b.Bookings), "booking")), text.Clean(who.Employee), text.Moment(at, time.Local))
	p.Blocks = append(p.Blocks, Block{Table: t})
	if missing := client.BookingsMissing(b); missing != "" {
		p.Blocks = append(p.Blocks, Block{Text: []string{missing + "."}})
	}

	return nil
}

// answered returns the cells of AtHoc's answer, of its call, and of the row that the delivery comes from.
func answered(q *Request, d control.DeliveryAnswer, names map[string]string) []Cell {
	answer := words(d.Outcome)
	if d.Outcome == event.Pending.String() {
		answer = marked(verdict.Warning, "none")
	}

	return []Cell{answer, moment(d.Answered, q.now()), words(text.Dash(d.Call)), {Text: text.Clean(fileName(d.File, names)), Href: hrefOf(d.File)}, number(d.Line)}
}

// onDutyPage lists whom AtHoc held as on duty, now or at a moment.
func onDutyPage(q *Request) (*Page, error) {
	at, asked, wrong := pastAt(q)
	p := &Page{Title: "On duty", Subs: personSubs("/onduty"), Blocks: []Block{{Form: &Form{Action: "/onduty", Label: "As of", Name: "at", Value: asked, Button: "Show", Hint: atHint(q)}}}}
	if wrong != "" {
		p.Intro, p.Level = wrong, verdict.Warning
		return p, nil
	}

	conn, err := q.connection(q.orders)
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(q.ctx, pastTimeout)
	defer cancel()

	a, err := client.OnDuty(ctx, conn, at, q.who.By())
	if err != nil {
		return nil, err
	}

	p.Intro = fmt.Sprintf("%s on duty at %s, as AtHoc was told.", text.Count(a.Total, "user"), text.Moment(a.At, time.Local))
	if a.Uncertain > 0 {
		p.Level = verdict.Warning
		p.Intro += fmt.Sprintf(" Of %d it is uncertain: a call that sent them had no answer, or none yet.", a.Uncertain)
	}

	t := &Table{
		Caption: "On duty", Columns: columns("Employee id", "AtHoc user", "State", "Since", "Answered"), Empty: "Nobody.",
		Note: "The history is complete from " + text.Moment(a.CompleteFrom, time.Local) + " on. What was set in AtHoc by hand is not known here.",
	}
	for _, w := range a.Workers {
		state := words(string(w.State))
		if w.State == history.Uncertain {
			state = marked(verdict.Warning, string(w.State))
		}

		t.Rows = append(t.Rows, []Cell{words(text.Dash(w.Employee)), words(w.User), state, moment(w.Since, q.now()), moment(w.Answered, q.now())})
	}

	p.Blocks = append(p.Blocks, Block{Table: t})

	return p, nil
}

// receiptPage accounts for each row of a file: the call that sent it to AtHoc, or why there was none. It names no
// workers.
func receiptPage(q *Request) (*Page, error) {
	conn, err := q.connection(q.orders)
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(q.ctx, pastTimeout)
	defer cancel()

	f, err := oneFile(ctx, conn, q.id)
	if err != nil {
		return nil, err
	}

	if f.Rows > maxRows {
		return nil, fmt.Errorf("the file has %d rows, which are too many for a page: bobosync files receipt %s --csv lists them", f.Rows, text.Short(f.ID))
	}

	r, err := client.ReceiptOf(ctx, conn, f, q.who.By())
	if err != nil {
		return nil, err
	}

	p := &Page{
		Title: "Receipt of " + text.Clean(f.Name), Subs: []Link{{Text: "The file", Href: hrefOf(f.ID)}, {Text: "All files", Href: "/files"}},
		Intro: text.Count(len(r.Rows), "row") + ": the call that sent it to AtHoc and its answer, or why there was none. The audit records who asks.",
	}
	t := &Table{Caption: "Rows", Columns: columns(">Line", "Outcome", "Sent", "Answer", "Answered", "Call", "Why no call"), Empty: "The file has no rows."}
	for _, row := range r.Rows {
		for _, d := range row.Calls {
			t.Rows = append(t.Rows, append(append([]Cell{number(row.Line), words(row.Outcome), moment(d.Sent, q.now())}, answered(q, d, nil)[:3]...), words("")))
		}

		if len(row.Calls) == 0 {
			none := words("–")
			t.Rows = append(t.Rows, []Cell{number(row.Line), words(row.Outcome), none, none, none, none, words(row.Why)})
		}
	}

	p.Blocks = []Block{{Table: t}}

	return p, nil
}

// oneFile returns the file with that name or id, the latest if there are several.
func oneFile(ctx context.Context, conn *bus.Conn, named string) (control.FileState, error) {
	answer, err := client.AskFiles(ctx, conn, control.FilesRequest{Text: named})
	if err != nil {
		return control.FileState{}, err
	}

	if len(answer.Files) == 0 {
		return control.FileState{}, &notFound{"No such file is known: " + text.Clean(named)}
	}

	return answer.Files[len(answer.Files)-1], nil
}
