package web

// Orders as their forms send them, to services that the test plays; cmd/bobosync tests them with the real ones.

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/services/console/internal/snapshot"
	"bobosync/shared/audit"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/check"
	"bobosync/shared/control"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

const (
	testPassword = "correct horse battery"
	// testHash is its hash, at the lowest cost of argon2id.
	testHash = "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcyAuLg$XwJU3+17Pqn/THxHN5CMCUoKhHGFEM8WYtaNX72L2y8"
	wallWord = "a token of thirty-two characters"
	home     = "http://127.0.0.1:8470"
)

// guarded is a console with its access control, and services that the test plays.
type guarded struct {
	t       *testing.T
	conn    *bus.Conn
	handler http.Handler
	site    *Site
	// orders counts the orders that reached services.
	orders atomic.Int32
	// held is how many users are in the mass change.
	held  atomic.Int32
	block chan struct{}
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20}, topology.Everyone))
	g := &guarded{t: t, conn: conn}
	g.held.Store(180)
	g.play()

	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("victor viewer "+testHash+"\nolga operator "+testHash+"\nanna approver "+testHash+"\n"), 0o600))
	cfg := auth.Config{Mode: auth.ModeFile, UsersFile: users, WallToken: wallWord}
	logins, err := auth.New(t.Context(), cfg, auth.Options{
		Clock: time.Now, Log: bustest.Logger(), Addr: "127.0.0.1:8470", Directory: t.TempDir(), MayWrite: true,
		State: func(ctx context.Context) (jetstream.KeyValue, error) {
			return conn.JS.KeyValue(ctx, topology.BucketState)
		},
	})
	require.NoError(t, err)

	facts := well()
	facts.At = time.Now()
	facts.Pause = &breaker.Pause{By: "jo", Reason: "a test", At: facts.At.Add(-time.Minute), Until: facts.At.Add(time.Hour)}

	collector := snapshot.New(func(context.Context) (verdict.Facts, error) { return facts, nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- collector.Run(ctx) }()

	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})

	connect := func(context.Context) (*bus.Conn, error) { return conn, nil }
	g.site, err = New(Options{Auth: logins, Facts: collector, Reads: connect, Orders: connect, Version: "v1", Log: bustest.Logger()})
	require.NoError(t, err)

	g.handler = g.site.Handler()

	return g
}

// play answers what the forms of orders ask, and accepts orders.
func (g *guarded) play() {
	t, conn := g.t, g.conn
	serve(t, conn, topology.Resolver,
		control.On(control.Held, func(context.Context, control.Nothing) (control.HeldAnswer, error) {
			return control.HeldAnswer{Decided: []control.HeldGroup{{ID: "off-0", Users: 9, Decision: "rejected"}}}, nil
		}),
		control.On(control.HeldShow, func(_ context.Context, req control.HeldRequest) (control.HeldSet, error) {
			n := int(g.held.Load())
			return control.HeldSet{HeldGroup: control.HeldGroup{ID: req.ID, Kind: "off", Users: n}, Token: fmt.Sprint("t", n)}, nil
		}),
		control.On(control.Replays, func(context.Context, control.Nothing) ([]control.ReplayState, error) {
			return []control.ReplayState{{ID: "r", Started: time.Now(), Users: 3, Left: 2}}, nil
		}),
		control.On(control.ReplayForecast, func(_ context.Context, req control.ReplayRequest) (control.ReplayState, error) {
			return control.ReplayState{Users: 3 + 200*len(req.Users), What: "some"}, nil
		}),
		counted[control.ReplayRequest](g, control.Replay), counted[control.StopRequest](g, control.StopReplay), counted[control.HeldDecision](g, control.HeldDecide),
		counted[control.HeldDecision](g, control.HeldRequeue),
		control.On(control.DeadRequeue, func(_ context.Context, req control.DeadRequest) (done []control.DeadResult, _ error) {
			g.orders.Add(1)

			for _, id := range req.IDs {
				done = append(done, control.DeadResult{ID: id, Did: "is sent again"})
			}

			return done, nil
		}),
		control.On(control.DeadForecast, func(_ context.Context, req control.DeadRequest) (control.RequeueForecast, error) {
			return control.RequeueForecast{Sent: len(req.IDs) - 1, Overtaken: 1}, nil
		}),
		control.On(control.DeadDrop, func(context.Context, control.DeadRequest) ([]control.DeadResult, error) {
			g.orders.Add(1)
			return nil, control.Refuse("not now")
		}),
		g.checks(topology.Resolver))
	serve(t, conn, topology.Publisher, g.checks(topology.Publisher), counted[control.PauseRequest](g, control.Pause), counted[control.RunRequest](g, control.Resume),
		control.On(control.Sending, func(context.Context, control.Nothing) (control.SendingState, error) {
			return control.SendingState{BatchSize: 1, RateLimit: 1}, nil
		}))
	serve(t, conn, topology.Ingest, g.checks(topology.Ingest), counted[control.FeedMuteRequest](g, control.MuteFeed))
	serve(t, conn, topology.Janitor, g.checks(topology.Janitor), counted[control.RunRequest](g, control.MappingRefresh), counted[control.ApproveRequest](g, control.MappingApprove), counted[control.ReconcileRequest](g, control.Reconcile),
		control.On(control.MappingShow, func(context.Context, control.Nothing) (control.MappingReport, error) {
			return control.MappingReport{Snapshot: "s", Held: &control.HeldMapping{ID: "m", Removed: 44}}, nil
		}),
		control.On(control.MappingHeld, func(context.Context, control.Nothing) (control.MappingDifference, error) {
			return control.MappingDifference{ID: "m", Removed: []control.MappingChange{{Employee: "00017", Before: hostile}}, Changed: []control.MappingChange{{Employee: "00018", Before: "x", After: "y"}}}, nil
		}),
		control.On(control.ReconcileReport, func(context.Context, control.Page) (control.ReconcileAnswer, error) {
			return control.ReconcileAnswer{Entry: "e", Compared: 9, Differing: 7, Held: "too many", Users: []control.DifferingUser{{User: "x"}}}, nil
		}),
		control.On(control.JournalNote, func(context.Context, control.JournalEntry) (control.Nothing, error) { return control.Nothing{}, nil }))
}

// counted accepts an order and counts it.
func counted[Req any](g *guarded, name string) control.Endpoint {
	return control.On(name, func(context.Context, Req) (map[string]string, error) {
		g.orders.Add(1)

		if g.block != nil {
			<-g.block
		}

		return map[string]string{"id": "x"}, nil
	})
}

// checks makes a service check what it needs: ingest finds something, and the publisher fails.
func (g *guarded) checks(service topology.Service) control.Endpoint {
	return control.On(control.Check, func(context.Context, control.RunRequest) ([]check.Result, error) {
		g.orders.Add(1)

		found := []check.Result{{Service: service, Check: "broker", Level: check.OK, Message: "it answers"}}
		switch service {
		case topology.Ingest:
			found = append(found, check.Result{Service: service, Check: "CSV_DIRECTORY", Level: check.Warning, Message: hostile, Advice: "make room"})
		case topology.Publisher:
			return nil, control.Refuse("no time now")
		}

		return found, nil
	})
}

// visitor is somebody's browser.
type visitor struct {
	*guarded
	cookies []*http.Cookie
	// origin is the site that the visitor's requests come from.
	origin string
}

// as returns the browser of a user with this role.
func (g *guarded) as(role auth.Role) *visitor {
	g.t.Helper()

	v := &visitor{guarded: g, origin: home}
	name := map[auth.Role]string{auth.Viewer: "victor", auth.Operator: "olga", auth.Approver: "anna"}[role]
	switch {
	case role == auth.Wall:
		v.cookies = v.send(http.MethodGet, "/wall?token="+url.QueryEscape(wallWord), nil).Result().Cookies()
	case name != "":
		w := v.send(http.MethodPost, "/login", url.Values{"name": {name}, "password": {testPassword}})
		require.Equal(g.t, http.StatusSeeOther, w.Code)
		v.cookies = w.Result().Cookies()
	}

	return v
}

func (v *visitor) send(method, target string, form url.Values) *httptest.ResponseRecorder {
	v.t.Helper()

	r := httptest.NewRequestWithContext(v.t.Context(), method, home+target, strings.NewReader(form.Encode()))
	r.RemoteAddr = "127.0.0.1:4711"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", v.origin)
	}

	if v.origin != home {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}

	for _, c := range v.cookies {
		r.AddCookie(c)
	}

	w := httptest.NewRecorder()
	v.handler.ServeHTTP(w, r)

	return w
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// form opens an order's form and returns the values that it sends by itself.
func (v *visitor) form(target string) url.Values {
	v.t.Helper()
	w := v.send(http.MethodGet, target, nil)
	require.Equal(v.t, http.StatusOK, w.Code, w.Body)
	_, body, found := strings.Cut(w.Body.String(), `<form class="order" method="post"`)
	require.True(v.t, found, "%s has no form: %s", target, w.Body)

	form := url.Values{}
	body, _, _ = strings.Cut(body, "</form>")
	for _, m := range hiddenField.FindAllStringSubmatch(body, -1) {
		form.Add(m[1], strings.ReplaceAll(m[2], "&#43;", "+"))
	}

	return form
}

// table says who may send what: the least role for each address.
var table = map[string]auth.Role{
	"GET /{$}": auth.Viewer, "GET /assets/{name}": auth.Nobody, "POST /look": auth.Nobody, "GET /live": auth.Wall, "GET /wall": auth.Wall,
	"GET /files": auth.Viewer, "GET /files.csv": auth.Viewer, "GET /files.json": auth.Viewer, "GET /files/{id}": auth.Viewer,
	"GET /decisions": auth.Viewer, "GET /decisions.csv": auth.Viewer, "GET /decisions.json": auth.Viewer, "GET /decisions/{id}": auth.Operator,
	"GET /worker": auth.Operator, "GET /dead": auth.Viewer, "GET /dead.csv": auth.Viewer, "GET /dead.json": auth.Viewer,
	"GET /replay": auth.Viewer, "GET /replay.csv": auth.Viewer, "GET /replay.json": auth.Viewer,
	"GET /reconcile": auth.Viewer, "GET /reconcile.csv": auth.Viewer, "GET /reconcile.json": auth.Viewer,
	"GET /feeds": auth.Viewer, "GET /feeds.csv": auth.Viewer, "GET /feeds.json": auth.Viewer, "GET /mapping": auth.Viewer,
	"GET /journal": auth.Viewer, "GET /journal.csv": auth.Viewer, "GET /journal.json": auth.Viewer,
	"GET /audit": auth.Operator, "GET /audit.csv": auth.Operator, "GET /audit.json": auth.Operator,
	"GET /system": auth.Viewer, "GET /system.csv": auth.Viewer, "GET /system.json": auth.Viewer, "GET /help": auth.Nobody, "GET /help/{id}": auth.Nobody,
	"GET /receipt/{id}": auth.Operator, "GET /onduty": auth.Operator, "GET /onduty.csv": auth.Operator, "GET /onduty.json": auth.Operator, "GET /report": auth.Viewer,
	"GET /given/{id}":   auth.Operator,
	"GET /orders/pause": auth.Operator, "POST /orders/pause": auth.Operator, "GET /orders/resume": auth.Operator, "POST /orders/resume": auth.Operator,
	"GET /orders/mute": auth.Operator, "POST /orders/mute": auth.Operator, "GET /orders/refresh": auth.Operator, "POST /orders/refresh": auth.Operator,
	"GET /orders/check": auth.Operator, "POST /orders/check": auth.Operator,
	"GET /orders/approve-mapping": auth.Approver, "POST /orders/approve-mapping": auth.Approver,
	"GET /orders/requeue": auth.Operator, "POST /orders/requeue": auth.Operator, "GET /orders/drop": auth.Operator, "POST /orders/drop": auth.Operator,
	"GET /orders/replay": auth.Operator, "POST /orders/replay": auth.Operator, "GET /orders/replay-stop": auth.Operator, "POST /orders/replay-stop": auth.Operator,
	"GET /orders/compare": auth.Operator, "POST /orders/compare": auth.Operator, "GET /orders/apply": auth.Operator, "POST /orders/apply": auth.Operator,
	"GET /orders/approve": auth.Approver, "POST /orders/approve": auth.Approver, "GET /orders/reject": auth.Approver, "POST /orders/reject": auth.Approver,
	"GET /orders/take-in": auth.Approver, "POST /orders/take-in": auth.Approver,
}

// TestWhoMayWhat requests each address with every role, from here and from another site. Each request is sent twice,
// and none changes anything.
func TestWhoMayWhat(t *testing.T) {
	t.Parallel()

	g := newGuarded(t)
	for _, origin := range []string{home, "https://evil.example.org"} {
		for role := auth.Nobody; role <= auth.Approver; role++ {
			v := g.as(role)
			v.origin = origin
			for _, route := range g.site.Routes() {
				least, known := table[route.Pattern]
				require.True(t, known, "%s: say in the table who may", route.Pattern)

				method, path, _ := strings.Cut(route.Pattern, " ")
				path = strings.NewReplacer("{$}", "", "{id}", "x", "{name}", "x").Replace(path)
				for range 2 {
					w := v.send(method, path, url.Values{})
					about := fmt.Sprintf("%s by %s from %s: %d", route.Pattern, role, origin, w.Code)
					refused := w.Code == http.StatusForbidden || w.Code == http.StatusUnauthorized || strings.HasPrefix(w.Header().Get("Location"), "/login")
					require.Equal(t, role < least || method == http.MethodPost && origin != home, refused, about)
				}
			}
		}
	}

	require.Zero(t, g.orders.Load())
	chains, err := audit.Load(t.Context(), g.conn.JS)
	require.NoError(t, err)

	for _, e := range chains.Entries() {
		require.Equal(t, audit.Read, e.Kind, "%+v", e)
	}
}

// TestAnOrderIsGivenOnce checks that there is one order, however often its form is sent, at once or later, and that
// each answer leads to its result.
func TestAnOrderIsGivenOnce(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.block = make(chan struct{})
	v := g.as(auth.Operator)
	form := v.form("/orders/pause")
	form.Set("reason", "AtHoc is upgraded")
	form.Set("for", "1h")

	answers := make(chan *httptest.ResponseRecorder, 4)

	send := func() { answers <- v.send(http.MethodPost, "/orders/pause", form) }
	go send()

	await.True(t, func() bool { return g.orders.Load() == 1 }, time.Minute)

	w := v.send(http.MethodPost, "/orders/pause", form) // while the first is under way
	require.Equal(t, pathGiven+form.Get("once"), w.Header().Get("Location"), w.Body)
	require.Contains(t, v.send(http.MethodGet, w.Header().Get("Location"), nil).Body.String(), "is under way")
	close(g.block)

	w = <-answers
	require.Equal(t, pathGiven+form.Get("once"), w.Header().Get("Location"), w.Body)
	w = v.send(http.MethodPost, "/orders/pause", form)
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
	require.EqualValues(t, 1, g.orders.Load())

	other := v.form("/orders/pause")
	other.Set("reason", "at once")
	other.Set("for", "1h")

	for range 4 {
		go func() { answers <- v.send(http.MethodPost, "/orders/pause", other) }()
	}

	for range 4 {
		again := <-answers
		require.Equal(t, pathGiven+other.Get("once"), again.Header().Get("Location"), again.Body)
	}

	require.EqualValues(t, 2, g.orders.Load())

	page := v.send(http.MethodGet, w.Header().Get("Location"), nil).Body.String()
	for _, says := range []string{"the service has done it", "publisher pause", "olga (console, password, 127.0.0.1)", "AtHoc is upgraded", "wait already", form.Get("set")} {
		require.Contains(t, page, says)
	}

	require.Equal(t, http.StatusNotFound, v.send(http.MethodGet, pathGiven+audit.NewFamily(), nil).Code)
}

// TestAHostileReason checks that a hostile reason is shown as plain text, on the form and on the page with the result.
func TestAHostileReason(t *testing.T) {
	t.Parallel()
	v := newGuarded(t).as(auth.Operator)
	form := v.form("/orders/pause")
	form.Set("reason", hostile)
	form.Set("set", "another")
	checkBody(t, "the form", "/orders/pause", v.send(http.MethodPost, "/orders/pause", form).Body.String(), auth.Operator)

	form = v.form("/orders/pause")
	form.Set("reason", hostile)
	w := v.send(http.MethodPost, "/orders/pause", form)
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
	checkBody(t, "the order", "/given/", v.send(http.MethodGet, w.Header().Get("Location"), nil).Body.String(), auth.Operator)
}

// TestOrdersThatAreNotGiven checks orders that lack what the form asks for, that are about another set than was shown,
// or that come from a user who may not give them.
func TestOrdersThatAreNotGiven(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	letter := func() {
		_, err := g.conn.JS.Publish(t.Context(), topology.DeadSubject("resolver"), []byte(`{}`))
		require.NoError(t, err)
	}
	letter()

	anna, olga := g.as(auth.Approver), g.as(auth.Operator)
	for about, c := range map[string]struct {
		who    *visitor
		path   string
		typed  []string
		before func()
		code   int
		says   string
	}{
		"without a reason":            {olga, "/orders/pause", []string{"for", "1h"}, nil, 422, "give a reason"},
		"with blanks for a reason":    {olga, "/orders/pause", []string{"for", "1h", "reason", "  "}, nil, 422, "give a reason"},
		"with a reason without end":   {olga, "/orders/pause", []string{"for", "1h", "reason", strings.Repeat("x", 501)}, nil, 422, "longer than 500"},
		"without the number":          {anna, "/orders/approve?id=off-1", []string{"reason", "r"}, nil, 422, "type the number 180"},
		"with another number":         {anna, "/orders/reject?id=off-1", []string{"reason", "r", "number", "18"}, nil, 422, "type the number 180"},
		"by who may not go so far":    {olga, "/orders/apply", nil, nil, 403, "needs the role approver"},
		"when more came":              {anna, "/orders/approve?id=off-2", []string{"reason", "r", "number", "180"}, func() { g.held.Store(183) }, 409, "3 more came since you looked"},
		"when one has left":           {anna, "/orders/approve?id=off-3", []string{"reason", "r", "number", "180"}, func() { g.held.Store(179) }, 409, "1 went since you looked"},
		"when more dead letters came": {olga, "/orders/requeue?all=1", nil, letter, 409, "1 more came since you looked"},
		"when a form is made up":      {olga, "/orders/resume", []string{"reason", "r", "once", "x"}, nil, 503, "is no id of an order"},
	} {
		g.held.Store(180)

		var form url.Values
		if c.code == 403 {
			form = url.Values{"once": {audit.NewFamily()}}
		} else {
			form = c.who.form(c.path)
		}

		for i := 0; i < len(c.typed); i += 2 {
			form.Set(c.typed[i], c.typed[i+1])
		}

		if c.before != nil {
			c.before()
		}

		path, _, _ := strings.Cut(c.path, "?")
		w := c.who.send(http.MethodPost, path, form)
		require.Equal(t, c.code, w.Code, "%s: %s", about, w.Body)
		require.Contains(t, w.Body.String(), c.says, about)

		if reason := form.Get("reason"); reason != "" && (c.code == 422 || c.code == 409) {
			require.Contains(t, w.Body.String(), `name="reason" value="`+reason, about) // nothing typed is lost
		}
	}

	require.Zero(t, g.orders.Load())
}

// TestWhatAFormSaysFirst checks that forms say how many dead letters are superseded, and who loses an AtHoc user by a
// mapping.
func TestWhatAFormSaysFirst(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	_, err := g.conn.JS.Publish(t.Context(), topology.DeadSubject("resolver"), []byte(`{}`))
	require.NoError(t, err)

	anna := g.as(auth.Approver)
	page := anna.send(http.MethodGet, "/orders/requeue?all=1", nil).Body.String()
	require.Contains(t, page, "of 1 a newer booking has won, so nothing would be sent")
	page = anna.send(http.MethodGet, "/orders/approve-mapping", nil).Body.String()
	require.Contains(t, page, "00017")
	require.Contains(t, page, "nobody: no updates any more")
	require.NotContains(t, page, "<script>alert")
	require.NotContains(t, g.as(auth.Viewer).send(http.MethodGet, "/mapping", nil).Body.String(), "00017")
}

// TestCheckByOneClick checks that the page of the processes itself offers the order, to users who may give it. What the
// services find is on the page that stays, the worst first, along with the service that gave no answer.
func TestCheckByOneClick(t *testing.T) {
	t.Parallel()

	g := newGuarded(t)
	for path, name := range map[string]string{"/system": "check", "/mapping": "refresh"} {
		require.NotContains(t, g.as(auth.Viewer).send(http.MethodGet, path, nil).Body.String(), pathOrders+name)
		require.Contains(t, g.as(auth.Operator).send(http.MethodGet, path, nil).Body.String(), `method="post" action="/orders/`+name)
	}

	olga := g.as(auth.Operator)
	w := olga.send(http.MethodPost, "/orders/check", olga.form("/system"))
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
	page := olga.send(http.MethodGet, w.Header().Get("Location"), nil).Body.String()
	require.Contains(t, page, "3 ok, 1 warning, 1 problem.")
	require.NotContains(t, page, "<script>alert")
	require.Less(t, strings.Index(page, "no time now"), strings.Index(page, "make room"), page)
	require.Less(t, strings.Index(page, "make room"), strings.Index(page, "it answers"), page)
	require.Equal(t, http.StatusForbidden, g.as(auth.Viewer).send(http.MethodPost, "/orders/check", url.Values{"once": {audit.NewFamily()}}).Code)
}

// TestEveryOrder gives each order by its form, as a browser without scripts sends it. The order must reach its service
// once, with who gave it and what they saw.
func TestEveryOrder(t *testing.T) {
	t.Parallel()

	g := newGuarded(t)
	for range 250 {
		_, err := g.conn.JS.Publish(t.Context(), topology.DeadSubject("resolver"), []byte(`{}`))
		require.NoError(t, err)
	}

	anna := g.as(auth.Approver)
	given := map[string]bool{}
	for path, c := range map[string]struct {
		endpoint string
		parts    int
		says     string
	}{
		"/orders/pause": {control.Pause, 1, "wait already"}, "/orders/resume": {control.Resume, 1, "to be sent"}, "/orders/mute?feed=default": {control.MuteFeed, 1, "the feed is usual"},
		"/orders/check": {control.Check, 4, ""}, "/orders/refresh": {control.MappingRefresh, 1, ""}, "/orders/approve-mapping": {control.MappingApprove, 1, "44 removed"},
		"/orders/requeue?all=1": {control.DeadRequeue, 3, "250 dead letters: 247 would be sent; of 3 a newer booking has won"}, "/orders/drop?id=1&id=7": {control.DeadDrop, 1, "2 dead letters"},
		"/orders/replay?whom=workers&which=1,+2": {control.Replay, 1, "3 users, 3 calls"}, "/orders/replay-stop?id=r": {control.StopReplay, 1, "2 of 3 users"},
		"/orders/compare": {control.Reconcile, 1, ""}, "/orders/apply": {control.Reconcile, 1, "7 users differ"},
		"/orders/approve?id=off-1": {control.HeldDecide, 1, "after it"}, "/orders/reject?id=off-1": {control.HeldDecide, 1, "now and after it"}, "/orders/take-in?id=off-0": {control.HeldRequeue, 1, "9 users"},
	} {
		name, _, _ := strings.Cut(strings.TrimPrefix(path, pathOrders), "?")
		given[name] = true
		before := g.orders.Load()
		form := anna.form(path)
		form.Set("reason", "a reason")
		form.Set("for", "1h")
		form.Set("number", form.Get("size"))
		w := anna.send(http.MethodPost, pathOrders+name, form)
		require.Equal(t, http.StatusSeeOther, w.Code, "%s: %s", path, w.Body)
		require.EqualValues(t, c.parts, g.orders.Load()-before, path)
		found, err := audit.Find(t.Context(), g.conn.JS, form.Get("once"))
		require.NoError(t, err)
		require.Len(t, found, c.parts)
		request := string(found[0].What.Request)
		require.Equal(t, c.endpoint, found[0].Endpoint)
		require.Contains(t, request, "anna (console, password, 127.0.0.1)")
		require.Contains(t, request, c.says)
		require.Contains(t, request, `"selection":"`+form.Get("set"))
		require.Contains(t, request, `"reason":"a reason"`)
		require.Equal(t, http.StatusOK, anna.send(http.MethodGet, w.Header().Get("Location"), nil).Code)
	}

	for _, o := range orders {
		require.True(t, given[o.name], "the order %s was not tried", o.name)
	}
}
