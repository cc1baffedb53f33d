package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/topology"
)

// clock is a clock that stands still until pass is called.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

// fixture is a broker with an empty journal.
type fixture struct {
	*bustest.Server
	conn *bus.Conn
	c    *clock
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	f := fixture{Server: bustest.Start(t), c: &clock{time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)}}
	f.conn = f.Connect(t)
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}
	require.NoError(t, topology.Provision(t.Context(), f.conn.JS, settings, topology.Everyone))

	return f
}

// open opens the journal as a new leader does.
func (f fixture) open(t *testing.T) *Journal {
	t.Helper()

	pub, err := bus.NewPublisher(f.conn, bus.PublisherConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pub.Close()) })
	j, err := Open(t.Context(), f.conn.JS, pub, f.c.Now, bustest.Logger())
	require.NoError(t, err)

	return j
}

// requireSame compares a journal with what another instance reads from the stream.
func (f fixture) requireSame(t *testing.T, j *Journal) {
	t.Helper()
	other := f.open(t)
	require.Equal(t, j.entries, other.entries)
	require.Equal(t, j.findings, other.findings)
	require.Equal(t, j.comparison, other.comparison)
}

func fresh(t *testing.T) (*Journal, *clock) {
	t.Helper()
	f := newFixture(t)
	j := f.open(t)
	return j, f.c
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
	id := begin(t, j, control.JournalEntry{Kind: control.JobMapping, By: "jane", Text: "why"})
	open := control.JournalEntry{ID: id, Kind: control.JobMapping, By: "jane", Started: c.now, Text: "why"}
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
	f := newFixture(t)
	j := f.open(t)
	ended := begin(t, j, control.JournalEntry{Kind: control.JobPurge})
	require.NoError(t, j.End(ended, Result{Outcome: control.OutcomeFailed, Error: "no"}))
	cut := begin(t, j, control.JournalEntry{Kind: control.JobMapping})

	f.c.pass(time.Hour)

	next := f.open(t) // the stream is as a kill of the first instance leaves it
	got := list(t, next, control.JournalRequest{}).Entries
	require.Len(t, got, 2)
	assert.Equal(t, cut, got[0].ID)
	assert.Equal(t, control.OutcomeInterrupted, got[0].Outcome)
	assert.Equal(t, f.c.now, got[0].Ended)
	assert.Equal(t, control.OutcomeFailed, got[1].Outcome)

	again := begin(t, next, control.JournalEntry{Kind: control.JobMapping})
	require.NoError(t, next.Interrupt())
	assert.Equal(t, control.OutcomeInterrupted, list(t, next, control.JournalRequest{ID: again}).Entries[0].Outcome)
	f.requireSame(t, next)
}

// TestTheBrokersLossIsNoticed checks that the journal in memory stays, and that Lost reports that the stream must be
// recreated.
func TestTheBrokersLossIsNoticed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	j := f.open(t)
	id := begin(t, j, control.JournalEntry{Kind: control.JobPurge})
	require.NoError(t, f.conn.JS.DeleteStream(t.Context(), topology.StreamJournal))
	require.Error(t, j.End(id, Result{Outcome: control.OutcomeOK}))
	require.ErrorContains(t, j.Lost(t.Context()), "write the journal")
	assert.Len(t, list(t, j, control.JournalRequest{}).Entries, 1)
	_, err := Open(t.Context(), f.conn.JS, nil, f.c.Now, bustest.Logger())
	require.ErrorContains(t, err, "open the journal")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, j.Lost(ctx))
}

// TestAMessageThatCannotBeReadIsLeftOut checks that one entry of another version does not make the others unreadable.
func TestAMessageThatCannotBeReadIsLeftOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	begin(t, f.open(t), control.JournalEntry{Kind: control.KindOperator, Ended: f.c.now})
	_, err := f.conn.JS.Publish(t.Context(), topology.JournalEntrySubject("x"), []byte("{"))
	require.NoError(t, err)
	assert.Len(t, list(t, f.open(t), control.JournalRequest{}).Entries, 1)
}

func TestTheSameFailureAgainIsOneEntry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	j, c := f.open(t), f.c
	fail := func(kind, by, text string, again bool) {
		c.pass(time.Minute)

		id := begin(t, j, control.JournalEntry{Kind: kind, By: by})
		require.NoError(t, j.End(id, Result{Outcome: control.OutcomeFailed, Error: text, Again: again, Counts: map[string]int{"users": 1}}))
	}
	fail(control.JobCleanup, "", "503", false)

	first := list(t, j, control.JournalRequest{}).Entries[0]

	fail(control.JobCleanup, "", "503", true)
	fail(control.JobPurge, "", "503", true)
	fail(control.JobCleanup, "", "503", true)
	got := list(t, j, control.JournalRequest{Kind: control.JobCleanup}).Entries
	require.Len(t, got, 1)
	assert.Equal(t, first.ID, got[0].ID)
	assert.Equal(t, first.Started, got[0].Started)
	assert.Equal(t, c.now, got[0].Ended)
	assert.Equal(t, map[string]int{"times": 3, "users": 1}, got[0].Counts)

	fail(control.JobCleanup, "", "403", true)     // another failure
	fail(control.JobCleanup, "", "403", false)    // there was a success in between
	fail(control.JobCleanup, "jane", "403", true) // somebody may look this one up
	fail(control.JobCleanup, "", "403", true)
	assert.Len(t, list(t, j, control.JournalRequest{Kind: control.JobCleanup}).Entries, 5)
	f.requireSame(t, j)
}

func TestListFiltersAndPages(t *testing.T) {
	t.Parallel()

	j, c := fresh(t)
	var ids []string
	for i := range 10 {
		kind := control.JobMapping
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
	f := newFixture(t)
	j, c := f.open(t), f.c
	begin(t, j, control.JournalEntry{Kind: control.KindOperator, Ended: c.now})
	running := begin(t, j, control.JournalEntry{Kind: control.JobMapping})

	c.pass(90 * 24 * time.Hour)
	kept := begin(t, j, control.JournalEntry{Kind: control.KindOperator, Ended: c.now})
	n, err := j.Prune(t.Context(), c.now)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	got := list(t, j, control.JournalRequest{}).Entries
	require.Len(t, got, 2)
	assert.Equal(t, kept, got[0].ID)
	assert.Equal(t, running, got[1].ID, "what is under way is kept")
	require.NoError(t, j.Interrupt())
	f.requireSame(t, j)
}

func TestComparisonIsToldInPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	j, c := f.open(t), f.c
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
	f.requireSame(t, j)
}

func TestFindings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	j := f.open(t)
	assert.Zero(t, j.Findings())

	want := Findings{Users: 3, Without: 1, Ambiguous: map[string][]string{"1": {"a", "b"}}, Alike: [][]string{{"1", "01"}}}
	require.NoError(t, j.SetFindings(want))
	assert.Equal(t, want, j.Findings())
	f.requireSame(t, j)
}

func TestFindingsThatAreTooLongAreCut(t *testing.T) {
	t.Parallel()

	found := Findings{Ambiguous: map[string][]string{}, Alike: [][]string{{"1", "01"}, {strings.Repeat("9", 900)}}}
	for i := range 20 {
		found.Ambiguous[fmt.Sprintf("%03d", i)] = []string{strings.Repeat("a", 40), strings.Repeat("b", 40)}
	}

	all := found.fit(answerBytes)
	assert.Equal(t, found.Ambiguous, all.Ambiguous)
	assert.Equal(t, found.Alike, all.Alike)
	assert.Zero(t, all.Left)

	cut := found.fit(1000)
	assert.Len(t, cut.Ambiguous, 9)
	assert.Equal(t, 13, cut.Left)
}

// TestAWorkerIsForgotten checks that nothing in the journal or its answers names the worker any more, and that
// everything else is unchanged, also when it is read again.
func TestAWorkerIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	bond := erase.Names{Employee: "0007", Users: []string{"j.bond"}}
	j := f.open(t)
	_, err := j.Begin(control.JournalEntry{Kind: control.KindOperator, By: "x", Ended: f.c.now, Started: f.c.now, Text: "worker 0007 replayed"})
	require.NoError(t, err)
	_, err = j.Begin(control.JournalEntry{Kind: control.KindOperator, By: "x", Ended: f.c.now, Started: f.c.now, Text: "all replayed"})
	require.NoError(t, err)
	require.NoError(t, j.SetFindings(Findings{Users: 9, Ambiguous: map[string][]string{"0007": {"a"}, "8": {"b"}}, Alike: [][]string{{"0007", "7"}, {"9", "09"}}}))
	require.NoError(t, j.SetComparison(control.ReconcileAnswer{Users: []control.DifferingUser{{User: "a", Employee: "1"}, {User: "J.Bond", Employee: "0007"}}}))
	answer, err := j.Forget(t.Context(), bond)
	require.NoError(t, err)
	require.Equal(t, 3, answer.Entries)
	require.NotZero(t, answer.Through)

	for _, j := range []*Journal{j, f.open(t)} {
		list, err := j.List(control.JournalRequest{})
		require.NoError(t, err)
		require.Len(t, list.Entries, 2)

		report, err := j.Comparison(0)
		require.NoError(t, err)
		require.Len(t, report.Users, 1)
		require.Equal(t, Findings{Users: 9, Ambiguous: map[string][]string{"8": {"b"}}, Alike: [][]string{{"9", "09"}}}, j.Findings())

		data, err := json.Marshal([]any{list, report})
		require.NoError(t, err)
		require.False(t, bond.MentionedIn(data), "%s", data)
	}

	again, err := j.Forget(t.Context(), bond)
	require.NoError(t, err)
	require.Zero(t, again.Entries)
}

// TestAReportThatComesWhileAWorkerIsForgottenStays checks that what is left of the previous report does not replace
// the new one.
func TestAReportThatComesWhileAWorkerIsForgottenStays(t *testing.T) {
	t.Parallel()

	f := newFixture(t)
	j := f.open(t)
	for i := range 20 {
		require.NoError(t, j.SetFindings(Findings{Ambiguous: map[string][]string{"0007": {"a"}}}))

		forgotten := make(chan error, 1)
		go func() {
			_, err := j.Forget(t.Context(), erase.Names{Employee: "0007"})
			forgotten <- err
		}()

		require.NoError(t, j.SetFindings(Findings{Users: i + 1}))
		require.NoError(t, <-forgotten)
		require.Equal(t, i+1, j.Findings().Users)
	}
}
