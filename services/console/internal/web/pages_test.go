package web

// Every page in every state, for each role: what a page must never contain, and how large it may be.

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/services/console/internal/snapshot"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

const (
	// hostile is a text as somebody else may choose it: a file's name, an id, AtHoc's words.
	hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202egpj\x1b[2J\n&\"'"
	// person is part of everything that only operators may see.
	person = "secret-person"
)

var night = time.Date(2026, 6, 17, 3, 12, 7, 0, time.UTC)

// well returns the facts when nothing is wrong.
func well() verdict.Facts {
	one := control.Instance{Name: "a/1", Version: "v1.2.3", Started: night.Add(-72 * time.Hour)}

	return verdict.Facts{
		At: night,
		Ingest: []control.IngestState{{
			Instance: one, LastFile: night.Add(-time.Minute), FreeBytes: 50 << 30, Today: control.FileCounts{Done: 3, Rows: 90, Rejected: 2},
			Freshness: &control.Freshness{CompleteUpTo: night, LateAfterMS: 120_000, Rows: 7, Worst: &control.WorstRow{File: "north.csv"}},
			Feeds:     []control.FeedState{{Name: "default", Learnt: true, LastFile: night.Add(-time.Minute), Usual: control.UsualHour{Begin: night, Hours: 6, Least: 40, Most: 70, GapSeconds: 600}}},
		}},
		Resolver:  []control.ResolverState{{Instance: one, Recovered: true, Workers: 20000, OnDuty: 412, Snapshot: "s", Mapped: 20100}},
		Publisher: []control.PublisherState{{Instance: one, Partitions: []int{1, 3}, LastSuccess: night.Add(-time.Minute)}},
		Janitor: []control.JanitorState{{Instance: one, Leads: true, Jobs: []control.Job{
			{Name: control.JobMapping, LastSuccess: night.Add(-6 * time.Hour), Next: night.Add(18 * time.Hour)},
		}}},
		Breaker: &breaker.State{},
	}
}

// states returns the facts with which pages are tested, by name.
func states() map[string]verdict.Facts {
	away := verdict.Facts{At: night, Unreachable: &verdict.Unreachable{Cause: verdict.CauseBroker, Text: "the broker cannot be reached", Do: "start it"}}
	outage, held, paused, empty := well(), well(), well(), verdict.Facts{At: night}
	outage.Breaker = &breaker.State{Class: breaker.Outage, Since: night.Add(-14 * time.Minute), ProbeAt: night, Cause: hostile}
	outage.Ingest[0].Waiting, outage.Ingest[0].Oldest = 2, night.Add(-14*time.Minute)
	outage.Ingest[0].Freshness.First, outage.Ingest[0].Freshness.Waiting, outage.Ingest[0].Freshness.LagMS = hostile, 2, 840_000
	outage.Ingest[0].Unsettled = map[string]time.Time{hostile: night.Add(-time.Hour)}
	outage.Ingest[0].Problems = map[string]control.Problem{hostile: {Reason: hostile, Since: night.Add(-time.Hour)}}
	outage.Publisher = nil
	held.Resolver[0].Guard = &control.GuardState{Mode: "hold", Holding: true, Held: []control.HeldGroup{{ID: "off-1", Kind: "off", Users: 180, Since: night.Add(-time.Hour), Allowed: 20}}}
	held.Janitor[0].Held = &control.HeldMapping{ID: "m", Since: night, Removed: 44, Reason: hostile}
	paused.Pause = &breaker.Pause{By: hostile, Reason: hostile, At: night.Add(-time.Minute), Until: night.Add(time.Hour)}

	return map[string]verdict.Facts{"well": well(), "outage": outage, "held": held, "paused": paused, "empty": empty, "away": away}
}

// played serves the services' answers: everything in them that others choose is hostile, and everything that only
// operators may see names a person.
func played(t *testing.T, conn *bus.Conn) {
	t.Helper()

	file := control.FileState{
		ID: strings.Repeat("ab", 32), Name: hostile, Status: "waiting", Rows: 100, Rejected: 2, Pending: 40, Outcomes: map[string]int{"applied": 58, "columns": 2, "pending": 40},
		FirstSeen: night.Add(-time.Hour), History: []control.Note{{At: night, Text: hostile}}, Paths: []string{"in/" + hostile},
	}
	serve(t, conn, topology.Ingest,
		control.On(control.Bookings, func(context.Context, control.BookingsRequest) (control.BookingsAnswer, error) {
			return control.BookingsAnswer{Bookings: []control.Booking{{File: "f", Name: hostile, Line: 3, At: night, Arrived: night, Text: hostile}}, Gone: 1, Unread: 2}, nil
		}),
		control.On(control.Files, func(context.Context, control.FilesRequest) (control.FilesAnswer, error) {
			return control.FilesAnswer{Files: []control.FileState{file}, Problems: map[string]control.Problem{hostile: {Reason: hostile, Since: night}}}, nil
		}),
		control.On(control.FileRows, func(context.Context, control.RowsRequest) (control.RowsAnswer, error) {
			return control.RowsAnswer{Rows: []control.RowState{{Line: 3, Outcome: "columns", Text: hostile}}}, nil
		}))
}

// playedPersons serves the answers of the services that know persons.
func playedPersons(t *testing.T, conn *bus.Conn) {
	t.Helper()

	group := control.HeldGroup{ID: "off-1", Kind: "off", Users: 180, Since: night.Add(-time.Hour), Allowed: 20, By: hostile, Reason: hostile}
	told := control.DeliveryAnswer{User: person, On: true, Booked: night, File: "f", Line: 3, Outcome: hostile, Call: hostile, Publisher: hostile, Sent: night, Answered: night}
	serve(t, conn, topology.Resolver,
		control.On(control.Held, func(context.Context, control.Nothing) (control.HeldAnswer, error) {
			return control.HeldAnswer{GuardState: control.GuardState{Mode: "hold", Holding: true, Held: []control.HeldGroup{group}}, OnDuty: 412}, nil
		}),
		control.On(control.HeldShow, func(context.Context, control.HeldRequest) (control.HeldSet, error) {
			return control.HeldSet{HeldGroup: group, Token: "t", Files: map[string]int{hostile: 3}, Workers: []control.HeldWorker{{Employee: person, User: hostile, At: night}}}, nil
		}),
		control.On(control.WorkerShow, func(context.Context, control.WorkerRequest) (control.WorkerAnswer, error) {
			return control.WorkerAnswer{Employee: person, User: hostile, Status: hostile, Latest: &control.WorkerEvent{On: true, At: night, File: "f", Row: 3}}, nil
		}),
		control.On(control.Replays, func(context.Context, control.Nothing) ([]control.ReplayState, error) {
			return []control.ReplayState{{ID: "r", By: hostile, What: "worker " + person, Started: night, Users: 3}}, nil
		}),
		control.On(control.WorkerPast, func(context.Context, control.PastRequest) (control.PastAnswer, error) {
			return control.PastAnswer{Employee: person, User: hostile, At: night, State: history.Uncertain, Confirmed: &told, Deliveries: []control.DeliveryAnswer{told, {}}, Doubts: []control.DeliveryAnswer{told}}, nil
		}),
		control.On(control.OnDuty, func(context.Context, control.OnDutyRequest) (control.OnDutyAnswer, error) {
			return control.OnDutyAnswer{At: night, Total: 1, Uncertain: 1, Workers: []control.OnDutyWorker{{Employee: person, User: hostile, State: history.Uncertain}}}, nil
		}),
		control.On(control.FileCalls, func(context.Context, control.FileCallsRequest) (control.FileCallsAnswer, error) {
			return control.FileCallsAnswer{Deliveries: []control.DeliveryAnswer{told}}, nil
		}),
		control.On(control.ReplayForecast, func(context.Context, control.ReplayRequest) (control.ReplayState, error) {
			return control.ReplayState{What: "user " + person, Users: 200}, nil
		}),
		control.On(control.DeadForecast, func(context.Context, control.DeadRequest) (control.RequeueForecast, error) {
			return control.RequeueForecast{Sent: 1, Overtaken: 1, Refused: map[string]int{hostile: 1}}, nil
		}),
		control.On(control.MappingList, func(context.Context, control.MappingListRequest) (control.MappingListAnswer, error) {
			return control.MappingListAnswer{Pairs: []control.MappingPair{{Employee: person, User: hostile}}}, nil
		}))
	serve(t, conn, topology.Janitor,
		control.On(control.MappingShow, func(context.Context, control.Nothing) (control.MappingReport, error) {
			return control.MappingReport{Snapshot: "s", Mapped: 100, Ambiguous: map[string][]string{person: {hostile}}}, nil
		}),
		control.On(control.ReconcileReport, func(context.Context, control.Page) (control.ReconcileAnswer, error) {
			return control.ReconcileAnswer{Entry: "e", Compared: 9, Differing: 1, Users: []control.DifferingUser{{User: person, Employee: person, Holds: hostile, Why: hostile}}}, nil
		}),
		control.On(control.Journal, func(context.Context, control.JournalRequest) (control.JournalAnswer, error) {
			return control.JournalAnswer{Entries: []control.JournalEntry{
				{ID: "j", Kind: control.KindOperator, By: hostile, Started: night, Ended: night, Outcome: control.OutcomeOK, Text: hostile},
				{ID: "i", Kind: control.KindVerdict, Started: night.Add(-14 * time.Minute), Ended: night.Add(-time.Minute), Outcome: "problem", Text: hostile},
			}}, nil
		}))
}

func serve(t *testing.T, conn *bus.Conn, service topology.Service, endpoints ...control.Endpoint) {
	t.Helper()
	stop, err := control.Serve(t.Context(), conn.NC, service, "v1.2.3", endpoints...)
	require.NoError(t, err)
	t.Cleanup(stop)
}

// site returns a Site that makes pages of these facts for this user.
func site(t *testing.T, conn *bus.Conn, facts verdict.Facts, who auth.Identity) *Site {
	t.Helper()

	collector := snapshot.New(func(context.Context) (verdict.Facts, error) { return facts, nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- collector.Run(ctx) }()

	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})

	connect := func(context.Context) (*bus.Conn, error) { return conn, nil }
	s, err := New(Options{Facts: collector, Reads: connect, Orders: connect, Version: "v1.2.3", Log: bustest.Logger()})
	require.NoError(t, err)

	s.who = func(context.Context) auth.Identity { return who }
	s.refuse = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }

	return s
}

func get(t *testing.T, s *Site, path string) (int, string) {
	t.Helper()

	w := httptest.NewRecorder()
	s.mux().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))

	return w.Code, w.Body.String()
}

func zipped(t *testing.T, content []byte) int {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	return b.Len()
}

// paths returns the paths of all views, with an id for those that need one, and with the CSV and JSON of lists.
func paths(s *Site, role auth.Role) (all []string) {
	for _, v := range views {
		switch {
		case v.least > role, v.path == pathGiven: // tested by TestAHostileReason
			continue
		case role == auth.Approver && v.least < role: // operators see the same
			continue
		case v.path == "/help/":
			for _, c := range chapters {
				all = append(all, v.path+c.name)
			}

			all = append(all, v.path+"keys")
		case v.path == "/decisions/":
			all = append(all, v.path+"off-1")
		case v.path == "/report":
			all = append(all, v.path, v.path+"?shift=night", v.path+"?from=2026-06-16", v.path+"?to="+url.QueryEscape(hostile))
			continue
		case v.path == "/worker":
			all = append(all, v.path, v.path+"?q=1", v.path+"?q=1&at=2026-06-17+03:12", v.path+"?q=1&at="+url.QueryEscape(hostile), v.path+"?q=1&bookings=1")
			continue
		case v.path == "/mapping", strings.HasPrefix(v.path, pathOrders):
			all = append(all, v.path, v.path+"?q=1&id=1&feed=default&whom=users&which=1")
			continue
		case v.below:
			all = append(all, v.path+strings.Repeat("ab", 32))
		default:
			all = append(all, v.path)
		}

		if v.list && v.least <= role {
			path := all[len(all)-1]
			all = append(all, path+".csv", path+".json")
		}
	}

	return all
}

var (
	inline = regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^<\s]|<style|\sstyle=|\son[a-z]+\s*=\s*["']?[a-z]|javascript:|hx-on|hx-vals|hx-trigger`)
	secret = regexp.MustCompile(regexp.QuoteMeta(person))
)

// TestEveryPage checks that no page has code or style of its own or shows what others chose as anything but text, and
// that users who may not see persons see none.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{Replicas: 1}, topology.Resolver))
	played(t, conn)
	playedPersons(t, conn)

	letter, err := json.Marshal(event.DeadLetter{Service: "resolver", Reason: hostile, Payload: []byte(person), Died: night})
	require.NoError(t, err)
	_, err = conn.JS.Publish(t.Context(), topology.DeadSubject("resolver"), letter)
	require.NoError(t, err)

	for state, facts := range states() {
		for _, role := range []auth.Role{auth.Nobody, auth.Wall, auth.Viewer, auth.Operator, auth.Approver} {
			s := site(t, conn, facts, auth.Identity{Name: hostile, Role: role})
			for _, path := range paths(s, role) {
				code, body := get(t, s, path)
				require.NotEqual(t, http.StatusInternalServerError, code, "%s %s", state, path)

				if facts.Reached() {
					require.Equal(t, http.StatusOK, code, "%s %s: %s", state, path, body)
				}

				checkBody(t, state+" "+path, path, body, role)
			}
		}
	}
}

func checkBody(t *testing.T, what, path, body string, role auth.Role) {
	t.Helper()
	require.NotContains(t, body, "\u202e", what)
	require.NotContains(t, body, "\x1b", what)

	if role < auth.Operator {
		require.False(t, secret.MatchString(body), "%s shows a person", what)
	}

	if strings.HasSuffix(path, ".csv") || strings.HasSuffix(path, ".json") {
		return
	}

	require.NotContains(t, body, "<img", what)
	require.NotContains(t, body, "<script>", what)

	if at := inline.FindString(strings.ReplaceAll(body, html.EscapeString("onerror=alert"), "")); !strings.HasPrefix(path, "/help/") {
		require.Empty(t, at, what)
	}

	limit := 30 << 10
	if path == "/" || path == "/wall" {
		limit = 12 << 10
	}

	if !strings.HasPrefix(path, "/help") && len(body) > limit { // otherwise it is smaller still when compressed
		require.LessOrEqual(t, zipped(t, []byte(body)), limit, what)
	}

	require.Contains(t, body, `<html lang="en"`, what)

	if strings.Contains(body, "hx-sse:connect") {
		address, _, _ := strings.Cut(path, "?")
		v, _, _ := findView(address)
		require.True(t, v.live, what)
	}

	require.Equal(t, strings.Count(body, "<table"), strings.Count(body, "<caption")+strings.Count(body, `<table class="manual"`), "%s: a table without a caption", what)
}

// TestAPageComesAgainWithoutScripts checks that a page without scripts reloads itself by an address that keeps nobody
// logged in, and that none of its links has that address.
func TestAPageComesAgainWithoutScripts(t *testing.T) {
	t.Parallel()

	s := site(t, bustest.Start(t).Connect(t), states()["well"], auth.Identity{Name: "v", Role: auth.Viewer})
	for path, want := range map[string]string{"/": "15;url=/?refresh=", `/?q=a"b&refresh=`: "15;url=/?q=a%22b&amp;refresh="} {
		_, body := get(t, s, path)
		require.Contains(t, body, `<noscript><meta http-equiv="refresh" content="`+want+`"></noscript>`)
		require.Equal(t, 1, strings.Count(body, "refresh="))
	}
}

// TestTheWallNamesNobody checks that the wall page names nobody: everybody who passes by can see it.
func TestTheWallNamesNobody(t *testing.T) {
	t.Parallel()

	facts := well()
	facts.Pause = &breaker.Pause{By: person, Reason: "after a call of " + person, At: night.Add(-time.Minute), Until: night.Add(time.Hour)}
	for role, named := range map[auth.Role]bool{auth.Wall: false, auth.Viewer: true} {
		code, body := get(t, site(t, nil, facts, auth.Identity{Role: role}), "/wall")
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, "PAUSED until")
		require.Equal(t, named, strings.Contains(body, person), role)
	}
}

// TestSizesOfAssets checks the sizes of what a browser loads in addition to a page.
func TestSizesOfAssets(t *testing.T) {
	t.Parallel()

	a, err := loadAssets()
	require.NoError(t, err)

	total := 0
	for name, hashed := range a.names {
		size := zipped(t, a.content[hashed])
		switch {
		case name == "console.css":
			require.LessOrEqual(t, size, 10<<10, name)
		case strings.HasSuffix(name, ".js"):
			total += size
		}

		if name == "console.js" {
			require.LessOrEqual(t, size, 3<<10, name)
		}
	}

	require.LessOrEqual(t, total, 25<<10, "scripts")
}

// TestLive checks that a page receives at once what it shows, in whole parts, and the heartbeat that says that it is
// live.
func TestLive(t *testing.T) {
	t.Parallel()
	s := site(t, nil, well(), auth.Identity{Role: auth.Viewer})

	server := httptest.NewServer(s.mux())
	defer server.Close()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live?page=%2F", nil)

	require.NoError(t, err)
	res, err := server.Client().Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()

	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))

	var heard strings.Builder
	for !strings.Contains(heard.String(), "event: beat\n") {
		part := make([]byte, 4096)
		n, err := res.Body.Read(part)
		require.NotErrorIs(t, err, io.EOF)
		require.NoError(t, err)
		heard.Write(part[:n])
	}

	require.Contains(t, heard.String(), `data: <hx-partial hx-target="#page"`)
	require.Equal(t, 1, strings.Count(heard.String(), `hx-target="#page"`), "what has not changed is not sent again")

	for _, path := range []string{"https://example.org/", "//example.org/", "/nothing", "/assets/x"} {
		code, _ := get(t, s, "/live?page="+path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
}

// TestWhoMayNotIsRefused checks that each address is closed to roles lower than its own.
func TestWhoMayNotIsRefused(t *testing.T) {
	t.Parallel()

	s := site(t, nil, well(), auth.Identity{})
	for _, route := range s.Routes() {
		method, path, _ := strings.Cut(route.Pattern, " ")
		if route.Least == auth.Nobody {
			continue
		}

		path = strings.NewReplacer("{$}", "", "{id}", "x").Replace(path)
		w := httptest.NewRecorder()
		s.mux().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		require.Equal(t, http.StatusForbidden, w.Code, route.Pattern)
	}
}
