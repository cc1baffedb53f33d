package web

// The first page: what is wrong and what to do, up to when AtHoc is complete, who is on duty, what waits.

import (
	"fmt"
	"strings"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/breaker"
	"bobosync/shared/client"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func nowPage(q *Request) (*Page, error) {
	f := q.facts()
	p := &Page{Title: "Now", Live: true}
	if found := findingsOf(q); len(found) > 0 {
		p.Blocks = append(p.Blocks, Block{Findings: found})
	}

	if f.At.IsZero() {
		return p, nil // nothing was ever known
	}

	p.Blocks = append(p.Blocks, Block{Figures: figures(q)},
		Block{Cards: []Card{decisionCard(f), feedCard(f), athocCard(f, q.now()), serviceCard(f)}, Actions: sendingOrders(q)})

	return p, nil
}

// sendingOrders returns links to the orders about sending, and to the one that runs the checks.
func sendingOrders(q *Request) []Link {
	orders := q.mayOrder(auth.Operator, "Pause sending to AtHoc", "pause")
	if q.facts().Pause.InForce(q.now()) {
		orders = q.mayOrder(auth.Operator, "End the pause", "resume")
	}

	return append(orders, q.mayOrder(auth.Operator, "Run check", "check")...)
}

// findingsOf returns the verdict's findings, with links to the runbook.
func findingsOf(q *Request) (all []Finding) {
	for i, found := range q.snap.Verdict.Findings {
		found.Text, found.Do = text.Clean(found.Text), text.Clean(found.Do) // not upper: Do may begin with a command
		f := Finding{found, i + 1, q.manual.causes[found.Cause], repairPages[found.Cause]}
		if found.Cause == verdict.CausePaused && !q.operator() {
			f.Here = ""
		}

		all = append(all, f)
	}

	return all
}

// repairPages has, by cause, the page with the orders that fix it.
var repairPages = map[string]string{
	verdict.CausePaused: pathOrders + "resume", verdict.CauseHeld: "/decisions", verdict.CauseMappingHeld: "/mapping", verdict.CauseNoMapping: "/mapping", verdict.CauseMappingOld: "/mapping",
	verdict.CauseDead: "/dead", verdict.CauseFailedFiles: "/files", verdict.CauseSilent: "/feeds", verdict.CauseThin: "/feeds", verdict.CauseFlood: "/feeds",
}

// figures returns what people want to know first when all is well.
func figures(q *Request) (all []Figure) {
	f, v := q.facts(), q.snap.Verdict
	complete := Figure{Label: "AtHoc is complete up to", Cell: Cell{Text: "nobody can tell"}, Level: verdict.Problem}
	if mark := v.CompleteUpTo; !mark.IsZero() {
		complete = Figure{Label: complete.Label, Cell: Cell{Text: clock(mark, q.now())}, Note: behind(f)}
		if verdict.Late(f) {
			complete.Level = v.Level
		}
	}

	all = append(all, complete)
	for _, r := range f.Resolver {
		note := fmt.Sprintf("of %s known workers, %d unmapped", count(int64(r.Workers)), r.Unmapped)
		if r.Guard.Users() > 0 {
			note = "by their newest bookings; " + note
		}

		all = append(all, Figure{Label: "On duty", Cell: number(r.OnDuty), Note: note})
	}

	return append(all, waitingFigure(f), tookFigure(f))
}

// behind says how old the watermark is.
func behind(f verdict.Facts) string {
	for _, s := range f.Ingest {
		if s.Freshness == nil {
			continue
		}

		if s.Freshness.Waiting == 0 {
			return strings.TrimSuffix("nothing waits: that is now; "+verdict.ApartWords(s), "; ")
		}

		return strings.TrimSuffix(fmt.Sprintf("%s ago; the first that waits is %s; %s", text.Ago(s.Freshness.Lag()), text.Clean(s.Freshness.First), verdict.ApartWords(s)), "; ")
	}

	return ""
}

// waitingFigure counts the workers and files that AtHoc has not confirmed yet.
func waitingFigure(f verdict.Facts) Figure {
	w := Figure{Label: "Waiting", Cell: Cell{Text: text.Count(verdict.Waiting(f), "worker")}}
	for _, s := range f.Ingest {
		w.Note = text.Count(s.Waiting, "file") + " in work"
		if s.Waiting > 0 && !s.Oldest.IsZero() {
			w.Note += ", the oldest for " + text.Ago(f.At.Sub(s.Oldest))
		}

		if n := s.Unread; n > 0 {
			w.Note += fmt.Sprintf("; %d not read yet", n)
		}
	}

	return w
}

// tookFigure says how long rows took in the last hour.
func tookFigure(f verdict.Facts) Figure {
	t := Figure{Label: "From file to AtHoc, last hour", Cell: Cell{Text: "–"}, Note: "no row was confirmed in the last hour"}
	for _, s := range f.Ingest {
		if s.Freshness != nil && s.Freshness.Worst != nil {
			fresh := s.Freshness
			t.Text = text.Seconds(fresh.Total.P50)
			t.Note = fmt.Sprintf("half of %s; 95 %% within %s, the slowest %s", text.Count(fresh.Rows, "row"), text.Seconds(fresh.Total.P95), text.Seconds(fresh.Total.Worst))
		}
	}

	return t
}

// clock formats a moment as briefly as possible.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}

	return t.Format("Mon 2 Jan 15:04:05")
}

func decisionCard(f verdict.Facts) Card {
	c := Card{Heading: "Needs a decision", Link: "/decisions"}
	for _, r := range f.Resolver {
		if r.Guard == nil {
			continue
		}

		for _, g := range r.Guard.Held {
			c.Lines = append(c.Lines, Line{Level: verdict.Warning, Text: fmt.Sprintf("mass change: %s", text.Count(g.Users, "user")), Note: "since " + clock(g.Since, f.At)})
		}
	}

	for _, j := range f.Janitor {
		if j.Held != nil {
			c.Lines = append(c.Lines, Line{Level: verdict.Warning, Text: fmt.Sprintf("mapping: %d ids removed", j.Held.Removed), Note: "since " + clock(j.Held.Since, f.At)})
		}
	}

	if len(c.Lines) == 0 {
		c.Lines = []Line{{Text: "nothing"}}
	}

	return c
}

func feedCard(f verdict.Facts) Card {
	c := Card{Heading: "Feeds", Link: "/feeds"}
	for _, s := range f.Ingest {
		for _, feed := range s.Feeds {
			line := Line{Text: text.Clean(feed.Name) + ": " + client.FeedWords(feed), Note: "no file yet"}
			if !feed.LastFile.IsZero() {
				line.Note = "last file " + text.Ago(f.At.Sub(feed.LastFile)) + " ago"
			}

			if feed.Silent || feed.Thin != nil || feed.Flood != nil {
				line.Level = verdict.Warning
			}

			c.Lines = append(c.Lines, line)
		}
	}

	if len(c.Lines) == 0 {
		c.Lines = []Line{{Text: "nobody can tell", Level: verdict.Warning}}
	}

	return c
}

func athocCard(f verdict.Facts, now time.Time) Card {
	what, when, _ := strings.Cut(verdict.AtHocWords(f), "; ")
	line := Line{Text: what, Note: when}
	switch {
	case f.Pause.InForce(now):
		line.Level = verdict.Warning
	case f.Breaker != nil && (f.Breaker.Class == breaker.Refused || f.Breaker.Class == breaker.Outage):
		line.Level = verdict.Problem
	}

	return Card{Heading: "AtHoc", Lines: []Line{line}}
}

func serviceCard(f verdict.Facts) Card {
	c := Card{Heading: "Services", Link: "/system"}
	does, at := verdict.Activities(f), f.Instances()
	for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor} {
		there := 0
		for i, instance := range at {
			if instance.Service == service {
				c.Lines = append(c.Lines, Line{Text: string(service), Note: does[i]})
				there++
			}
		}

		if there == 0 {
			c.Lines = append(c.Lines, Line{Text: string(service), Note: "does not answer", Level: verdict.Problem})
		}
	}

	return c
}

// wallPage is for a screen that everybody can see: it has no names and no buttons.
func wallPage(q *Request) (*Page, error) {
	p := &Page{Title: "Wall", Live: true}
	if !q.facts().At.IsZero() {
		p.Blocks = []Block{{Figures: figures(q)[:min(3, len(figures(q)))]}}
	}

	return p, nil
}
