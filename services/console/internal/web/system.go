package web

// The processes, what they do by the clock, and what the broker holds.

import (
	"fmt"

	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func systemPage(q *Request) (*Page, error) {
	f := q.facts()
	p := &Page{Title: "System"}

	does := verdict.Activities(f)
	t := &Table{Caption: "Processes", Columns: columns("Service", "Instance", "Version", "Since", "Does"), Empty: "Nobody answers."}
	for i, in := range f.Instances() {
		t.Rows = append(t.Rows, []Cell{words(string(in.Service)), words(in.Name), words(in.Version), moment(in.Started, q.now()), words(does[i])})
	}

	jobs := &Table{Plain: true, Caption: "What is done by the clock", Columns: columns("Job", "Last", "Next", "State"), Empty: "No janitor is the leader."}
	for _, j := range f.Janitor {
		for _, d := range j.Jobs {
			state := words(verdict.JobState(q.now(), d))
			if d.Failures > 0 {
				state = marked(verdict.Warning, verdict.JobState(q.now(), d)+": "+d.Error)
			}

			jobs.Rows = append(jobs.Rows, []Cell{words(d.Name), moment(d.LastSuccess, q.now()), moment(d.Next, q.now()), state})
		}
	}

	p.Blocks = []Block{{Table: t}, {Form: oneClick(q, "check", "Run check")}, {Table: jobs}, {Heading: "The broker and the disk", Facts: systemFacts(f)}}

	return p, nil
}

func systemFacts(f verdict.Facts) []Fact {
	all := []Fact{}
	for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher} {
		all = append(all, Fact{"Messages that wait for " + string(service), number(f.Backlog[service])})
	}

	all = append(all, Fact{"The stream of entries is full to", words(fmt.Sprintf("%.1f %%", 100*f.EntriesFull))}, Fact{"Dead letters", number(f.DeadLetters)})
	for _, s := range f.Ingest {
		all = append(all, Fact{"Free on ingest's disk", words(fmt.Sprintf("%.1f GiB", float64(s.FreeBytes)/(1<<30)))}, Fact{"Today", words(fmt.Sprintf("%s done, %d failed; %s, %d rejected",
			text.Count(s.Today.Done, "file"), s.Today.Failed, text.Count(s.Today.Rows, "row"), s.Today.Rejected))})
	}

	return all
}
