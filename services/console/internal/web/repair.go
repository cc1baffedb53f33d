package web

// What can be repaired: dead letters, replays, and users for whom AtHoc holds something else than it should.

import (
	"cmp"
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

func repairSubs(here string) (links []Link) {
	for _, l := range []Link{{Text: "Dead letters", Href: "/dead"}, {Text: "Replays", Href: "/replay"}, {Text: "Comparison", Href: "/reconcile"}} {
		l.Here = l.Href == here
		links = append(links, l)
	}

	return links
}

// deadPage lists dead letters, by reason and one by one. What they hold is not shown.
func deadPage(q *Request) (*Page, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	letters, err := client.DeadLetters(q.ctx, conn.JS)
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Dead letters", Subs: repairSubs("/dead"), Intro: "What could not be processed: " + text.Count(len(letters), "dead letter") + "."}
	t := &Table{Caption: "Dead letters, the latest first", Empty: "There is none.", Columns: columns("Id", "Died", "Service", "Reason", "File", ">Line", ">Tries")}
	for _, l := range slices.Backward(letters) {
		id := number(l.ID)
		if q.operator() {
			id.Choose = itoa(int64(l.ID)) //nolint:gosec // no number is that large
		}

		t.Rows = append(t.Rows, []Cell{
			id, moment(l.Died, q.now()), words(l.Service), words(l.Reason), {Text: text.Dash(text.Short(l.File)), Href: hrefOf(l.File)}, number(l.Row), number(l.Attempts),
		})
	}

	p.Blocks = []Block{{Table: t}}
	if len(letters) > 0 {
		p.Blocks = append(p.Blocks, chosenOrders(q)...)
		p.Blocks = append(p.Blocks, Block{
			Table: byReason(q, letters, q.operator()), Actions: append(q.mayOrder(auth.Operator, "Requeue all", "requeue", "all", "1"), q.mayOrder(auth.Operator, "Drop all", "drop", "all", "1")...),
		})
	}

	return p, nil
}

// chosenOrders offers the orders about the letters whose boxes are ticked.
func chosenOrders(q *Request) []Block {
	if !q.operator() {
		return nil
	}
	return []Block{{HTML: `<form id="choose" class="order" method="get" action="` + pathOrders + `requeue"><button>Requeue those ticked</button> <button formaction="` + pathOrders + `drop">Drop those ticked</button></form>`}}
}

// byReason counts dead letters by their reason, with links to the orders about them if orders is set.
func byReason(q *Request, letters []client.Letter, orders bool) *Table {
	by := map[string][]client.Letter{}
	for _, l := range letters {
		by[l.Reason] = append(by[l.Reason], l)
	}

	t := &Table{Plain: true, Caption: "By reason", Columns: columns("Reason", ">Letters", "Oldest")}
	if orders {
		t.Columns = append(t.Columns, columns("Try again", "Never send")...)
	}

	for _, reason := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(len(by[b])-len(by[a]), cmp.Compare(a, b)) }) {
		of := by[reason]
		row := []Cell{words(reason), number(len(of)), moment(of[0].Died, q.now())}
		if orders {
			n := count(int64(len(of)))
			row = append(row, linked("requeue "+n, address(pathOrders+"requeue", "why", reason)), linked("drop "+n, address(pathOrders+"drop", "why", reason)))
		}

		t.Rows = append(t.Rows, row)
	}

	return t
}

// replaysPage lists the replays and who ordered them. Which workers were chosen is for operators only.
func replaysPage(q *Request) (*Page, error) {
	all, err := ask[[]control.ReplayState](q, topology.Resolver, control.Replays, control.Nothing{})
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Replays", Live: true, Subs: repairSubs("/replay"), Intro: "Sending the latest status of chosen workers again."}

	t := &Table{Caption: "Replays, the latest first", Empty: "There was none.", Columns: columns("Id", "Started", "By", "What", ">Users", ">Left", ">Held", "Ended", "State")}
	for _, r := range all {
		what, state := "chosen workers", words("under way")
		if q.operator() {
			what = r.What
		}

		switch {
		case r.Ended.IsZero() && q.operator():
			state = linked("under way: stop it", address(pathOrders+"replay-stop", "id", r.ID))
		case r.Stopped:
			state = marked(verdict.Warning, "stopped")
		case !r.Ended.IsZero():
			state = words("done")
		}

		t.Rows = append(t.Rows, []Cell{words(r.ID), moment(r.Started, q.now()), words(r.By), words(what), number(r.Users), number(r.Left), number(r.Held), moment(r.Ended, q.now()), state})
	}

	p.Blocks = []Block{{Table: t, Actions: q.mayOrder(auth.Operator, "Replay", "replay")}}

	return p, nil
}

// reconcilePage shows the last comparison. The users that differ are for operators only.
func reconcilePage(q *Request) (*Page, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	r, err := client.LastReport(q.ctx, conn)
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Comparison", Subs: repairSubs("/reconcile"), Intro: comparedWords(r)}
	if r.Differing > 0 {
		p.Level = verdict.Warning
	}

	facts := Block{Actions: q.mayOrder(auth.Operator, "Compare now", "compare"), Facts: []Fact{
		{"Compared", moment(r.Started, q.now())}, {"Ended", moment(r.Ended, q.now())}, {"Users", number(r.Compared)}, {"Differing", number(r.Differing)},
		{"Sent the right status", number(r.Applied)}, {"Unmanaged, left alone", number(r.Unmanaged)},
	}}
	if r.Differing > r.Applied {
		facts.Actions = append(facts.Actions, q.mayOrder(auth.Operator, "Send what differs", "apply")...)
	}

	t := &Table{Caption: "Why users differ", Plain: true, Columns: columns("Why", ">Users"), Empty: "Nobody differs."}
	if q.operator() {
		t = differing(r)
	} else {
		why := map[string]int{}
		for _, u := range r.Users {
			why[u.Why]++
		}

		for _, w := range slices.Sorted(maps.Keys(why)) {
			t.Rows = append(t.Rows, []Cell{words(w), number(why[w])})
		}
	}

	p.Blocks = []Block{facts, {Table: t}}

	return p, nil
}

// differing lists the users that differ.
func differing(r control.ReconcileAnswer) *Table {
	t := &Table{Caption: "Who differs", Columns: columns("User", "Employee id", "AtHoc holds", "It should hold", "Sent", "Why"), Empty: "Nobody differs."}
	for _, u := range r.Users {
		t.Rows = append(t.Rows, []Cell{words(u.User), words(u.Employee), words(orOff(u.Holds)), words(orOff(u.Wanted)), words(yesOrNo(u.Applied)), words(u.Why)})
	}

	return t
}

func comparedWords(r control.ReconcileAnswer) string {
	switch {
	case r.Entry == "":
		return "No comparison has been made yet."
	case r.Differing == 0:
		return fmt.Sprintf("AtHoc holds what it should for all of %s.", text.Count(r.Compared, "user"))
	case r.Held != "":
		return "Held back, nothing was sent: " + text.Clean(r.Held)
	default:
		return fmt.Sprintf("AtHoc holds something else than it should for %d of %s.", r.Differing, text.Count(r.Compared, "user"))
	}
}

func orOff(status string) string { return cmp.Or(status, "off duty") }

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
