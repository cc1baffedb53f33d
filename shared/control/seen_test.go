package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatAComparisonSaw: what a comparison saw of a worker, and when it says nothing about the worker.
func TestWhatAComparisonSaw(t *testing.T) {
	t.Parallel()

	at := func(hour, minute int) time.Time { return time.Date(2026, 6, 17, hour, minute, 0, 0, time.UTC) }
	past := PastAnswer{User: "User7", At: at(8, 0), Confirmed: &DeliveryAnswer{On: true, Answered: at(3, 0)}}
	run := JournalEntry{ID: "r", Started: at(4, 0), Ended: at(4, 1), Outcome: OutcomeOK}
	other, him := []DifferingUser{{User: "User8"}}, []DifferingUser{{User: "USER7", Holds: "x"}}
	for name, c := range map[string]struct {
		change    func(p *PastAnswer, r *JournalEntry)
		differing []DifferingUser
		known     bool
		want      *Seen
	}{
		"nobody differs":                            {nil, nil, false, &Seen{At: at(4, 0), Entry: "r", Agreed: true}},
		"somebody else differs":                     {func(_ *PastAnswer, r *JournalEntry) { r.Counts = map[string]int{"differing": 1} }, other, true, &Seen{At: at(4, 0), Entry: "r", Agreed: true}},
		"he differs":                                {func(_ *PastAnswer, r *JournalEntry) { r.Counts = map[string]int{"differing": 1} }, him, true, &Seen{At: at(4, 0), Entry: "r", Holds: "x"}},
		"he differed in another one":                {nil, him, false, &Seen{At: at(4, 0), Entry: "r", Agreed: true}},
		"who differed is not known any more":        {func(_ *PastAnswer, r *JournalEntry) { r.Counts = map[string]int{"differing": 1} }, nil, false, nil},
		"some waited for a decision":                {func(_ *PastAnswer, r *JournalEntry) { r.Counts = map[string]int{"held": 1} }, nil, true, nil},
		"it failed":                                 {func(_ *PastAnswer, r *JournalEntry) { r.Outcome = OutcomeFailed }, nil, true, nil},
		"it is under way":                           {func(_ *PastAnswer, r *JournalEntry) { r.Ended = time.Time{} }, nil, true, nil},
		"it was later":                              {func(p *PastAnswer, _ *JournalEntry) { p.At = at(4, 0) }, nil, true, nil},
		"he was told later":                         {func(p *PastAnswer, _ *JournalEntry) { p.Confirmed = &DeliveryAnswer{Answered: at(5, 0)} }, nil, true, nil},
		"an update of his may have been on its way": {func(p *PastAnswer, _ *JournalEntry) { p.Next = &DeliveryAnswer{Sent: at(4, 5)} }, nil, true, nil},
		"the next one was hours later":              {func(p *PastAnswer, _ *JournalEntry) { p.Next = &DeliveryAnswer{Sent: at(9, 0)} }, nil, true, &Seen{At: at(4, 0), Entry: "r", Agreed: true}},
		"AtHoc had confirmed nothing":               {func(p *PastAnswer, _ *JournalEntry) { p.Confirmed = nil }, nil, true, nil},
		"a call has no answer":                      {func(p *PastAnswer, _ *JournalEntry) { p.Doubts = make([]DeliveryAnswer, 1) }, nil, true, nil},
	} {
		p, r := past, run
		if c.change != nil {
			c.change(&p, &r)
		}

		require.Equal(t, c.want, p.Judge(r, c.differing, c.known), name)
	}

	require.Contains(t, (&Seen{At: at(4, 0), Agreed: true}).Words(time.UTC), "last seen to agree at 2026-06-17 04:00:00 UTC")
	require.Contains(t, (&Seen{At: at(4, 0)}).Words(time.UTC), "off duty at")
	require.Contains(t, (&Seen{At: at(4, 0), Holds: "17/06/2026 01:00"}).Words(time.UTC), "by hand")
}
