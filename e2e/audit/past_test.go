package audit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
)

// TestThePast checks that what is said about a moment is compared with the simulator's log. A wrong status, a doubt
// without reason, an answer that is not known, and somebody missing from the list of those on duty are found; what is
// right is not.
func TestThePast(t *testing.T) {
	t.Parallel()

	lost := func(in *audit.Input) { // an update of Ann's has no answer
		again := update(8, 8, sent{"ann@x", ""})
		again.Status, again.Fault = 200, sim.FaultBrokenJSON
		in.Calls = append(in.Calls, again)
		in.Files = append(in.Files, file("d.csv", 7.5, row("BOF", "00001", hour1)))
		in.Departures = append(in.Departures, audit.Departure{File: 5, Gone: at(18)})
		in.Kept = append(in.Kept, audit.Kept{Name: "d.csv", Content: in.Files[5].Content})
		in.Calls = append(in.Calls, update(9, 16, sent{"ann@x", ""}))
		in.Final["ann@x"][duty] = ""
	}
	for name, c := range map[string]struct {
		said  audit.Past
		spoil func(*audit.Input)
		found bool
	}{
		"on duty, as told":                          {said: audit.Past{At: at(3), State: "on", Since: hour2}},
		"on duty since another time":                {said: audit.Past{At: at(3), State: "on", Since: hour1}, found: true},
		"off duty though told on":                   {said: audit.Past{At: at(15), State: "off"}, found: true},
		"before anything was told":                  {said: audit.Past{At: at(1), State: "off"}},
		"unknown before anything was told":          {said: audit.Past{At: at(1), State: "unknown"}},
		"unknown though it was answered":            {said: audit.Past{At: at(15), State: "unknown"}, found: true},
		"unknown of a time before the memory":       {said: audit.Past{At: at(15), State: "unknown", CompleteFrom: at(4)}},
		"uncertain without a reason":                {said: audit.Past{At: at(15), State: "uncertain"}, found: true},
		"uncertain, by a call that never came":      {said: audit.Past{At: at(15), State: "uncertain", Doubts: []time.Time{at(14)}}},
		"uncertain, by a call that was answered":    {said: audit.Past{At: at(15), State: "uncertain", Doubts: []time.Time{at(1.5)}}, found: true},
		"uncertain behind a call without an answer": {said: audit.Past{At: at(12), State: "uncertain"}, spoil: lost},
		"on duty before that call":                  {said: audit.Past{At: at(7), State: "on", Since: hour2}, spoil: lost},
		"on duty behind that call":                  {said: audit.Past{At: at(15), State: "on", Since: hour2}, spoil: lost, found: true},
		"uncertain, the publisher killed after it":  {said: audit.Past{At: at(6), State: "uncertain", Doubts: []time.Time{at(1.5)}}, spoil: func(in *audit.Input) { in.Halted = []time.Time{at(3)} }},
		"uncertain, a publisher killed before it":   {said: audit.Past{At: at(15), State: "uncertain", Doubts: []time.Time{at(1.5)}}, spoil: func(in *audit.Input) { in.Halted = []time.Time{at(1)} }, found: true},
		"uncertain, a publisher killed long after":  {said: audit.Past{At: at(60), State: "uncertain", Doubts: []time.Time{at(1.5)}}, spoil: func(in *audit.Input) { in.Halted = []time.Time{at(50)} }, found: true},
		"missing in the list":                       {said: audit.Past{At: at(15), State: "absent"}, found: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			in := clean()
			if c.spoil != nil {
				c.spoil(&in)
			}

			require.Empty(t, audit.Audit(in).Findings, "the run as such is right")

			c.said.Worker = "00001"
			in.Past = []audit.Past{c.said}
			findings := audit.Audit(in).Findings
			if !c.found {
				require.Empty(t, findings)
				return
			}

			require.Len(t, findings, 1)
			require.Equal(t, audit.Misremembered, findings[0].Kind)
		})
	}
}
