package commands

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/breaker"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

const fileA = "5f3a9c01b2d4e6f8a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3"

// journalOf returns an endpoint that answers for one order: under way at first, then as it ended.
func journalOf(end control.JournalEntry) control.Endpoint {
	var looks atomic.Int32

	return control.On(control.Journal, func(_ context.Context, req control.JournalRequest) (control.JournalAnswer, error) {
		if req.ID != end.ID {
			return control.JournalAnswer{}, nil
		}

		e := end
		if looks.Add(1) == 1 {
			e.Ended, e.Outcome, e.Counts = time.Time{}, "", nil
		}

		return control.JournalAnswer{Entries: []control.JournalEntry{e}}, nil
	})
}

func TestWorker(t *testing.T) {
	r := newResponders(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	var heard asked[control.WorkerRequest]
	r.serve(topology.Resolver, hears(&heard, control.WorkerShow, func(req control.WorkerRequest) (control.WorkerAnswer, error) {
		if req.Text != "00123" {
			return control.WorkerAnswer{}, control.Refuse("BOBO has never reported %q", req.Text)
		}

		return control.WorkerAnswer{
			Employee: "00123", User: "jo@example.org", Known: true, Status: "AtHoc shows the worker on duty, as it should.",
			Latest:    &control.WorkerEvent{On: true, At: at, File: fileA, Row: 12},
			Confirmed: &control.WorkerStatus{User: "jo@example.org", On: true, At: at, File: fileA, Row: 12, Outcome: "applied", Answered: at.Add(time.Second)},
			Events:    []control.WorkerEvent{{On: true, At: at, File: fileA, Row: 12}, {At: at.Add(-time.Hour), File: "0123456789abcdef", Row: 3}},
			Partial:   true,
		}, nil
	}))
	out := r.succeeds("worker", "00123")
	require.Contains(t, out, fileA[:12], "without ingest the id has to do")
	r.serve(topology.Ingest, control.On(control.FindFile, func(_ context.Context, req control.FindRequest) ([]control.FoundFile, error) {
		if req.Text == fileA {
			return []control.FoundFile{{ID: fileA, Name: "monday.csv"}}, nil
		}
		return nil, nil
	}))

	out = r.succeeds("worker", "00123")
	for _, want := range []string{
		"Worker 00123, AtHoc user jo@example.org\n", "AtHoc shows the worker on duty, as it should.", "monday.csv", "0123456789ab", "applied at " + text.When(at.Add(time.Second)),
		"bookings may be missing",
	} {
		require.Contains(t, out, want)
	}

	var told struct {
		control.WorkerAnswer
		Files map[string]string
	}
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("worker", "00123", "--json")), &told))
	require.Equal(t, map[string]string{fileA: "monday.csv"}, told.Files)
	require.Equal(t, 12, told.Latest.Row)
	r.fails(1, `BOBO has never reported "nobody"`, "worker", "nobody")
	require.Len(t, heard.got(), 4)
}

func TestMappingShowAndList(t *testing.T) {
	r := newResponders(t)
	r.fails(1, "no such service answers", "mapping", "show")
	r.serve(topology.Janitor, says(control.MappingShow, control.MappingReport{
		Snapshot: "s", Users: 120, Mapped: 110, Without: 8, Unusable: 2, Taken: time.Now(), Refreshed: time.Now(),
		Ambiguous: map[string][]string{"00007": {"a@example.org", "b@example.org"}}, Alike: [][]string{{"0042", "42"}}, Left: 5,
		Held: &control.HeldMapping{ID: "3fa9c1", Before: 110, After: 20, Removed: 90, Reason: "90 of 110 would be gone"},
		Job:  control.Job{Name: control.JobMapping, Failures: 2, Error: "AtHoc is away"},
	}))
	out := r.succeeds("mapping", "show")
	require.True(t, strings.HasPrefix(out, "A new mapping is HELD BACK"), "what matters comes first: %s", out)

	for _, want := range []string{"mapping approve 3fa9c1", "has 110 employee ids.", "120 AtHoc users, of them 8 without an employee id", "00007: a@example.org, b@example.org", `["0042" "42"]`, "5 more are left out", "failed 2 times: AtHoc is away"} {
		require.Contains(t, out, want)
	}

	require.Contains(t, r.succeeds("mapping", "show", "--json"), `"ambiguous"`)

	r.serve(topology.Janitor, says(control.MappingHeld, control.MappingDifference{
		ID: "3fa9c1", Removed: []control.MappingChange{{Employee: "00017", Before: "seventeen"}}, Changed: []control.MappingChange{{Employee: "00018", Before: "x", After: "y"}},
	}))
	require.Regexp(t, `(?m)^00017 +seventeen +nobody$\n^00018 +x +y$`, r.succeeds("mapping", "show", "--held"))
	require.Contains(t, r.succeeds("mapping", "show", "--held", "--json"), `"removed"`)

	// The list is requested part by part.
	r.serve(topology.Resolver, control.On(control.MappingList, func(_ context.Context, req control.MappingListRequest) (control.MappingListAnswer, error) {
		switch {
		case req.Text == "nobody":
			return control.MappingListAnswer{}, nil
		case req.After == "":
			return control.MappingListAnswer{Pairs: []control.MappingPair{{Employee: "1", User: "a"}}, Next: "1"}, nil
		default:
			return control.MappingListAnswer{Pairs: []control.MappingPair{{Employee: "2", User: "b"}}}, nil
		}
	}))
	var pairs []control.MappingPair
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("mapping", "list", "--json")), &pairs))
	require.Equal(t, []control.MappingPair{{Employee: "1", User: "a"}, {Employee: "2", User: "b"}}, pairs)
	require.Equal(t, 3, strings.Count(r.succeeds("mapping", "list"), "\n"))
	require.Contains(t, r.succeeds("mapping", "list", "nobody"), "Nobody like that")
	require.Equal(t, "[]\n", r.succeeds("mapping", "list", "nobody", "--json"))
}

func TestMappingRefresh(t *testing.T) {
	for name, c := range map[string]struct {
		end    control.JournalEntry
		status int
		says   string
	}{
		"ok":          {control.JournalEntry{Outcome: control.OutcomeOK, Counts: map[string]int{"added": 3, "without_id": 1}}, 0, "The mapping is refreshed: 3 added, 1 without id."},
		"nothing new": {control.JournalEntry{Outcome: control.OutcomeOK}, 0, "nothing has changed"},
		"held":        {control.JournalEntry{Outcome: control.OutcomeHeld, Text: "90 would be gone"}, 1, "held back: 90 would be gone; bobosync mapping show shows how"},
		"failed":      {control.JournalEntry{Outcome: control.OutcomeFailed, Error: "AtHoc is away"}, 1, "the previous one stays in force: AtHoc is away"},
		"interrupted": {control.JournalEntry{Outcome: control.OutcomeInterrupted}, 1, "refreshes again by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResponders(t)
			c.end.ID, c.end.Kind, c.end.Ended = "e1", control.JobMapping, time.Now()
			var heard asked[control.RunRequest]
			refresh := hears(&heard, control.MappingRefresh, func(control.RunRequest) (control.Begun, error) { return control.Begun{Entry: "e1"}, nil })
			r.serve(topology.Janitor, refresh, journalOf(c.end))
			r.fails(c.status, c.says, "mapping", "refresh")
			require.Equal(t, []control.RunRequest{{By: client.Whoami()}}, heard.got())

			out, _, status := r.call("mapping", "refresh", "--json")
			require.Equal(t, c.status, status)
			var told control.JournalEntry
			require.NoError(t, json.Unmarshal([]byte(out), &told))
			require.Equal(t, c.end.Outcome, told.Outcome)
		})
	}
}

func TestMappingRefreshIsNotWaitedFor(t *testing.T) {
	r := newResponders(t)
	r.serve(topology.Janitor, says(control.MappingRefresh, control.Begun{Entry: "e1"})) // it serves no journal
	require.Contains(t, r.succeeds("mapping", "refresh", "--no-wait"), "bobosync journal --kind mapping")
	require.Contains(t, r.succeeds("mapping", "refresh", "--no-wait", "--json"), `"e1"`)
}

// TestCtrlCLetsAnOrderGoOn checks that after Ctrl-C the operator is told that the order goes on.
func TestCtrlCLetsAnOrderGoOn(t *testing.T) {
	r := newResponders(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	r.serve(topology.Janitor, control.On(control.Journal, func(context.Context, control.JournalRequest) (control.JournalAnswer, error) {
		cancel()
		return control.JournalAnswer{Entries: []control.JournalEntry{{ID: "e1"}}}, nil
	}))
	var told strings.Builder
	_, err := finish(ctx, r.srv.Connect(t), text.To(&told), "e1")
	require.Equal(t, ExitStatus(exitInterrupted), err)
	require.Contains(t, told.String(), "goes on without being watched")
}

func TestAnOrderThatIsForgotten(t *testing.T) {
	r := newResponders(t)
	r.serve(topology.Janitor, says(control.MappingRefresh, control.Begun{Entry: "e1"}), journalOf(control.JournalEntry{ID: "e2"}))
	r.fails(1, "knows nothing of it any more", "mapping", "refresh")
}

func TestMappingApprove(t *testing.T) {
	r := newResponders(t)
	var heard asked[control.ApproveRequest]
	approve := hears(&heard, control.MappingApprove, func(req control.ApproveRequest) (control.Begun, error) {
		if req.ID != "3fa9c1" {
			return control.Begun{}, control.Refuse("no mapping %s is held back", req.ID)
		}
		return control.Begun{Entry: "e1"}, nil
	})
	held := &control.HeldMapping{ID: "3fa9c1", Reason: "90 would be gone"}
	stop := r.serve(topology.Janitor, approve, says(control.MappingShow, control.MappingReport{Held: held}),
		journalOf(control.JournalEntry{ID: "e1", Ended: time.Now(), Outcome: control.OutcomeOK, Counts: map[string]int{"removed": 90}}))
	require.Contains(t, r.fails(1, "HELD BACK", "mapping", "approve"), "bobosync mapping approve 3fa9c1")
	require.Empty(t, heard.got(), "nothing is approved without an id")
	r.fails(1, "no mapping 000000 is held back", "mapping", "approve", "000000")
	require.Contains(t, r.succeeds("mapping", "approve", "3fa9c1"), "The mapping is in force: 90 removed.")
	stop()
	r.serve(topology.Janitor, says(control.MappingShow, control.MappingReport{}))
	require.Contains(t, r.succeeds("mapping", "approve"), "No mapping is held back.")
	require.JSONEq(t, `{"held":null}`, r.succeeds("mapping", "approve", "--json"))
}

// comparison serves the janitor's endpoints for reconcile.
func (r *responders) comparison(report control.ReconcileAnswer, outcome string) (*asked[control.ReconcileRequest], func()) {
	heard := new(asked[control.ReconcileRequest])
	stop := r.serve(topology.Janitor,
		hears(heard, control.Reconcile, func(control.ReconcileRequest) (control.Begun, error) { return control.Begun{Entry: "e1"}, nil }),
		journalOf(control.JournalEntry{ID: "e1", Kind: control.JobReconcile, Ended: time.Now(), Outcome: outcome, Error: "AtHoc is away"}),
		control.On(control.ReconcileReport, func(_ context.Context, p control.Page) (control.ReconcileAnswer, error) {
			part := report
			part.Users, part.Next = report.Users[p.After:min(p.After+1, len(report.Users))], 0
			if p.After+1 < len(report.Users) {
				part.Next = p.After + 1
			}

			return part, nil
		}))

	return heard, stop
}

func TestReconcile(t *testing.T) {
	r := newResponders(t)
	differ := control.ReconcileAnswer{
		Entry: "e1", Compared: 500, Unmanaged: 1, Differing: 2, Users: []control.DifferingUser{
			{User: "a@example.org", Employee: "1", Holds: "17/06/2024 14:30:00", Why: "somebody has edited it in AtHoc"},
			{User: "b@example.org", Employee: "2", Wanted: "17/06/2024 15:30:00", Why: "AtHoc was restored"},
		},
	}
	heard, stop := r.comparison(differ, control.OutcomeOK)

	out := r.succeeds("reconcile")
	for _, want := range []string{
		"something else than it should for 2 of 500 users. Nothing was sent; bobosync reconcile --apply corrects it.", "1 user with a duty status",
		"a@example.org", "17/06/2024 14:30:00", "off duty", "somebody has edited it", "b@example.org",
	} {
		require.Contains(t, out, want)
	}

	r.succeeds("reconcile", "--dry-run")
	r.fails(2, "nothing without --apply", "reconcile", "--force")
	require.Equal(t, []control.ReconcileRequest{{By: client.Whoami()}, {By: client.Whoami()}}, heard.got())
	var told control.ReconcileAnswer
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("reconcile", "--last", "--json")), &told))
	require.Len(t, told.Users, 2)
	require.Len(t, heard.got(), 2, "--last makes no new one")
	stop()

	differ.TooMany = "2 of 500 users differ, which is more than 0 %"
	_, stop = r.comparison(differ, control.OutcomeOK)
	require.Contains(t, r.succeeds("reconcile"), "something else than it should: 2 of 500 users differ, which is more than 0 %.\nNothing was sent, and sending it would be held back. Look at the list.")
	stop()

	differ.Applied, differ.TooMany = 2, ""
	heard, stop = r.comparison(differ, control.OutcomeOK)
	require.Contains(t, r.succeeds("reconcile", "--apply", "--force"), "2 were sent the right status")
	require.Equal(t, []control.ReconcileRequest{{Apply: true, Force: true, By: client.Whoami()}}, heard.got())
	stop()

	differ.Applied, differ.Held = 0, "2 of 500 differ, more than 0 %"
	_, stop = r.comparison(differ, control.OutcomeHeld)
	require.Contains(t, r.fails(1, "HELD BACK, nothing was sent: 2 of 500", "reconcile", "--apply"), "bobosync reconcile --apply --force")
	stop()

	_, stop = r.comparison(control.ReconcileAnswer{Entry: "e1", Compared: 500}, control.OutcomeOK)
	require.Contains(t, r.succeeds("reconcile"), "holds what it should for all of 500 users")
	stop()
	_, stop = r.comparison(control.ReconcileAnswer{Entry: "e0"}, control.OutcomeOK)
	r.fails(1, "another comparison was made meanwhile", "reconcile")
	stop()
	_, stop = r.comparison(control.ReconcileAnswer{}, control.OutcomeFailed)
	r.fails(1, "the comparison failed: AtHoc is away", "reconcile")
	require.Contains(t, r.succeeds("reconcile", "--last"), "No comparison has been made yet")
	stop()
}

func TestJournal(t *testing.T) {
	r := newResponders(t)
	r.fails(1, "no such service answers", "journal")

	now := time.Now().Truncate(time.Second)
	at := func(hours int) time.Time { return now.Add(-time.Duration(hours) * time.Hour) }
	entries := []control.JournalEntry{
		{ID: "3", Kind: control.JobMapping, Started: at(1), Ended: at(1).Add(time.Second), Outcome: control.OutcomeOK, Counts: map[string]int{"added": 4}},
		{ID: "2", Kind: control.KindOperator, By: "jo@desk", Started: at(3), Ended: at(3), Outcome: control.OutcomeOK, Text: "dead letters dropped"},
		{ID: "1", Kind: control.JobCleanup, Started: at(30), Outcome: control.OutcomeFailed, Error: "AtHoc is away"},
	}

	var heard asked[control.JournalRequest]
	r.serve(topology.Janitor, hears(&heard, control.Journal, func(req control.JournalRequest) (control.JournalAnswer, error) {
		var answer control.JournalAnswer
		for _, e := range entries { // one at a time, so that the rest must be requested
			if req.Kind != "" && e.Kind != req.Kind || e.Started.Before(req.Since) || req.Before != "" && e.ID >= req.Before {
				continue
			}

			if answer.More = len(answer.Entries) == 1; answer.More {
				break
			}

			answer.Entries = append(answer.Entries, e)
		}

		return answer, nil
	}))
	out, text, status := r.call("journal")
	require.Equal(t, 0, status)
	require.Contains(t, text, "warning: something is missing here: ask the ingest")
	require.Contains(t, text, "ask the resolver")
	require.Equal(t, 4, strings.Count(out, "\n"))

	r.serve(topology.Ingest, says(control.Files, control.FilesAnswer{Files: []control.FileState{
		{ID: fileA, Name: "monday.csv", Rows: 5, Rejected: 1, FirstSeen: at(2), Finished: at(2).Add(90 * time.Second), Outcomes: map[string]int{"applied": 3, "unmapped": 1, "columns": 1}},
		{ID: "b", Name: "open.csv", FirstSeen: at(0)},
	}}))
	r.serve(topology.Resolver, says(control.Replays, []control.ReplayState{{ID: "r", By: "jo@desk", What: "everyone", Started: at(4), Users: 9, Left: 2}}))
	var all []control.JournalEntry
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("journal", "--json")), &all))

	var kinds []string
	for _, e := range all {
		kinds = append(kinds, e.Kind)
	}

	require.Equal(t, []string{"mapping", "file", "operator", "replay", "cleanup"}, kinds, "newest first")
	require.Equal(t, map[string]int{"rows": 5, "rejected": 1, "applied": 3, "unmapped": 1}, all[1].Counts)

	out = r.succeeds("journal")
	for _, want := range []string{"monday.csv: 5 rows, 3 applied, 1 rejected, 1 unmapped", "1 min", "jo@desk", "under way", "everyone: 2 left, 9 users", "failed"} {
		require.Contains(t, out, want)
	}

	require.NotContains(t, out, "open.csv")

	count := func(args ...string) int {
		var some []control.JournalEntry
		require.NoError(t, json.Unmarshal([]byte(r.succeeds(append([]string{"journal", "--json"}, args...)...)), &some))
		return len(some)
	}
	require.Equal(t, 4, count("--since", "5h"))
	require.Equal(t, 1, count("--kind", "file"))
	require.Equal(t, 1, count("--kind", "replay"))
	require.Equal(t, 1, count("--kind", "cleanup"))
	require.Equal(t, 2, count("--most", "2"))
	require.Equal(t, 0, count("--kind", "purge"))
	require.Contains(t, r.succeeds("journal", "--kind", "purge"), "Nothing of that was done")
	r.fails(2, `"lunch" is no kind`, "journal", "--kind", "lunch")
	r.fails(2, `"soon" is no time`, "journal", "--since", "soon")
	r.fails(2, "at least 1", "journal", "--most", "0")
}

// TestFilesSay checks the sentences that say why a file is not finished.
func TestFilesSay(t *testing.T) {
	r := newResponders(t)
	files := map[string]control.FileState{
		"waiting.csv": {Status: "waiting", Rows: 9, Pending: 4, FirstSeen: time.Now()},
		"reading.csv": {Status: "reading"},
		"settled.csv": {Status: "done"},
		"moved.csv":   {Status: "moved", Finished: time.Now(), Rows: 2},
		"dead.csv":    {Status: "moved", Failed: true, Outcomes: map[string]int{"dead": 3}},
		"picture.csv": {Status: "moved", Failed: true, Problem: "it is no text"},
	}
	now := time.Now()
	me := control.Instance{Name: "a/1", Version: "v1", Started: now}
	rows := []control.RowState{{Line: 3, Outcome: "columns", Text: `it has 4, "not" 10`}, {Line: 7, Outcome: "unmapped", Text: "nobody, so far"}}
	r.serve(topology.Ingest,
		states(control.IngestState{Instance: me, FreeBytes: 9 << 30, Unsettled: map[string]time.Time{"growing.csv": now}}),
		control.On(control.Files, func(_ context.Context, req control.FilesRequest) (control.FilesAnswer, error) {
			var answer control.FilesAnswer
			for name, f := range files {
				if req.Text == "" || req.Text == name {
					f.Name, f.ID = name, fileA
					answer.Files = append(answer.Files, f)
				}
			}

			return answer, nil
		}),
		control.On(control.FileRows, func(_ context.Context, req control.RowsRequest) (control.RowsAnswer, error) {
			if req.After == 0 {
				return control.RowsAnswer{Rows: rows[:1], More: true}, nil
			}
			return control.RowsAnswer{Rows: rows[1:]}, nil
		}))
	r.serve(topology.Resolver, states(control.ResolverState{Instance: me, Recovered: true, Snapshot: "s"}))
	r.serve(topology.Publisher, states(control.PublisherState{Instance: me}))
	require.Contains(t, r.succeeds("files", "show", "waiting.csv"), "4 of its 9 rows are not settled yet. Nothing is broken: it goes on by itself.")

	for name, want := range map[string]string{
		"reading.csv": "It is being read", "settled.csv": "still to be moved out of CSV_DIRECTORY", "moved.csv": "all of its rows are settled.",
		"dead.csv": "will never take 3 rows of it as they are: bobosync dead list --file " + fileA[:12], "picture.csv": "cannot be read as text: it is no text",
	} {
		require.Contains(t, r.succeeds("files", "show", name), want)
	}

	// An outage is given as the reason.
	state, err := r.conn.JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	down, err := json.Marshal(breaker.State{Class: breaker.Outage, Since: now, ProbeAt: now, Cause: "connection refused"})
	require.NoError(t, err)
	_, err = state.Put(t.Context(), breaker.Key, down)
	require.NoError(t, err)
	require.Regexp(t, `4 of its 9 rows are not settled yet. The reason: AtHoc is down since .*: connection refused\.`, r.succeeds("files", "show", "waiting.csv"))
	require.NotContains(t, r.succeeds("files", "show", "moved.csv"), "connection refused")
	var told struct {
		Where string
		Lines []control.RowState
	}
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("files", "show", "waiting.csv", "--json")), &told))
	require.Contains(t, told.Where, "connection refused")
	require.Equal(t, rows, told.Lines)

	records, err := csv.NewReader(strings.NewReader(r.succeeds("files", "show", "moved.csv", "--csv"))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"file", "line", "outcome", "reason"}, {"moved.csv", "3", "columns", `it has 4, "not" 10`}, {"moved.csv", "7", "unmapped", "nobody, so far"},
	}, records)

	r.fails(1, "growing.csv keeps changing since", "files", "show", "growing.csv")
	r.fails(1, `no file "sunday.csv" is known: bobosync files list`, "files", "show", "sunday.csv")
	out := r.succeeds("files", "list", "--failed")
	require.Contains(t, out, "dead.csv")
	require.Contains(t, out, "picture.csv")
	require.NotContains(t, out, "waiting.csv")
	require.Contains(t, r.succeeds("files", "list"), "waiting.csv")
}

// TestFilesListNamesFeeds checks that the list names the feeds if there are several.
func TestFilesListNamesFeeds(t *testing.T) {
	r := newResponders(t)
	list := func(feed string) string {
		stop := r.serve(topology.Ingest, says(control.Files, control.FilesAnswer{Files: []control.FileState{{ID: fileA, Name: "a.csv", Feed: feed}}}))
		defer stop()
		return r.succeeds("files", "list")
	}
	require.NotContains(t, list(control.DefaultFeed), "FEED")
	require.NotContains(t, list(""), "FEED")
	require.Regexp(t, `(?s)ID +FEED +NAME.* north +a\.csv`, list("north"))
}

// TestOrdersAreNoted checks that what an operator does is in the janitor's journal, and that it is done even without a
// janitor.
func TestOrdersAreNoted(t *testing.T) {
	r := newResponders(t)
	bury := func(reasons ...string) {
		for _, reason := range reasons {
			l := event.DeadLetter{Service: "resolver", Reason: reason, Subject: topology.SubjectMapping}
			_, err := r.conn.JS.Publish(t.Context(), topology.DeadSubject("resolver"), event.Encode(&l))
			require.NoError(t, err)
		}
	}

	var named []uint64
	r.serve(topology.Resolver,
		control.On(control.DeadDrop, func(_ context.Context, req control.DeadRequest) ([]control.DeadResult, error) {
			named = append(named, req.IDs...)
			return []control.DeadResult{{ID: req.IDs[0], Did: "dropped"}}, nil
		}),
		says(control.DeadRequeue, []control.DeadResult{{ID: 3, Error: "a part of a mapping can only be dropped"}}),
		says(control.DeadForecast, control.RequeueForecast{Sent: 2, Overtaken: 1, ReadAgain: 1, Refused: map[string]int{"it is\x1b gone": 1}}),
		says(control.Replay, control.ReplayState{ID: "0195d3", Users: 7}),
		says(control.StopReplay, control.ReplayState{ID: "0195d3", Users: 7, Left: 5}))
	bury("one")

	out, text, status := r.call("dead", "drop", "--all")
	require.Equal(t, 0, status)
	require.Equal(t, "1: dropped\n", out)
	require.Contains(t, text, "warning: this is done, but the journal has no note of it")

	var heard asked[control.JournalEntry]
	r.serve(topology.Janitor, hears(&heard, control.JournalNote, func(control.JournalEntry) (control.Nothing, error) { return control.Nothing{}, nil }))
	bury("two", "three")
	r.succeeds("dead", "drop", "2")
	out = r.succeeds("dead", "requeue", "3", "--dry-run")
	require.Contains(t, out, "2 would be sent; of 1 a newer booking has won, so nothing would be sent; 1 would be read again; 1 could not be tried: it is")
	require.NotContains(t, out, "\x1b")
	require.Contains(t, r.succeeds("dead", "requeue", "3", "--dry-run", "--json"), `"overtaken": 1`)
	r.fails(1, "1 of 1 dead letters stay", "dead", "requeue", "3")
	r.succeeds("dead", "drop", "--reason", "nothing like it")
	r.succeeds("replay", "--all", "--dry-run")
	r.succeeds("replay", "--all")
	var stopped control.ReplayState
	require.NoError(t, json.Unmarshal([]byte(r.succeeds("replay", "stop", "0195d3", "--json")), &stopped))
	require.Equal(t, 5, stopped.Left)

	var texts []string
	for _, e := range heard.got() {
		require.Equal(t, control.KindOperator, e.Kind)
		require.Equal(t, client.Whoami(), e.By)
		require.False(t, e.Started.IsZero() || e.Ended.IsZero())
		texts = append(texts, e.Outcome+" "+e.Text+" "+client.Counts(e.Counts))
	}

	require.Equal(t, []string{
		"ok dead letters dropped 1 dropped", "failed dead letters requeued 1 failed",
		"ok replay 0195d3 begun 7 users", "ok replay 0195d3 stopped 5 left, 7 users",
	}, texts, "dry runs and what found nothing are no orders")
	require.Equal(t, []uint64{1, 2}, named)
}

// TestManyDeadLettersAreRead checks dead letters that do not fit into one request and have gaps in their numbers.
func TestManyDeadLettersAreRead(t *testing.T) {
	r := newResponders(t)
	const many = 2*client.LettersAtOnce + 10
	for n := range many {
		l := event.DeadLetter{Service: "publisher", Reason: strconv.Itoa(n)}
		_, err := r.conn.JS.PublishAsync(topology.DeadSubject("publisher"), event.Encode(&l))
		require.NoError(t, err)
	}

	select {
	case <-r.conn.JS.PublishAsyncComplete():
	case <-time.After(timeout):
		t.Fatal("not published")
	}

	stream, err := r.conn.JS.Stream(t.Context(), topology.StreamDead)
	require.NoError(t, err)

	for _, seq := range []uint64{1, client.LettersAtOnce, client.LettersAtOnce + 1, many} {
		require.NoError(t, stream.DeleteMsg(t.Context(), seq))
	}

	letters, err := client.DeadLetters(t.Context(), r.conn.JS)
	require.NoError(t, err)
	require.Len(t, letters, many-4)
	require.Equal(t, uint64(2), letters[0].ID)
	require.Equal(t, uint64(many-1), letters[len(letters)-1].ID)
	require.Equal(t, "[]\n", r.succeeds("dead", "list", "--json", "--reason", "no such"))
	require.NoError(t, stream.Purge(t.Context()))
	require.Equal(t, "[]\n", r.succeeds("dead", "list", "--json"))
}
