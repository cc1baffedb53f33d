package verdict

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
)

var night = time.Date(2024, 6, 17, 2, 30, 0, 0, time.UTC)

// well returns the Facts of an installation in which nothing is wrong.
func well() Facts {
	one := control.Instance{Name: "a/1", Version: "v1.2.3", Started: night.Add(-72 * time.Hour)}

	return Facts{
		At: night,
		Ingest: []control.IngestState{{
			Instance: one, LastFile: night.Add(-time.Hour), FreeBytes: 50 << 30, Today: control.FileCounts{Done: 3, Rows: 90, Rejected: 2},
		}},
		Resolver:  []control.ResolverState{{Instance: one, Recovered: true, Workers: 100, OnDuty: 10, Snapshot: "s", Mapped: 120}},
		Publisher: []control.PublisherState{{Instance: one, Partitions: []int{1, 3}, LastSuccess: night.Add(-time.Minute)}},
		Janitor: []control.JanitorState{{Instance: one, Leads: true, Jobs: []control.Job{
			{Name: control.JobMapping, LastSuccess: night.Add(-6 * time.Hour), Next: night.Add(18 * time.Hour)},
			{Name: control.JobCleanup, LastSuccess: night.Add(-time.Minute), Next: night.Add(4 * time.Minute)},
		}}},
		Breaker: &breaker.State{},
	}
}

func TestNothingIsWrong(t *testing.T) {
	v := Judge(well(), Limits{SilentAfter: DefaultSilentAfter})
	require.Equal(t, "OK: duty data is fresh", v.String())
	require.Empty(t, v.Findings)
}

// TestEachCauseIsNamed: if one thing is wrong, the verdict names it and what to do, and nothing else.
func TestEachCauseIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Facts)
		level Level
		cause string
		says  string // what is wrong, or what to do about it
	}{
		"no publisher": {func(f *Facts) { f.Publisher = nil }, Problem, "no_publisher", "nothing is sent to AtHoc"},
		"no resolver":  {func(f *Facts) { f.Resolver = nil }, Problem, "no_resolver", "start the resolver"},
		"no ingest":    {func(f *Facts) { f.Ingest = nil }, Problem, "no_ingest", "no file is read"},
		"no janitor":   {func(f *Facts) { f.Janitor = nil }, Warning, "no_janitor", "not refreshed"},
		"janitor stands by": {func(f *Facts) {
			f.Janitor[0] = control.JanitorState{Instance: f.Janitor[0].Instance}
		}, Warning, CauseStandby, "none is the leader"},
		"stream missing":  {func(f *Facts) { f.Missing = []string{"stream UPDATES"} }, Problem, CauseMissing, "stream UPDATES"},
		"its end is lost": {func(f *Facts) { f.Astray = [][2]string{{"ENTRIES", "resolver-entries"}} }, Problem, CauseMissing, "nats consumer rm ENTRIES resolver-entries"},
		"two resolvers": {func(f *Facts) {
			f.Resolver = append(f.Resolver, f.Resolver[0])
			f.Resolver[1].Name = "b/2"
		}, Problem, CauseTwice, "More than one resolver runs, on a/1, b/2"},
		"two ingests":  {func(f *Facts) { f.Ingest = append(f.Ingest, f.Ingest[0]) }, Problem, CauseTwice, "stop all but one ingest"},
		"not readable": {func(f *Facts) { f.Unread = []string{"stream DEAD: timeout"} }, Warning, CauseUnread, "stream DEAD"},
		"entries full": {func(f *Facts) { f.EntriesFull = 0.93 }, Warning, CauseFull, "93 %"},
		"wrong password": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Since: night.Add(-time.Second), Cause: "athoc: get access token: unauthorized (400 Bad Request)"}
		}, Problem, CauseAtHocRefuses, "check APIUSER, PASSWORD"},
		"locked account": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Since: night.Add(-time.Second), Cause: "athoc: update users: forbidden (403 Forbidden)"}
		}, Problem, CauseAtHocRefuses, "it is locked"},
		"wrong organisation": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Since: night.Add(-time.Second), Cause: "athoc: update users: not_found (404 Not Found)"}
		}, Problem, CauseAtHocRefuses, "does not know the address or the organisation"},
		"wrong attribute": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Cause: "AtHoc refuses every user alike (no such attribute): check DUTY_STATUS_FIELD"}
		}, Problem, CauseAtHocRefuses, "does not take the duty status of anybody"},
		"refused otherwise": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Refused, Cause: "something new"}
		}, Problem, CauseAtHocRefuses, "something new"},
		"mass change held": {func(f *Facts) {
			f.Resolver[0].Guard = &control.GuardState{Held: []control.HeldGroup{{ID: "off-1", Kind: "off", Since: night.Add(-time.Hour), Users: 120, Allowed: 60}}}
		}, Warning, CauseHeld, "120 users would go off duty, where at most 60 are allowed"},
		"mass change observed": {func(f *Facts) {
			f.Resolver[0].Guard = &control.GuardState{Unusual: []control.UnusualChange{{Kind: "stale", At: night.Add(-time.Minute), Users: 120, Allowed: 60}}}
		}, Warning, CauseUnusual, "the guard only observes: 120 users were cleared for their age"},
		"paused": {func(f *Facts) {
			f.Pause = &breaker.Pause{By: "jo@a", Reason: "upgrade", At: night.Add(-9 * time.Minute), Until: night.Add(time.Hour)}
			f.Resolver[0].Unconfirmed = 3
		}, Warning, CausePaused, "(upgrade): nothing is sent to AtHoc; 3 workers wait"},
		"paused for all": {func(f *Facts) {
			f.Pause = &breaker.Pause{By: "jo@a", At: night.Add(-time.Hour), Until: night.Add(time.Hour), All: true}
		}, Warning, CausePaused, "and nothing is read there; 0 workers wait"},
		"paused for long": {func(f *Facts) {
			f.Pause = &breaker.Pause{By: "jo@a", At: night.Add(-10 * time.Minute), Until: night.Add(time.Hour)}
			f.Resolver[0].Unresolved = 1
		}, Problem, CausePaused, "; 1 worker waits"},
		"pause lost": {func(f *Facts) {
			f.Publisher[0].PauseLost = &breaker.Pause{By: "jo@a", Reason: "upgrade", At: night.Add(-time.Hour), Until: night.Add(time.Hour)}
		}, Warning, CausePauseLost, "the pause that jo@a ordered until"},
		"notices fail": {func(f *Facts) {
			f.Janitor[0].Notify = []control.NotifyState{{Sink: "webhook"}, {Sink: "mail", Failing: night.Add(-time.Hour), Error: "it cannot be reached", Waiting: 2}}
		}, Warning, CauseNotifyFails, "it cannot be reached; 2 notices wait for it"},
		"athoc hiccup": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-20 * time.Second), ProbeAt: night, Cause: "503"}
		}, Warning, CauseAtHocDown, "AtHoc is down since"},
		"athoc down": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-10 * time.Minute), ProbeAt: night.Add(time.Second), Cause: "connection refused"}
		}, Problem, CauseAtHocDown, "(10 min): connection refused"},
		"athoc was down": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-3 * time.Hour), ProbeAt: night.Add(-2 * time.Hour), Cause: "503"}
		}, Warning, CauseAtHocDown, "nobody has had to call it since"},
		"a probe is under way": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-3 * time.Hour), ProbeAt: night.Add(-2 * time.Hour), ProbeUntil: night.Add(time.Second), Cause: "503"}
		}, Problem, CauseAtHocDown, "AtHoc is down since"},
		"throttled": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Throttled, Since: night, Cause: "429", Slow: 0.5}
		}, Warning, CauseThrottled, "fewer calls"},
		"directory read-only": {func(f *Facts) {
			f.Ingest[0].Directories = map[string]string{"PROCESSED_DIRECTORY": "read-only file system"}
		}, Problem, CauseDirectory, "PROCESSED_DIRECTORY cannot be used: read-only"},
		"disk nearly full":         {func(f *Facts) { f.Ingest[0].FreeBytes = 500 << 20 }, Warning, CauseDisk, "500 MiB"},
		"disk full":                {func(f *Facts) { f.Ingest[0].FreeBytes = 0 }, Problem, CauseDisk, "make room"},
		"the resolver's disk full": {func(f *Facts) { f.Resolver[0].FreeBytes = new(uint64) }, Problem, CauseDisk, "where the resolver's DATA_DIRECTORY is"},
		"no more files":            {func(f *Facts) { f.Ingest[0].NoFiles = true }, Problem, CauseDisk, "df -i"},
		"no mapping":               {func(f *Facts) { f.Resolver[0].Snapshot = "" }, Problem, CauseNoMapping, "mapping refresh"},
		"mapping of old":           {func(f *Facts) { f.Janitor[0].Jobs[0].LastSuccess = night.Add(-50 * time.Hour) }, Warning, CauseMappingOld, "2 days ago"},
		"mapping held back": {func(f *Facts) {
			f.Janitor[0].Held = &control.HeldMapping{ID: "3fa9c1", Reason: "too many gone", Before: 800, After: 20}
		}, Warning, CauseMappingHeld, "mapping approve 3fa9c1"},
		"cleanup fails": {func(f *Facts) { f.Janitor[0].Jobs[1].Failures, f.Janitor[0].Jobs[1].Error = 3, "AtHoc is away" }, Warning, CauseJob, "clearing of stale duty has failed 3 times in a row: AtHoc is away"},
		"recovering":    {func(f *Facts) { f.Resolver[0].Recovered, f.Resolver[0].Started = false, night }, Warning, CauseRecovering, "reads all recent files again"},
		"comparison held back": {func(f *Facts) {
			f.Janitor[0].ReconcileHeld = &control.ReconcileAnswer{Ended: night, Held: "90 of 300 users differ"}
		}, Warning, CauseJob, "reconcile --apply --force"},
		"recovering after a long run": {func(f *Facts) {
			f.Resolver[0].Recovered, f.Resolver[0].Recovering = false, night.Add(-time.Minute)
		}, Warning, CauseRecovering, "wait some minutes"},
		"recovers too long": {func(f *Facts) { f.Resolver[0].Recovered = false }, Problem, CauseRecovering, "should be over by now"},
		"late":              {func(f *Facts) { f.Ingest[0].Waiting, f.Ingest[0].Oldest = 1, night.Add(-3*time.Minute) }, Warning, CauseLate, "3 min"},
		"very late":         {func(f *Facts) { f.Ingest[0].Waiting, f.Ingest[0].Oldest = 1, night.Add(-time.Hour) }, Problem, CauseLate, "files list --open"},
		"a file grows":      {func(f *Facts) { f.Ingest[0].Unsettled = map[string]time.Time{"a.csv": night.Add(-5 * time.Minute)} }, Warning, CauseGrowing, "a.csv keeps changing since 5 min"},
		"a file that steers": {func(f *Facts) {
			f.Ingest[0].Unsettled = map[string]time.Time{"\x1b[2Ja\u202e\n.csv": night.Add(-5 * time.Minute)}
		}, Warning, CauseGrowing, `File \x1b[2Ja\u202e\n.csv keeps changing`},
		"a file is secret": {func(f *Facts) {
			f.Ingest[0].Problems = map[string]control.Problem{"b.csv": {Reason: "permission denied"}}
		}, Warning, CauseUnreadable, "b.csv in CSV_DIRECTORY cannot be read"},
		"files have failed":  {func(f *Facts) { f.Ingest[0].Today.Failed = 2 }, Warning, CauseFailedFiles, "files list --failed"},
		"the feed is silent": {func(f *Facts) { f.Ingest[0].LastFile = night.Add(-20 * time.Hour) }, Warning, CauseSilent, "No new file has come for 20 h"},
		"no file ever came":  {func(f *Facts) { f.Ingest[0].LastFile = time.Time{} }, Warning, CauseSilent, "No file has ever come"},
		"a web page": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-10 * time.Minute), ProbeAt: night.Add(time.Second), Cause: `athoc: get access token: outage (200 OK): <!DOCTYPE html> Sign in`}
		}, Problem, CauseWebPage, "A web page answers in AtHoc's place"},
		"a web page, just now": {func(f *Facts) {
			f.Breaker = &breaker.State{Class: breaker.Outage, Since: night, ProbeAt: night.Add(time.Second), Cause: "outage (502 Bad Gateway): a web page came instead of AtHoc's answer"}
		}, Warning, CauseWebPage, "A web page answers in AtHoc's place"},
		"refused again and again": {func(f *Facts) {
			u := control.RefusedUser{File: "f", Row: 3, Times: 7, Since: night.Add(-time.Minute), Words: "the record is locked\x1b"}
			f.Publisher[0].Refused = []control.RefusedUser{u}
			f.Publisher = append(f.Publisher, f.Publisher[0])
		}, Warning, CauseUserRefused, `AtHoc refuses 1 user again and again, since 2024-06-17 02:29:00 (14 times). AtHoc's answer: the record is locked\x1b`},
		"a culprit": {func(f *Facts) {
			f.Breaker.PutOff = []breaker.PutOff{{User: "a", Failures: 2, Since: night, Cause: "500"}, {User: "b", Failures: 1, Since: night, Cause: "500"}}
		}, Warning, CauseUserRefused, "AtHoc refuses 1 user again"},
		"the only one who is sent": {func(f *Facts) {
			f.Publisher[0].LastSuccess = night.Add(-time.Hour)
			f.Breaker.PutOff = []breaker.PutOff{{User: "a", Failures: 3, Since: night.Add(-10 * time.Minute), Cause: "500"}}
		}, Warning, CauseAtHocDown, "AtHoc takes no update since 2024-06-17 02:20:00 (3 times), of 1 user who alone had to be sent, though it answers searches: 500"},
		"he alone, while others are sent": {func(f *Facts) {
			f.Breaker.PutOff = []breaker.PutOff{{User: "a", Failures: 3, Since: night.Add(-10 * time.Minute), Cause: "500"}}
		}, Warning, CauseUserRefused, "AtHoc refuses 1 user again"},
		"frozen stream": {func(f *Facts) {
			f.Ingest[0].Unstored = map[string]bus.Unstored{"bobo.entries.>": {Since: night.Add(-time.Minute), Reason: "deadline exceeded"}, "bobo.acks": {Since: night}}
		}, Problem, CauseUnstored, "The broker stores nothing of bobo.acks, bobo.entries.> since 2024-06-17 02:29:00: deadline exceeded"},
		"frozen bucket": {func(f *Facts) {
			f.Janitor[0].Unstored = map[string]bus.Unstored{"bucket bobo_leases": {Since: night.Add(-time.Minute), Reason: "deadline exceeded"}}
		}, Problem, CauseUnstored, "The broker stores nothing of bucket bobo_leases since"},
		"frozen just now": {func(f *Facts) {
			f.Ingest[0].Unstored = map[string]bus.Unstored{"bobo.entries.>": {Since: night.Add(-time.Second), Reason: "no space left on device"}}
		}, Warning, CauseUnstored, "no space left on device make room on the disk of the broker"},
		"nobody verifies": {func(f *Facts) { f.Publisher[0].Unverified = true }, Warning, CauseUnverified, "unset DISABLE_SSL_VERIFY"},
		"nor the janitor": {func(f *Facts) { f.Janitor[0].Unverified = true }, Warning, CauseUnverified, "certificate is not verified"},
		"without TLS":     {func(f *Facts) { f.Publisher[0].Insecure = []string{"ATHOC_ALLOW_HTTP"} }, Warning, CauseInTheClear, "AtHoc is called without TLS (ATHOC_ALLOW_HTTP)"},
		"nor the mapping": {func(f *Facts) { f.Janitor[0].Insecure = []string{"ATHOC_ALLOW_HTTP"} }, Warning, CauseInTheClear, "begins with https://"},
		"no text, yesterday": {func(f *Facts) {
			f.Ingest[0].Doubtful = []control.DoubtfulFile{{Name: "x.csv", Reason: "not a text", Finished: night.Add(-4 * time.Hour)}, {Name: "y.csv", Finished: night.Add(-25 * time.Hour)}}
		}, Warning, CauseFailedFiles, "1 file was put among the failed files yesterday"},
		"dead letters":   {func(f *Facts) { f.DeadLetters = 1 }, Warning, CauseDead, "1 dead letter:"},
		"mixed versions": {func(f *Facts) { f.Publisher[0].Version = "v1.2.4" }, Warning, CauseVersions, "v1.2.4 (publisher)"},
		"broker away": {func(f *Facts) {
			*f = Facts{At: night, Unreachable: &Unreachable{Cause: CauseBroker, Text: "the broker cannot be reached", Do: "is it running"}}
		}, Problem, CauseBroker, "The broker cannot be reached is it running"},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			c.spoil(&f)
			v := Judge(f, Limits{SilentAfter: DefaultSilentAfter})
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

// TestWhatIsHeldIsNotLate: a file that waits only for a decision, which ingest counts separately, is not late, and does
// not hide a file that is.
func TestWhatIsHeldIsNotLate(t *testing.T) {
	f := well()
	f.Resolver[0].Guard = &control.GuardState{
		Held: []control.HeldGroup{{ID: "off-1", Kind: "off", Since: night.Add(-time.Hour), Users: 3}},
	}
	f.Ingest[0].Waiting, f.Ingest[0].Oldest = 2, night.Add(-time.Hour)
	f.Ingest[0].Freshness = &control.Freshness{
		CompleteUpTo: night.Add(-time.Second), LagMS: 1000, LateAfterMS: 120_000, Waiting: 1, Held: 1, HeldRows: 3,
	}
	v := Judge(f, Limits{SilentAfter: DefaultSilentAfter})
	require.Equal(t, "WARNING: duty data is fresh, but 1 thing needs a look", v.String())
	require.Equal(t, CauseHeld, v.Findings[0].Cause)

	f.Ingest[0].Freshness.LagMS = 3600_000
	require.Contains(t, Judge(f, Limits{}).String(), "duty data is late")
}

// TestWhatIsNotWorthAWarning: these look like trouble but are not.
func TestWhatIsNotWorthAWarning(t *testing.T) {
	for name, spoil := range map[string]func(*Facts){
		"a file came just now":       func(f *Facts) { f.Ingest[0].Waiting, f.Ingest[0].Oldest = 1, night.Add(-time.Minute) },
		"a file is being written":    func(f *Facts) { f.Ingest[0].Unsettled = map[string]time.Time{"a.csv": night.Add(-time.Minute)} },
		"just begun, no file yet":    func(f *Facts) { f.Ingest[0].LastFile, f.Ingest[0].Started = time.Time{}, night },
		"a second janitor stands by": func(f *Facts) { f.Janitor = append(f.Janitor, control.JanitorState{Instance: f.Janitor[0].Instance}) },
		"refreshes are off": func(f *Facts) {
			d := &f.Janitor[0].Jobs[0]
			d.Off, d.LastSuccess, d.Failures = true, night.Add(-999*time.Hour), 1
		},
		"the rate comes back":     func(f *Facts) { f.Breaker.Slow = 0.6 },
		"AtHoc was never called":  func(f *Facts) { f.Breaker = nil },
		"mapped later than first": func(f *Facts) { f.Resolver[0].Unconfirmed, f.Resolver[0].Oldest = 1, night.Add(-20*time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			spoil(&f)
			require.Equal(t, "OK: duty data is fresh", Judge(f, Limits{SilentAfter: DefaultSilentAfter}).String())
		})
	}

	silent := well()
	silent.Ingest[0].LastFile = night.Add(-20 * time.Hour)
	require.Equal(t, OK, Judge(silent, Limits{SilentAfter: 24 * time.Hour}).Level)
	require.Equal(t, OK, Judge(silent, Limits{}).Level, "0 never warns")
}

// TestNeverOKWhileLate: whatever else is well, and whichever service is silent, the verdict is not OK while the
// watermark is older than LATE_AFTER.
func TestNeverOKWhileLate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := well()
		late := rapid.Int64Range(1, 3600_000).Draw(t, "late after")
		lag := rapid.Int64Range(-1000, 2*3600_000).Draw(t, "lag")
		fresh := &control.Freshness{CompleteUpTo: f.At.Add(-time.Duration(lag) * time.Millisecond), LagMS: lag, LateAfterMS: late, Waiting: rapid.IntRange(0, 3).Draw(t, "waiting")}
		f.Ingest[0].Freshness = fresh
		if rapid.Bool().Draw(t, "ingest says nothing") {
			f.Ingest = nil
		}

		for name, silence := range map[string]func(){
			"resolver": func() { f.Resolver = nil }, "publisher": func() { f.Publisher = nil },
			"janitor": func() { f.Janitor = nil }, "breaker": func() { f.Breaker = nil },
		} {
			if rapid.Bool().Draw(t, name+" says nothing") {
				silence()
			}
		}

		v := Judge(f, Limits{})
		switch {
		case (f.Ingest == nil || lag >= late) && v.Level == OK:
			t.Fatalf("%s with a lag of %d ms", v, lag)
		case f.Ingest != nil && lag >= late && !strings.Contains(v.String(), "duty data is late"):
			t.Fatalf("%s with a lag of %d ms", v, lag)
		case f.Ingest != nil && lag < late && strings.Contains(v.String(), "late"):
			t.Fatalf("%s with a lag of %d ms", v, lag)
		case (f.Ingest == nil) != v.CompleteUpTo.IsZero():
			t.Fatalf("complete up to %v", v.CompleteUpTo)
		}
	})
}

func TestLateIsSaidWithTheFile(t *testing.T) {
	t.Parallel()

	f := well()
	fresh := &control.Freshness{CompleteUpTo: night.Add(-16 * time.Minute), LagMS: (16 * time.Minute).Milliseconds(), LateAfterMS: 120_000, Waiting: 1, First: "a\x1b.csv"}
	f.Ingest[0].Freshness = fresh
	v := Judge(f, Limits{})
	require.Equal(t, Problem, v.Level)
	require.Equal(t, "AtHoc does not have all of a file that came 16 min ago, a\\x1b.csv, and is complete up to "+text.When(fresh.CompleteUpTo), v.Findings[0].Text)

	fresh.Waiting = 0 // the directory does not answer
	v = Judge(f, Limits{})
	require.Equal(t, Problem, v.Level)
	require.Contains(t, v.Findings[0].Text, "Nobody can tell what has come since")
}

// TestWhatWaitedIsNotOverWithItsCause: a file that arrived before the last interruption ended is late until it is done,
// however short its wait.
func TestWhatWaitedIsNotOverWithItsCause(t *testing.T) {
	t.Parallel()

	before, came, after := night.Add(-40*time.Second), night.Add(-30*time.Second), night.Add(-20*time.Second)
	for name, c := range map[string]struct {
		spoil func(*Facts)
		late  bool
	}{
		"nothing happened":                       {func(*Facts) {}, false},
		"ingest was started":                     {func(f *Facts) { f.Ingest[0].Started = after }, true},
		"ingest was started before":              {func(f *Facts) { f.Ingest[0].Started = before }, false},
		"the resolver was started":               {func(f *Facts) { f.Resolver[0].Started = after }, true},
		"the only publisher was started":         {func(f *Facts) { f.Publisher[0].Started = after }, true},
		"the janitor was started":                {func(f *Facts) { f.Janitor[0].Started = after }, false},
		"ingest has its broker back":             {func(f *Facts) { f.Ingest[0].Restored = after }, true},
		"ingest had its broker back before":      {func(f *Facts) { f.Ingest[0].Restored = before }, false},
		"the resolver has its broker back":       {func(f *Facts) { f.Resolver[0].Restored = after }, true},
		"the only publisher has its broker back": {func(f *Facts) { f.Publisher[0].Restored = after }, true},
		"one of two publishers has":              {func(f *Facts) { f.Publisher = append(f.Publisher, f.Publisher[0]); f.Publisher[1].Restored = after }, false},
		"both publishers have": {func(f *Facts) {
			f.Publisher[0].Restored = after
			f.Publisher = append(f.Publisher, f.Publisher[0])
		}, true},
	} {
		f := well()
		f.Ingest[0].Freshness = &control.Freshness{CompleteUpTo: came, LagMS: 30_000, LateAfterMS: 120_000, Waiting: 1, First: "a.csv"}
		c.spoil(&f)

		v := Judge(f, Limits{})
		if !c.late {
			require.Equal(t, "OK: duty data is fresh", v.String(), name)
			continue
		}

		require.Equal(t, "WARNING: duty data is late: AtHoc does not have all of a file that came 30 s ago, but 1 thing needs a look", v.String(), name)
		require.Equal(t, CauseLate, v.Findings[0].Cause, name)
		require.Contains(t, v.Findings[0].Text, "a.csv", name)

		f.Ingest[0].Freshness.Waiting, f.Ingest[0].Freshness.LagMS = 0, 0
		require.Equal(t, OK, Judge(f, Limits{}).Level, "%s: it is done", name)
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	f := well()
	f.DeadLetters = 3
	f.Ingest[0].Waiting, f.Ingest[0].Oldest = 2, night.Add(-20*time.Minute)

	f.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-19 * time.Minute), ProbeAt: night, Cause: "connection refused"}
	v := Judge(f, Limits{})
	var causes []string
	for _, found := range v.Findings {
		causes = append(causes, found.Cause)
	}

	require.Equal(t, []string{CauseAtHocDown, CauseLate, CauseDead}, causes)
	require.Equal(t, "PROBLEM: duty data is late: AtHoc does not have all of a file that came 20 min ago", v.String())
}

func TestTheFirstLine(t *testing.T) {
	for want, spoil := range map[string]func(*Facts){
		"WARNING: duty data is fresh, but 1 thing needs a look": func(f *Facts) { f.DeadLetters = 1 },
		"WARNING: duty data is fresh, but 2 things need a look": func(f *Facts) { f.DeadLetters, f.Janitor = 1, nil },
		"PROBLEM: no new duty data reaches AtHoc":               func(f *Facts) { f.Publisher = nil },
		"PROBLEM: duty data is fresh up to now, but something is broken": func(f *Facts) {
			f.Ingest[0].Directories = map[string]string{"PROCESSED_DIRECTORY": "read-only file system"}
		},
		"PROBLEM: nobody can tell whether duty data is fresh": func(f *Facts) { f.Ingest = nil },
	} {
		f := well()
		spoil(&f)
		require.Equal(t, want, Judge(f, Limits{}).String())
	}
}

// TestThousandsOfNamesAreAFewFindings: the first names have findings, the others are counted.
func TestThousandsOfNamesAreAFewFindings(t *testing.T) {
	s := control.IngestState{ProblemNames: 8000, Problems: map[string]control.Problem{}}
	for i := range 100 {
		s.Problems[fmt.Sprintf("%02d.csv", i)] = control.Problem{Reason: "it is a directory"}
	}

	found := unreadable(s)
	require.Len(t, found, unreadableNamed+1)
	require.Contains(t, found[0].Text, "00.csv")
	require.Contains(t, found[unreadableNamed].Text, "7995 other names")
}
