package journal

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/boltdb"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
)

// clock is a clock that stands still until it is told not to.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func open(t *testing.T, path string, c *clock) *Journal {
	t.Helper()
	return Open(path, c.Now, bustest.Logger())
}

func fresh(t *testing.T) (*Journal, *clock) {
	t.Helper()
	c := &clock{time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)}
	j := open(t, filepath.Join(t.TempDir(), "janitor.db"), c)
	t.Cleanup(func() { assert.NoError(t, j.Close()) })
	return j, c
}

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func begin(t *testing.T, j *Journal, e control.JournalEntry) string {
	t.Helper()
	id, err := j.Begin(e)
	require.NoError(t, err)
	return id
}

func list(t *testing.T, j *Journal, req control.JournalRequest) control.JournalAnswer {
	t.Helper()
	answer, err := j.List(req)
	require.NoError(t, err)
	return answer
}

func TestAnEntryFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	j, c := fresh(t)
	id := begin(t, j, control.JournalEntry{Kind: control.DutyMapping, By: "jane", Text: "why"})
	open := control.JournalEntry{ID: id, Kind: control.DutyMapping, By: "jane", Started: c.now, Text: "why"}
	assert.Equal(t, []control.JournalEntry{open}, list(t, j, control.JournalRequest{}).Entries)

	c.pass(time.Minute)
	require.NoError(t, j.End(id, Result{Outcome: control.OutcomeOK, Counts: map[string]int{"users": 3}}))
	open.Ended, open.Outcome, open.Counts = c.now, control.OutcomeOK, map[string]int{"users": 3}
	assert.Equal(t, []control.JournalEntry{open}, list(t, j, control.JournalRequest{ID: id}).Entries)
	require.Error(t, j.End("0190-nonsense", Result{}))
	_, err := j.List(control.JournalRequest{ID: "nonsense"})
	refusal := new(control.Refusal)
	require.ErrorAs(t, err, &refusal)
}

func TestWhatWasUnderWayAtTheEndIsInterrupted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "janitor.db")
	c := &clock{time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)}
	j := open(t, path, c)
	ended := begin(t, j, control.JournalEntry{Kind: control.DutyPurge})
	require.NoError(t, j.End(ended, Result{Outcome: control.OutcomeFailed, Error: "no"}))
	cut := begin(t, j, control.JournalEntry{Kind: control.DutyMapping})
	require.NoError(t, j.opened.Close(), "as a kill leaves it")
	c.pass(time.Hour)

	j = open(t, path, c)
	got := list(t, j, control.JournalRequest{}).Entries
	require.Len(t, got, 2)
	assert.Equal(t, cut, got[0].ID)
	assert.Equal(t, control.OutcomeInterrupted, got[0].Outcome)
	assert.Equal(t, c.now, got[0].Ended)
	assert.Equal(t, control.OutcomeFailed, got[1].Outcome)

	again := begin(t, j, control.JournalEntry{Kind: control.DutyMapping})
	require.NoError(t, j.Close())
	j = open(t, path, c)
	defer func() { assert.NoError(t, j.Close()) }()
	assert.Equal(t, control.OutcomeInterrupted, list(t, j, control.JournalRequest{ID: again}).Entries[0].Outcome)
}

func TestAJournalThatIsHeldByAnotherProcessIsUsedLater(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "janitor.db")
	c := &clock{time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)}
	holder, err := boltdb.Open(path, schemaVersion, bustest.Logger())
	require.NoError(t, err)
	j := open(t, path, c)
	defer func() { assert.NoError(t, j.Close()) }()
	_, err = j.Begin(control.JournalEntry{Kind: control.DutyMapping})
	require.ErrorContains(t, err, "in use by another process")
	require.NoError(t, holder.Close())
	begin(t, j, control.JournalEntry{Kind: control.DutyMapping})
	assert.Len(t, list(t, j, control.JournalRequest{}).Entries, 1)
	require.NoError(t, j.Close())
	_, err = j.List(control.JournalRequest{})
	require.ErrorContains(t, err, "closed")
}

func TestTheSameFailureAgainIsOneEntry(t *testing.T) {
	t.Parallel()
	j, c := fresh(t)
	fail := func(kind, by, text string, again bool) {
		c.pass(time.Minute)
		id := begin(t, j, control.JournalEntry{Kind: kind, By: by})
		require.NoError(t, j.End(id, Result{Outcome: control.OutcomeFailed, Error: text, Again: again, Counts: map[string]int{"users": 1}}))
	}
	fail(control.DutyCleanup, "", "503", false)
	first := list(t, j, control.JournalRequest{}).Entries[0]
	fail(control.DutyCleanup, "", "503", true)
	fail(control.DutyPurge, "", "503", true)
	fail(control.DutyCleanup, "", "503", true)
	got := list(t, j, control.JournalRequest{Kind: control.DutyCleanup}).Entries
	require.Len(t, got, 1)
	assert.Equal(t, first.ID, got[0].ID)
	assert.Equal(t, first.Started, got[0].Started)
	assert.Equal(t, c.now, got[0].Ended)
	assert.Equal(t, map[string]int{"times": 3, "users": 1}, got[0].Counts)

	fail(control.DutyCleanup, "", "403", true)     // another failure
	fail(control.DutyCleanup, "", "403", false)    // there was a success between
	fail(control.DutyCleanup, "jane", "403", true) // somebody may look for this one
	fail(control.DutyCleanup, "", "403", true)
	assert.Len(t, list(t, j, control.JournalRequest{Kind: control.DutyCleanup}).Entries, 5)
}

func TestListFiltersAndPages(t *testing.T) {
	t.Parallel()
	j, c := fresh(t)
	var ids []string
	for i := range 10 {
		kind := control.DutyMapping
		if i%2 == 1 {
			kind = control.KindOperator
		}
		ids = append(ids, begin(t, j, control.JournalEntry{Kind: kind, Ended: c.now, Outcome: control.OutcomeOK}))
		c.pass(time.Hour)
	}
	told := func(a control.JournalAnswer) (out []string) {
		for _, e := range a.Entries {
			out = append(out, e.ID)
		}
		return out
	}
	page := list(t, j, control.JournalRequest{Most: 4})
	assert.Equal(t, []string{ids[9], ids[8], ids[7], ids[6]}, told(page))
	assert.True(t, page.More)
	page = list(t, j, control.JournalRequest{Most: 4, Before: ids[2]})
	assert.Equal(t, []string{ids[1], ids[0]}, told(page))
	assert.False(t, page.More)
	page = list(t, j, control.JournalRequest{Most: 10})
	assert.Len(t, page.Entries, 10)
	assert.False(t, page.More)
	assert.Equal(t, []string{ids[9], ids[7]}, told(list(t, j, control.JournalRequest{Kind: control.KindOperator, Most: 2})))
	assert.Equal(t, []string{ids[9], ids[8]}, told(list(t, j, control.JournalRequest{Since: c.now.Add(-2 * time.Hour)})))
	assert.Empty(t, list(t, j, control.JournalRequest{ID: "0190163d-8694-739b-aea5-966c26f8ad91"}).Entries)
}

func TestAnswersStayBelowTheBrokersLimit(t *testing.T) {
	t.Parallel()
	j, _ := fresh(t)
	long := strings.Repeat("x", 8000)
	for range 150 {
		begin(t, j, control.JournalEntry{Kind: control.KindOperator, Text: long})
	}
	seen, before := 0, ""
	for pages := 1; ; pages++ {
		require.Less(t, pages, 10)
		page := list(t, j, control.JournalRequest{Most: 1000, Before: before})
		assert.LessOrEqual(t, len(page.Entries)*len(long), answerBytes)
		seen += len(page.Entries)
		if !page.More {
			break
		}
		before = page.Entries[len(page.Entries)-1].ID
	}
	assert.Equal(t, 150, seen)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	j, c := fresh(t)
	begin(t, j, control.JournalEntry{Kind: control.KindOperator, Ended: c.now})
	running := begin(t, j, control.JournalEntry{Kind: control.DutyMapping})
	c.pass(90 * 24 * time.Hour)
	kept := begin(t, j, control.JournalEntry{Kind: control.KindOperator, Ended: c.now})
	n, err := j.Prune(c.now)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	got := list(t, j, control.JournalRequest{}).Entries
	require.Len(t, got, 2)
	assert.Equal(t, kept, got[0].ID)
	assert.Equal(t, running, got[1].ID, "what is under way is kept")
}

func TestComparisonIsToldInPages(t *testing.T) {
	t.Parallel()
	j, c := fresh(t)
	none, err := j.Comparison(0)
	require.NoError(t, err)
	assert.Equal(t, control.ReconcileAnswer{Users: []control.DifferingUser{}}, none)

	report := control.ReconcileAnswer{Entry: "e", Started: c.now, Ended: c.now, Compared: 25000, Differing: 9000, Held: "too many"}
	for i := range 9000 {
		report.Users = append(report.Users, control.DifferingUser{
			User: fmt.Sprintf("w%05d@example.org", i), Employee: fmt.Sprint(i), Holds: "17/06/2024 14:30:00", Why: "cleared in AtHoc by hand",
		})
	}
	require.NoError(t, j.SetComparison(report))
	var users []control.DifferingUser
	pages := 0
	for after := 0; ; pages++ {
		require.Less(t, pages, 10)
		page, err := j.Comparison(after)
		require.NoError(t, err)
		assert.Equal(t, 9000, page.Differing)
		assert.Equal(t, "too many", page.Held)
		users = append(users, page.Users...)
		if page.Next == 0 {
			break
		}
		after = page.Next
	}
	assert.Greater(t, pages, 0)
	assert.Equal(t, report.Users, users)

	report.Users = report.Users[:1]
	require.NoError(t, j.SetComparison(report))
	page, err := j.Comparison(0)
	require.NoError(t, err)
	assert.Len(t, page.Users, 1, "nothing of the report before is left")
	assert.Zero(t, page.Next)
	page, err = j.Comparison(5)
	require.NoError(t, err)
	assert.Empty(t, page.Users)
	_, err = j.Comparison(-1)
	require.Error(t, err)
}

func TestFindings(t *testing.T) {
	t.Parallel()
	j, _ := fresh(t)
	f, err := j.Findings()
	require.NoError(t, err)
	assert.Zero(t, f)
	want := Findings{Users: 3, Without: 1, Ambiguous: map[string][]string{"1": {"a", "b"}}, Alike: [][]string{{"1", "01"}}}
	require.NoError(t, j.SetFindings(want))
	f, err = j.Findings()
	require.NoError(t, err)
	assert.Equal(t, want, f)
}
