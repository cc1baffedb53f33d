package web

// What BOBO brings compared with what it usually brings, and the mapping of its ids to AtHoc's users.

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func feedSubs(here string) []Link {
	return []Link{{Text: "Feeds", Href: "/feeds", Here: here == "/feeds"}, {Text: "Mapping", Href: "/mapping", Here: here == "/mapping"}}
}

// weekFiles is how many of the latest files the picture of the week is made of.
const weekFiles = 2000

func feedsPage(q *Request) (*Page, error) {
	p := &Page{Title: "Feeds", Subs: feedSubs("/feeds"), Intro: "What has come in this hour, beside what usually comes at this hour of the week."}

	t := &Table{Caption: "Feeds", Columns: columns("Feed", "State", "Last file", ">Rows this hour", ">Files this hour", "Usual rows", "Longest gap", "Muted until"), Empty: "Nobody can tell: ingest does not answer."}
	for _, in := range q.facts().Ingest {
		for _, f := range in.Feeds {
			t.Rows = append(t.Rows, feedRow(q, f))
		}
	}

	p.Blocks = []Block{{Table: t}}

	conn, err := q.connection(q.reads)
	if err != nil {
		return p, nil //nolint:nilerr // the bar says that the broker is away
	}

	answer, err := client.AskFiles(q.ctx, conn, control.FilesRequest{Most: weekFiles})
	if err == nil {
		p.Blocks = append(p.Blocks, Block{Heading: "Rows by hour, the last seven days", HTML: weekStrip(answer.Files, q.now())})
	}

	return p, nil
}

func feedRow(q *Request, f control.FeedState) []Cell {
	state, usual, gap, muted := words(client.FeedWords(f)), "–", "–", Cell{Text: "–"}
	if f.Silent || f.Thin != nil || f.Flood != nil {
		state = marked(verdict.Warning, client.FeedWords(f))
	}

	if f.Usual.Hours > 0 {
		usual, gap = fmt.Sprintf("%d to %d", f.Usual.Least, f.Usual.Most), text.Ago(time.Duration(f.Usual.GapSeconds)*time.Second)
	}

	switch {
	case f.Mute != nil:
		muted = moment(f.Mute.Until, q.now())
	case q.operator():
		muted = linked("mute it", address(pathOrders+"mute", "feed", f.Name))
	}

	return []Cell{words(f.Name), state, moment(f.LastFile, q.now()), number(f.Rows), number(f.Files), words(usual), words(gap), muted}
}

const weekHours = 7 * 24

// weekStrip shows how many rows came in each hour of the last seven days.
func weekStrip(files []control.FileState, now time.Time) template.HTML {
	var hours [weekHours]int
	total, most := 0, 1
	for _, f := range files {
		if at := weekHours - 1 - int(now.Sub(f.FirstSeen).Hours()); at >= 0 && at < weekHours {
			hours[at] += f.Rows
			total += f.Rows
		}
	}

	for _, n := range hours {
		most = max(most, n)
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="strip" role="img" aria-label="%s in seven days, at most %s in an hour" viewBox="0 0 %d 100" preserveAspectRatio="none">`,
		text.Count(total, "row"), count(int64(most)), weekHours)

	for i, n := range hours {
		if n > 0 {
			height := 90 * float64(n) / float64(most)
			fmt.Fprintf(&b, `<rect class="now" x="%d" y="%.1f" width="0.9" height="%.1f"/>`, i, 100-height, height)
		}
	}

	for day := 24; day < weekHours; day += 24 {
		fmt.Fprintf(&b, `<line class="day" x1="%d" x2="%d" y1="96" y2="100" stroke-width="0.2"/>`, day, day)
	}

	what := "No row came"
	if total > 0 {
		what = fmt.Sprintf("%s; the most in an hour: %s", text.Count(total, "row"), count(int64(most)))
	}

	fmt.Fprintf(&b, `</svg><p class="note">From %s to now. %s.</p>`, text.When(now.Add(-weekHours*time.Hour)), what)

	return template.HTML(b.String()) //nolint:gosec // it holds numbers alone
}

// mappingPage shows how old the mapping is. To operators it also shows the doubtful ids, and lets them search the
// mapping.
func mappingPage(q *Request) (*Page, error) {
	r, err := ask[control.MappingReport](q, topology.Janitor, control.MappingShow, control.Nothing{})
	if err != nil {
		return nil, err
	}

	p := &Page{Title: "Mapping", Subs: feedSubs("/mapping"), Intro: fmt.Sprintf("%s in force, which AtHoc's users have.", text.Count(r.Mapped, "employee id"))}
	if r.Snapshot == "" {
		p.Intro, p.Level = "There is no mapping yet: nothing can be sent.", verdict.Problem
	}

	if r.Held != nil {
		p.Blocks = append(p.Blocks, heldMapping(q, *r.Held))
	}

	next := moment(r.Job.Next, q.now())
	if r.Job.Off {
		next = words("never: SYNC_MAPPINGS is off")
	}

	p.Blocks = append(p.Blocks, Block{Form: oneClick(q, "refresh", "Refresh"), Facts: []Fact{
		{"Fetched", moment(r.Taken, q.now())}, {"Refreshed", moment(r.Refreshed, q.now())}, {"Next refresh", next}, {"AtHoc users", number(r.Users)}, {"Without an employee id", number(r.Without)},
		{"Employee ids that several users have", number(len(r.Ambiguous))}, {"Unusable users", number(r.Unusable)},
	}})
	if !q.operator() {
		return p, nil
	}

	return p, mappingPersons(q, p, r)
}

func mappingPersons(q *Request, p *Page, r control.MappingReport) error {
	asked := strings.TrimSpace(q.url.Query().Get("id"))

	t := &Table{Plain: true, Caption: "Employee ids that several users have: none of them gets a duty status until that is corrected in AtHoc", Columns: columns("Employee id", "AtHoc users"), Empty: "There is none."}
	for _, id := range slices.Sorted(maps.Keys(r.Ambiguous)) {
		t.Rows = append(t.Rows, []Cell{words(id), words(strings.Join(r.Ambiguous[id], ", "))})
	}

	p.Blocks = append(p.Blocks, Block{Form: &Form{Action: "/mapping", Label: "Employee id or username", Name: "id", Value: asked, Button: "Search", Search: true}})
	if asked != "" {
		conn, err := q.connection(q.reads)
		if err != nil {
			return err
		}

		pairs, err := client.MappingPairs(q.ctx, conn, control.MappingListRequest{Text: asked})
		if err != nil {
			return err
		}

		found := &Table{Plain: true, Caption: "Found in the mapping", Columns: columns("Employee id", "AtHoc user"), Empty: "Nobody like that is in the mapping."}
		for _, pair := range pairs[:min(len(pairs), rowsAtOnce)] {
			found.Rows = append(found.Rows, []Cell{linked(pair.Employee, address("/worker", "q", pair.Employee)), words(pair.User)})
		}

		p.Blocks = append(p.Blocks, Block{Table: found})
	}

	p.Blocks = append(p.Blocks, Block{Table: t})

	return nil
}
