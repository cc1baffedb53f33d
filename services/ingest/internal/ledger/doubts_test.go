package ledger

import (
	"strings"
	"testing"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/shared/event"
)

func TestDoubtfulFiles(t *testing.T) {
	t.Parallel()

	columns, date, applied := Code(bobocsv.Columns), Code(bobocsv.Date), Code(event.Applied)
	for name, c := range map[string]struct {
		v              view
		rows, rejected int // of the other files
		want           string
	}{
		"all good":                  {view{rows: 9, codes: map[Code]int{applied: 9}}, 0, 0, ""},
		"empty":                     {view{}, 100, 0, ""},
		"no good row":               {view{rows: 15, rejected: 15, codes: map[Code]int{columns: 14, date: 1}}, 0, 0, "none of its 15 rows is good; mostly: not ten columns"},
		"no text":                   {view{problem: "not a text"}, 0, 0, "not a text"},
		"a few in a large one":      {view{rows: 1000, rejected: 5, codes: map[Code]int{date: 5, applied: 995}}, 0, 0, ""},
		"many":                      {view{rows: 100, rejected: 40, codes: map[Code]int{date: 40, applied: 60}}, 1000, 10, "40 % of its rows are rejected, 1 % are usual; mostly: column 4"},
		"many, as always":           {view{rows: 100, rejected: 40, codes: map[Code]int{date: 40, applied: 60}}, 1000, 350, ""},
		"few rows":                  {view{rows: 8, rejected: 4, codes: map[Code]int{date: 4, applied: 4}}, 1000, 0, ""},
		"removed before the end":    {view{rows: 9, rejected: 9, codes: map[Code]int{Vanished: 9}}, 0, 0, ""},
		"removed, and bad as well":  {view{rows: 9, rejected: 9, codes: map[Code]int{Vanished: 4, date: 5}}, 100, 0, "56 %"},
		"the first file that comes": {view{rows: 10, rejected: 5, codes: map[Code]int{date: 5, applied: 5}}, 0, 0, "50 % of its rows are rejected, 0 % are usual"},
	} {
		if got := doubt(c.v, c.rows, c.rejected); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestDoubtsFollowTheLedger checks that doubts end after a day or with the record, and that their number is bounded.
func TestDoubtsFollowTheLedger(t *testing.T) {
	t.Parallel()

	d := doubts{recent: map[string]view{}}
	bad := view{status: Moved, name: "bad.csv", finished: noon, rows: 9, rejected: 9, codes: map[Code]int{Code(bobocsv.Columns): 9}}
	d.note("bad", view{}, bad)
	d.note("good", view{}, view{status: Moved, finished: noon, rows: 100, codes: map[Code]int{Code(event.Applied): 100}})

	if got := d.list(noon); len(got) != 1 || got[0].Name != "bad.csv" || got[0].Rows != 9 || got[0].Rejected != 9 || d.rows != 100 {
		t.Errorf("doubtful %+v, usual %d of %d", got, d.rejected, d.rows)
	}

	if got := d.list(noon.Add(doubtTime + 1)); len(got) != 0 {
		t.Errorf("a day later %+v", got)
	}

	d.note("bad", view{}, bad)
	d.note("bad", bad, view{})

	if got := d.list(noon); len(got) != 0 {
		t.Errorf("removed, and %+v", got)
	}

	for i := range maxDoubts + 5 {
		d.note(string(rune(i)), view{}, bad)
	}

	if len(d.recent) != maxDoubts {
		t.Errorf("%d are remembered", len(d.recent))
	}
}
