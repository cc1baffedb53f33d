package janitor

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/services/janitor/internal/directory"
	"bobosync/services/janitor/internal/duty"
	"bobosync/shared/athoc"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                      string
		differing, compared, most int
		want                      bool
	}{
		{"nobody", 0, 0, 10, false},
		{"just as many as allowed", 100, 1000, 10, false},
		{"one more", 101, 1000, 10, true},
		{"a few of few", 10, 10, 10, false},
		{"more than a few of few", 11, 11, 10, true},
		{"none are allowed", 11, 100_000, 0, true},
		{"all are allowed", 100, 100, 100, false},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, holds(c.differing, c.compared, c.most) != "") })
	}
}

// comparing is a comparison with an AtHoc of the given users, of whom the resolver says that those in differ do.
type comparing struct {
	r      *reconciler
	report control.ReconcileAnswer
	asked  []control.ObserveRequest
}

func newComparing(users int, differ map[string]bool) *comparing {
	c := &comparing{}
	asked := time.Date(2024, 6, 17, 4, 0, 0, 0, time.UTC)
	var people []directory.Person
	for i := range users {
		people = append(people, directory.Person{Username: fmt.Sprintf("u%05d", i), Asked: asked.Add(time.Duration(i/1000) * time.Second)})
	}
	c.r = &reconciler{
		fetch: func(context.Context) ([]directory.Person, error) { return people, nil },
		keep: func(report control.ReconcileAnswer) error {
			c.report = report
			return nil
		},
		most: 10, zone: time.UTC, metrics: telemetry.NewJanitor(nil), now: time.Now, log: bustest.Logger(),
		observe: func(_ context.Context, req control.ObserveRequest) (answer control.ObserveAnswer, err error) {
			c.asked = append(c.asked, req)
			answer.Compared = len(req.Users)
			for _, u := range req.Users {
				if differ[u.User] {
					answer.Findings = append(answer.Findings, control.Finding{
						User: u.User, Employee: "e" + u.User, WantOn: true, WantAt: 1718634600, Why: "lost", Published: req.Apply,
					})
				}
			}
			return answer, nil
		},
	}
	return c
}

func some(n int) map[string]bool {
	differ := map[string]bool{}
	for i := range n {
		differ[fmt.Sprintf("u%05d", 4500+i)] = true
	}
	return differ
}

func TestReconcileReportsAndApplies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		clock    bool
		order    duty.Order
		differ   int
		applied  int
		outcome  string
		requests int
	}{
		{name: "the clock reports", differ: 500, requests: 2},
		{name: "the clock applies", clock: true, differ: 500, applied: 500, requests: 3},
		{name: "the clock does not apply too much", clock: true, differ: 501, outcome: control.OutcomeHeld, requests: 2},
		{name: "nothing to apply", clock: true, requests: 2},
		{name: "a report is ordered", clock: true, order: duty.Order{Asked: true}, differ: 5, requests: 2},
		{name: "applying is ordered", order: duty.Order{Asked: true, Apply: true}, differ: 5, applied: 5, requests: 3},
		{name: "too much is ordered", order: duty.Order{Asked: true, Apply: true}, differ: 501, outcome: control.OutcomeHeld, requests: 2},
		{name: "too much is forced", order: duty.Order{Asked: true, Apply: true, Force: true}, differ: 501, applied: 501, requests: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newComparing(5001, some(c.differ))
			x.r.apply = c.clock
			c.order.Entry = "entry"
			res, err := x.r.reconcile(t.Context(), &c.order)
			require.NoError(t, err)
			assert.Equal(t, c.outcome, res.outcome)
			assert.Equal(t, c.outcome == control.OutcomeHeld, x.report.Held != "")
			assert.Equal(t, x.report.Held, res.text)
			assert.Equal(t, map[string]int{
				"users": 5001, "compared": 5001, "foreign": 0, "under_way": 0, "differing": c.differ, "applied": c.applied,
			}, res.counts)
			assert.Equal(t, "entry", x.report.Entry)
			assert.Equal(t, 5001, x.report.Compared)
			assert.Len(t, x.report.Users, c.differ)
			for _, u := range x.report.Users {
				assert.Equal(t, c.applied > 0, u.Applied)
				assert.Equal(t, "17/06/2024 14:30:00", u.Wanted)
				assert.Equal(t, "lost", u.Why)
			}
			require.Len(t, x.asked, c.requests)
			assert.Equal(t, control.MostObserved, len(x.asked[0].Users))
			assert.False(t, x.asked[0].Apply)
			assert.Equal(t, time.Second, x.asked[1].Seen.Sub(x.asked[0].Seen)/4, "each request has its first page's moment")
			if c.applied > 0 {
				assert.True(t, x.asked[2].Apply)
				assert.Len(t, x.asked[2].Users, c.differ, "only those who differ are told of again")
				assert.Equal(t, x.asked[1].Seen, x.asked[2].Seen)
			}
		})
	}
}

func TestReconcileThatFails(t *testing.T) {
	t.Parallel()
	x := newComparing(10, nil)
	away := errors.New("away")
	x.r.observe = func(context.Context, control.ObserveRequest) (control.ObserveAnswer, error) {
		return control.ObserveAnswer{}, away
	}
	_, err := x.r.reconcile(t.Context(), &duty.Order{})
	require.ErrorIs(t, err, away)
	assert.Zero(t, x.report, "the report before stays")

	// What was applied before a failure is reported.
	x = newComparing(5000, some(20))
	observe := x.r.observe
	x.r.observe = func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
		if req.Apply {
			return control.ObserveAnswer{}, away
		}
		return observe(ctx, req)
	}
	_, err = x.r.reconcile(t.Context(), &duty.Order{Asked: true, Apply: true})
	require.ErrorIs(t, err, away)
	assert.Len(t, x.report.Users, 20)
	assert.Zero(t, x.report.Applied)
}

func TestReconcileOnCommandAndByTheClock(t *testing.T) {
	t.Parallel()
	users := sim.GenerateUsers(2200, sim.DefaultCollar)
	onDuty(users[:30], time.Hour)
	want := athoc.FormatTime(time.Unix(1718634600, 0), time.Local)
	w := newWorld(t, sim.Options{Users: users})
	resolver := w.resolver(&fakeResolver{judge: func(req control.ObserveRequest) (answer control.ObserveAnswer, err error) {
		answer.Compared = len(req.Users)
		for _, u := range req.Users {
			if u.On {
				answer.Findings = append(answer.Findings, control.Finding{
					User: u.User, Employee: "1", WantOn: true, WantAt: 1718634600, Why: "an older status", Published: req.Apply,
				})
			}
		}
		return answer, nil
	}})
	cfg := w.config()
	cfg.Sync.Mappings = false
	cfg.Reconcile.Mode, cfg.Reconcile.Hour, cfg.Reconcile.MaxChangePercent = reconcileReport, 4, 1
	w.run(cfg)
	w.atWork()
	report := told[control.ReconcileAnswer](w, control.ReconcileReport, control.Page{})
	assert.Empty(t, report.Users)
	assert.Zero(t, w.searches(), "the first start waits for the hour")

	entry := w.end(told[control.Begun](w, control.Reconcile, control.ReconcileRequest{Apply: true, By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.True(t, w.logs.has("ERROR", "RECONCILE_MAX_CHANGE_PERCENT"))
	report = told[control.ReconcileAnswer](w, control.ReconcileReport, control.Page{})
	assert.Equal(t, entry.ID, report.Entry)
	assert.Equal(t, 30, report.Differing)
	assert.Zero(t, report.Applied)
	assert.NotEmpty(t, report.Held)
	assert.Equal(t, 3, w.searches(), "all users are read")

	entry = w.end(told[control.Begun](w, control.Reconcile, control.ReconcileRequest{Apply: true, Force: true, By: "jane"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome)
	report = told[control.ReconcileAnswer](w, control.ReconcileReport, control.Page{})
	assert.Equal(t, 30, report.Applied)
	require.Len(t, report.Users, 30)
	assert.Equal(t, control.DifferingUser{
		User: users[0].LoginID, Employee: "1", Holds: users[0].Attributes[sim.DefaultDutyAttribute], Wanted: want,
		Why: "an older status", Applied: true,
	}, report.Users[0])
	asked := resolver.requests()
	assert.Len(t, asked, 3)

	w.pass(24 * time.Hour)
	w.eventually("the clock's comparison", func() bool { e := w.ended(control.DutyReconcile); return len(e) == 3 && e[0].By == "" })
	asked = resolver.requests()
	assert.Len(t, asked, 4)
	assert.False(t, asked[3].Apply, "the clock only reports")
	assert.NotContains(t, w.logs.text(), "@example.org")
}
