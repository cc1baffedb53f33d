package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
)

var night = time.Date(2024, 6, 17, 2, 30, 0, 0, time.UTC)

// well are the facts when nothing is wrong.
func well() facts {
	one := control.Instance{Name: "a/1", Version: "v1.2.3", Started: night.Add(-72 * time.Hour)}
	return facts{
		At: night,
		Ingest: []control.IngestState{{
			Instance: one, LastFile: night.Add(-time.Hour), FreeBytes: 50 << 30, Today: control.FileCounts{Done: 3, Rows: 90, Rejected: 2},
		}},
		Resolver:  []control.ResolverState{{Instance: one, Recovered: true, Workers: 100, OnDuty: 10, Snapshot: "s", Mapped: 120}},
		Publisher: []control.PublisherState{{Instance: one, Lanes: []int{1, 3}, LastSuccess: night.Add(-time.Minute)}},
		Janitor: []control.JanitorState{{Instance: one, AtWork: true, Duties: []control.Duty{
			{Name: control.DutyMapping, LastSuccess: night.Add(-6 * time.Hour), Next: night.Add(18 * time.Hour)},
			{Name: control.DutyCleanup, LastSuccess: night.Add(-time.Minute), Next: night.Add(4 * time.Minute)},
		}}},
		Breaker: &breaker.State{},
	}
}

func TestNothingIsWrong(t *testing.T) {
	v := judge(well(), limits{SilentAfter: defaultSilentAfter})
	require.Equal(t, "OK: duty data is fresh", v.String())
	require.Empty(t, v.Findings)
}

// TestEachCauseIsNamed: one thing is wrong, and it is named, with what to do, and nothing else is.
func TestEachCauseIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*facts)
		level level
		cause string
		says  string // what is wrong, or what to do about it
	}{
		"no publisher": {func(f *facts) { f.Publisher = nil }, levelProblem, "no_publisher", "nothing is sent to AtHoc"},
		"no resolver":  {func(f *facts) { f.Resolver = nil }, levelProblem, "no_resolver", "start the resolver"},
		"no ingest":    {func(f *facts) { f.Ingest = nil }, levelProblem, "no_ingest", "no file is read"},
		"no janitor":   {func(f *facts) { f.Janitor = nil }, levelWarning, "no_janitor", "not refreshed"},
		"janitor stands by": {func(f *facts) {
			f.Janitor[0] = control.JanitorState{Instance: f.Janitor[0].Instance}
		}, levelWarning, causeStandby, "none is at work"},
		"stream missing": {func(f *facts) { f.Missing = []string{"stream UPDATES"} }, levelProblem, causeMissing, "stream UPDATES"},
		"not readable":   {func(f *facts) { f.Unread = []string{"stream DEAD: timeout"} }, levelWarning, causeUnread, "stream DEAD"},
		"entries full":   {func(f *facts) { f.EntriesFull = 0.93 }, levelWarning, causeFull, "93 %"},
		"wrong password": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Since: night.Add(-time.Second), Cause: "athoc: get access token: unauthorized (400 Bad Request)"}
		}, levelProblem, causeAtHocRefuses, "check APIUSER, PASSWORD"},
		"locked account": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Since: night.Add(-time.Second), Cause: "athoc: update users: forbidden (403 Forbidden)"}
		}, levelProblem, causeAtHocRefuses, "it is locked"},
		"wrong organisation": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Since: night.Add(-time.Second), Cause: "athoc: update users: not_found (404 Not Found)"}
		}, levelProblem, causeAtHocRefuses, "does not know the address or the organisation"},
		"wrong attribute": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Cause: "AtHoc refuses every user alike (no such attribute): check DUTY_STATUS_FIELD"}
		}, levelProblem, causeAtHocRefuses, "does not take the duty status of anybody"},
		"refused otherwise": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Cause: "something new"}
		}, levelProblem, causeAtHocRefuses, "something new"},
		"athoc hiccup": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-20 * time.Second), ProbeAt: night, Cause: "503"}
		}, levelWarning, causeAtHocDown, "AtHoc is down since"},
		"athoc down": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-10 * time.Minute), ProbeAt: night.Add(time.Second), Cause: "connection refused"}
		}, levelProblem, causeAtHocDown, "(10 min): connection refused"},
		"athoc was down": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-3 * time.Hour), ProbeAt: night.Add(-2 * time.Hour), Cause: "503"}
		}, levelWarning, causeAtHocDown, "nobody has had to call it since"},
		"a probe is under way": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-3 * time.Hour), ProbeAt: night.Add(-2 * time.Hour), ProbeUntil: night.Add(time.Second), Cause: "503"}
		}, levelProblem, causeAtHocDown, "AtHoc is down since"},
		"throttled": {func(f *facts) {
			f.Breaker = &breaker.State{Class: breaker.Throttled, Since: night, Cause: "429", Slow: 0.5}
		}, levelWarning, causeThrottled, "fewer calls"},
		"directory read-only": {func(f *facts) {
			f.Ingest[0].Directories = map[string]string{"PROCESSED_DIRECTORY": "read-only file system"}
		}, levelProblem, causeDirectory, "PROCESSED_DIRECTORY cannot be used: read-only"},
		"disk nearly full": {func(f *facts) { f.Ingest[0].FreeBytes = 500 << 20 }, levelWarning, causeDisk, "500 MiB"},
		"disk full":        {func(f *facts) { f.Ingest[0].FreeBytes = 0 }, levelProblem, causeDisk, "make room"},
		"no mapping":       {func(f *facts) { f.Resolver[0].Snapshot = "" }, levelProblem, causeNoMapping, "mapping refresh"},
		"mapping of old":   {func(f *facts) { f.Janitor[0].Duties[0].LastSuccess = night.Add(-50 * time.Hour) }, levelWarning, causeMappingOld, "2 days ago"},
		"mapping held back": {func(f *facts) {
			f.Janitor[0].Held = &control.HeldMapping{ID: "3fa9c1", Reason: "too many gone", Before: 800, After: 20}
		}, levelWarning, causeMappingHeld, "mapping approve 3fa9c1"},
		"cleanup fails":     {func(f *facts) { f.Janitor[0].Duties[1].Failures, f.Janitor[0].Duties[1].Error = 3, "AtHoc is away" }, levelWarning, causeDuty, "clearing of stale duty has failed 3 times in a row: AtHoc is away"},
		"recovering":        {func(f *facts) { f.Resolver[0].Recovered, f.Resolver[0].Started = false, night }, levelWarning, causeRecovering, "reads all recent files again"},
		"recovers too long": {func(f *facts) { f.Resolver[0].Recovered = false }, levelProblem, causeRecovering, "should be over by now"},
		"late":              {func(f *facts) { f.Ingest[0].Waiting, f.Ingest[0].Oldest = 1, night.Add(-3*time.Minute) }, levelWarning, causeLate, "3 min"},
		"very late":         {func(f *facts) { f.Ingest[0].Waiting, f.Ingest[0].Oldest = 1, night.Add(-time.Hour) }, levelProblem, causeLate, "files list --open"},
		"a file grows":      {func(f *facts) { f.Ingest[0].Unsettled = map[string]time.Time{"a.csv": night.Add(-5 * time.Minute)} }, levelWarning, causeGrowing, "a.csv keeps changing since 5 min"},
		"a file is secret": {func(f *facts) {
			f.Ingest[0].Problems = map[string]control.Problem{"b.csv": {Reason: "permission denied"}}
		}, levelWarning, causeUnreadable, "b.csv in CSV_DIRECTORY cannot be read"},
		"files have failed":  {func(f *facts) { f.Ingest[0].Today.Failed = 2 }, levelWarning, causeFailedFiles, "files list --failed"},
		"the feed is silent": {func(f *facts) { f.Ingest[0].LastFile = night.Add(-20 * time.Hour) }, levelWarning, causeSilent, "No new file has come for 20 h"},
		"no file ever came":  {func(f *facts) { f.Ingest[0].LastFile = time.Time{} }, levelWarning, causeSilent, "No file has ever come"},
		"dead letters":       {func(f *facts) { f.DeadLetters = 1 }, levelWarning, causeDead, "1 dead letter:"},
		"mixed versions":     {func(f *facts) { f.Publisher[0].Version = "v1.2.4" }, levelWarning, causeVersions, "v1.2.4 (publisher)"},
		"broker away": {func(f *facts) {
			*f = facts{At: night, Unreachable: whyUnreachable(context.DeadlineExceeded, true)}
		}, levelProblem, causeBroker, "is bobosync running"},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			c.spoil(&f)
			v := judge(f, limits{SilentAfter: defaultSilentAfter})
			require.Len(t, v.Findings, 1, "%+v", v.Findings)
			found := v.Findings[0]
			require.Equal(t, c.level, v.Level)
			require.Equal(t, c.level, found.Level)
			require.Equal(t, c.cause, found.Cause)
			require.Contains(t, found.Text+" "+found.Do, c.says)
			require.NotEmpty(t, found.Do)
			require.NotContains(t, found.Text[len(found.Text)-1:]+found.Do[len(found.Do)-1:], ".", "the end of the sentence is the screen's")
		})
	}
}

// TestWhatIsNotWorthAWarning: these look like trouble and are none.
func TestWhatIsNotWorthAWarning(t *testing.T) {
	for name, spoil := range map[string]func(*facts){
		"a file came just now":       func(f *facts) { f.Ingest[0].Waiting, f.Ingest[0].Oldest = 1, night.Add(-time.Minute) },
		"a file is being written":    func(f *facts) { f.Ingest[0].Unsettled = map[string]time.Time{"a.csv": night.Add(-time.Minute)} },
		"just begun, no file yet":    func(f *facts) { f.Ingest[0].LastFile, f.Ingest[0].Started = time.Time{}, night },
		"a second janitor stands by": func(f *facts) { f.Janitor = append(f.Janitor, control.JanitorState{Instance: f.Janitor[0].Instance}) },
		"refreshes are off": func(f *facts) {
			d := &f.Janitor[0].Duties[0]
			d.Off, d.LastSuccess, d.Failures = true, night.Add(-999*time.Hour), 1
		},
		"the rate comes back":     func(f *facts) { f.Breaker.Slow = 0.6 },
		"AtHoc was never called":  func(f *facts) { f.Breaker = nil },
		"mapped later than first": func(f *facts) { f.Resolver[0].Unconfirmed, f.Resolver[0].Oldest = 1, night.Add(-20*time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			spoil(&f)
			require.Equal(t, "OK: duty data is fresh", judge(f, limits{SilentAfter: defaultSilentAfter}).String())
		})
	}
	silent := well()
	silent.Ingest[0].LastFile = night.Add(-20 * time.Hour)
	require.Equal(t, levelOK, judge(silent, limits{SilentAfter: 24 * time.Hour}).Level)
	require.Equal(t, levelOK, judge(silent, limits{}).Level, "0 never warns")
}

func TestTheWorstComesFirst(t *testing.T) {
	f := well()
	f.DeadLetters = 3
	f.Ingest[0].Waiting, f.Ingest[0].Oldest = 2, night.Add(-20*time.Minute)
	f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-19 * time.Minute), ProbeAt: night, Cause: "connection refused"}
	v := judge(f, limits{})
	var causes []string
	for _, found := range v.Findings {
		causes = append(causes, found.Cause)
	}
	require.Equal(t, []string{causeAtHocDown, causeLate, causeDead}, causes)
	require.Equal(t, "PROBLEM: duty data is late: AtHoc does not have all of a file that came 20 min ago", v.String())
}

func TestTheFirstLine(t *testing.T) {
	for want, spoil := range map[string]func(*facts){
		"WARNING: duty data is fresh, but 1 thing needs a look": func(f *facts) { f.DeadLetters = 1 },
		"WARNING: duty data is fresh, but 2 things need a look": func(f *facts) { f.DeadLetters, f.Janitor = 1, nil },
		"PROBLEM: no new duty data reaches AtHoc":               func(f *facts) { f.Publisher = nil },
		"PROBLEM: duty data is fresh up to now, but something is broken": func(f *facts) {
			f.Ingest[0].Directories = map[string]string{"PROCESSED_DIRECTORY": "read-only file system"}
		},
		"PROBLEM: nobody can tell whether duty data is fresh": func(f *facts) { f.Ingest = nil },
	} {
		f := well()
		spoil(&f)
		require.Equal(t, want, judge(f, limits{}).String())
	}
}

func TestScreen(t *testing.T) {
	f := well()
	f.DeadLetters, f.Lanes = 1, map[int]string{1: "a-1", 4: "a-1", 5: "gone-9"}
	f.Ingest[0].Today.Outcomes = map[string]int{"applied": 88, "columns": 2}
	var b strings.Builder
	require.NoError(t, showStatus(&b, f, judge(f, limits{}), false))
	page := b.String()
	require.True(t, strings.HasPrefix(page, "WARNING: duty data is fresh, but 1 thing needs a look\n"), page)
	for _, want := range []string{
		"bobosync dead list says why", "3 files done, 0 failed; 90 rows, 2 of them rejected (2 columns)", "10 on duty of 100 known",
		"lanes 1 3", "last update taken 1 min ago", "Lanes 5 are lent to gone-9", "mapping", "cleanup",
	} {
		require.Contains(t, page, want)
	}
	require.NotContains(t, page, "\x1b", "no colours without a terminal")
	require.NotContains(t, page, "Lanes 4")
	b.Reset()
	require.NoError(t, showStatus(&b, f, judge(f, limits{}), true))
	require.Contains(t, b.String(), "\x1b[1;33mWARNING")
}

func TestAgo(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0 s": -time.Second, "59 s": 59 * time.Second, "1 min": 119 * time.Second, "2 h": 2*time.Hour + 20*time.Second,
		"47 h 59 min": 48*time.Hour - time.Second, "2 days": 71 * time.Hour,
	} {
		require.Equal(t, want, ago(d))
	}
}
