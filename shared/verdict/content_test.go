package verdict

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
)

// file returns one of the latest files, finished an hour ago.
func file(name string, rows, rejected int, outcomes map[string]int) control.FileState {
	return control.FileState{ID: name + "-0123456789abcdef", Name: name, Status: "moved", Rows: rows, Rejected: rejected, Outcomes: outcomes, Finished: night.Add(-time.Hour)}
}

// TestWhatStandsInFiles: if nothing in a file was of use, or unusually little, the verdict is not OK, whatever happened
// to the rows.
func TestWhatStandsInFiles(t *testing.T) {
	t.Parallel()

	usual := file("usual.csv", 1000, 10, map[string]int{"applied": 990, "columns": 10})
	old := file("old.csv", 5, 5, nil)
	old.Finished = night.Add(-25 * time.Hour)
	for name, c := range map[string]struct {
		files []control.FileState
		cause string
		says  string
	}{
		"nothing came":            {nil, "", ""},
		"as usual":                {[]control.FileState{usual}, "", ""},
		"empty":                   {[]control.FileState{file("empty.csv", 0, 0, nil)}, "", ""},
		"semicolons":              {[]control.FileState{usual, file("x.csv", 15, 15, map[string]int{"columns": 15})}, CauseNoGoodRow, "File x.csv has no row that can be used (15 of 15 rows: 15 columns)"},
		"one row, and bad":        {[]control.FileState{file("x.csv", 1, 1, map[string]int{"future": 1})}, CauseNoGoodRow, "1 of 1 row: 1 future"},
		"most are bad":            {[]control.FileState{file("x.csv", 20, 12, map[string]int{"applied": 8, "columns": 4, "future": 8})}, CauseManyRejected, "12 of 20 rows: 8 future, 4 columns"},
		"far more than usual":     {[]control.FileState{usual, file("x.csv", 100, 12, map[string]int{"applied": 88, "columns": 12})}, CauseManyRejected, "12 of 100 rows"},
		"a tenth, always":         {[]control.FileState{file("a.csv", 100, 12, nil), file("b.csv", 100, 12, nil)}, "", ""},
		"two bad rows of three":   {[]control.FileState{usual, file("x.csv", 3, 2, nil)}, "", ""},
		"nobody knows them":       {[]control.FileState{file("x.csv", 10, 0, map[string]int{"unmapped": 9, "applied": 1})}, CauseManyUnmapped, "(9 of 10 rows)"},
		"nobody may be written":   {[]control.FileState{file("x.csv", 10, 0, map[string]int{"forbidden_user": 8, "unknown_user": 1, "applied": 1})}, CauseManyRefused, "(9 of 10 rows: 8 forbidden_user, 1 unknown_user)"},
		"some may not be written": {[]control.FileState{file("x.csv", 10, 0, map[string]int{"forbidden_user": 4, "applied": 6})}, "", ""},
		"some are not in AtHoc":   {[]control.FileState{file("x.csv", 100, 0, map[string]int{"unmapped": 20, "applied": 80})}, "", ""},
		"of the day before":       {[]control.FileState{old}, "", ""},
		"came again, and well":    {[]control.FileState{file("x.csv", 9, 9, nil), file("x.csv", 9, 0, nil)}, "", ""},
		"came again, and no more": {[]control.FileState{file("x.csv", 9, 0, nil), file("x.csv", 9, 9, nil)}, CauseNoGoodRow, "x.csv"},
		"all too old":             {[]control.FileState{file("x.csv", 9, 1, map[string]int{"expired": 8, "columns": 1})}, CauseNoGoodRow, "(9 of 9 rows: 1 columns, 8 expired)"},
		"a bit of everything": {[]control.FileState{file("x.csv", 10, 4, map[string]int{"columns": 4, "unmapped": 4, "forbidden_user": 1, "unknown_user": 1})}, CauseNoGoodRow,
			"(10 of 10 rows: 4 columns, 4 unmapped, 1 forbidden_user, 1 unknown_user)"},
		"too old or unknown":      {[]control.FileState{usual, file("x.csv", 9, 0, map[string]int{"expired": 4, "unmapped": 4, "dead": 1})}, CauseNoGoodRow, "(9 of 9 rows: 4 expired, 4 unmapped, 1 dead)"},
		"all but one, mixed":      {[]control.FileState{file("x.csv", 10, 4, map[string]int{"columns": 4, "unmapped": 4, "expired": 1, "applied": 1})}, "", ""},
		"all overtaken":           {[]control.FileState{file("x.csv", 10, 0, map[string]int{"superseded": 10})}, "", ""},
		"it is not known yet":     {[]control.FileState{file("x.csv", 10, 4, map[string]int{"columns": 4, "unmapped": 4, "pending": 2})}, "", ""},
		"future, all":             {[]control.FileState{file("x.csv", 5, 5, map[string]int{"future": 5})}, CauseNoGoodRow, "5 of 5 rows: 5 future"},
		"exactly half are bad":    {[]control.FileState{file("x.csv", 10, 5, map[string]int{"columns": 5, "applied": 5})}, CauseManyRejected, "5 of 10 rows"},
		"exactly half are nobody": {[]control.FileState{file("x.csv", 10, 0, map[string]int{"unmapped": 5, "applied": 5})}, CauseManyUnmapped, "5 of 10 rows"},
		"some too old":            {[]control.FileState{file("x.csv", 9, 0, map[string]int{"expired": 8, "applied": 1})}, "", ""},
		"removed before the end": {[]control.FileState{usual, file("x.csv", 1000, 3, map[string]int{"vanished": 3, "applied": 997})}, CauseManyRejected,
			"File x.csv was removed or changed before all of its rows were settled (3 of 1000 rows)"},
		"removed, one row":     {[]control.FileState{file("x.csv", 1, 1, map[string]int{"vanished": 1})}, CauseManyRejected, "was removed or changed before all of its rows were settled (1 of 1 row)"},
		"removed, and written": {[]control.FileState{file("x.csv", 9, 3, map[string]int{"vanished": 3, "applied": 6}), file("x.csv", 9, 0, map[string]int{"applied": 9})}, "", ""},
		"a name that steers":   {[]control.FileState{file("x\x1b[2J\n.csv", 9, 9, nil)}, CauseNoGoodRow, `x\x1b[2J\n.csv`},
	} {
		f := well()

		f.Files = c.files
		v := Judge(f, Limits{})
		if c.cause == "" {
			require.Equal(t, OK, v.Level, "%s: %+v", name, v.Findings)
			continue
		}

		require.Len(t, v.Findings, 1, name)
		require.Equal(t, Warning, v.Level, name)
		require.Equal(t, c.cause, v.Findings[0].Cause, name)
		require.Contains(t, v.Findings[0].Text, c.says, name)
		require.Contains(t, v.Findings[0].Do, "bobosync files show ", name)
	}

	// Files with one booking each: a single one says nothing, many do.
	for cause, says := range map[string]struct{ outcome, text string }{
		CauseManyUnmapped: {"unmapped", "The latest small files are mostly of workers whom no AtHoc user is (8 of 12 rows), File 7.csv for one"},
		CauseManyRefused:  {"forbidden_user", "of users whom AtHoc does not take (8 of 12 rows)"},
		CauseNoGoodRow:    {"expired", "of bookings that were too old when they came (8 of 12 rows)"},
		CauseManyRejected: {"", "of rows that cannot be used (8 of 12 rows)"},
	} {
		f := well()
		for i := range 8 {
			one := file(fmt.Sprintf("%d.csv", i), 1, 0, map[string]int{says.outcome: 1})
			if says.outcome == "" {
				one = file(fmt.Sprintf("%d.csv", i), 2, 1, map[string]int{"columns": 1, "applied": 1})
			}

			f.Files = append(f.Files, one)
		}

		if rest := 12 - 8; says.outcome != "" {
			for range rest {
				f.Files = append(f.Files, file("good.csv", 1, 0, map[string]int{"applied": 1}))
			}

			v := Judge(f, Limits{})
			require.Len(t, v.Findings, 1, cause)
			require.Equal(t, cause, v.Findings[0].Cause)
			require.Contains(t, v.Findings[0].Text, says.text)

			f.Files = f.Files[4:]
			require.Equal(t, OK, Judge(f, Limits{}).Level, "four of eight, %s", cause)

			continue
		}

		require.Equal(t, cause, Judge(f, Limits{}).Findings[0].Cause, "8 of 16 rows")
	}

	// All rows come to nothing, for as many reasons as each file has rows.
	f := well()
	for i := range 6 {
		f.Files = append(f.Files, file(fmt.Sprintf("%d.csv", i), 3, 1, map[string]int{"columns": 1, "unmapped": 1, "expired": 1}))
	}

	v := Judge(f, Limits{})
	require.Len(t, v.Findings, 1)
	require.Equal(t, CauseNoGoodRow, v.Findings[0].Cause)
	require.Contains(t, v.Findings[0].Text, "of rows that came to nothing, for several reasons (18 of 18 rows)")

	for i := range f.Files {
		f.Files[i].Outcomes = map[string]int{"columns": 1, "applied": 1, "expired": 1}
	}

	require.Equal(t, OK, Judge(f, Limits{}).Level, "two of three, for two reasons, but each file has a good row")

	gone := well() // a hundred other files have arrived before anybody looks
	gone.Ingest[0].Doubtful = []control.DoubtfulFile{
		{ID: "x", Name: "x.csv", Rows: 15, Rejected: 15, Finished: night.Add(-3 * time.Hour)}, {ID: "again", Name: "again.csv", Rows: 15, Rejected: 15, Finished: night.Add(-4 * time.Hour)},
		{ID: "part", Name: "part.csv", Rows: 15, Rejected: 9, Finished: night.Add(-4 * time.Hour)}, {ID: "old", Name: "old.csv", Rows: 15, Rejected: 15, Finished: night.Add(-25 * time.Hour)},
	}
	gone.Files = []control.FileState{file("again.csv", 15, 0, nil)}
	findings := Judge(gone, Limits{}).Findings
	require.Len(t, findings, 1)
	require.Equal(t, "File x.csv has no row that can be used (15 of 15 rows)", findings[0].Text)

	many := well()
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		many.Files = append(many.Files, file(name, 5, 5, nil))
	}

	text := Judge(many, Limits{}).Findings[0].Text
	require.Contains(t, text, "File e has no row", "the latest is named first")
	require.Contains(t, text, "2 files more")
	require.NotContains(t, text, "File a")
}
