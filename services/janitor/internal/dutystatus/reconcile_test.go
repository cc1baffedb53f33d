package dutystatus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
)

func TestGuard(t *testing.T) {
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
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, guard(c.differing, c.compared, c.most) != "") })
	}
}

// comparing is a comparison with an AtHoc of the given number of users. The resolver reports that those in differ are
// different.
type comparing struct {
	r      *Reconciler
	report control.ReconcileAnswer
	asked  []control.ObserveRequest
}

func newComparing(count int, differ map[string]bool) *comparing {
	c := &comparing{}

	asked := time.Date(2024, 6, 17, 4, 0, 0, 0, time.UTC)
	var people []users.Person
	for i := range count {
		people = append(people, users.Person{Username: fmt.Sprintf("u%05d", i), Asked: asked.Add(time.Duration(i/1000) * time.Second)})
	}

	c.r = &Reconciler{
		Fetch: func(context.Context) ([]users.Person, error) { return people, nil },
		Keep: func(report control.ReconcileAnswer) error {
			c.report = report
			return nil
		},
		MaxChange: 10, Zone: time.UTC, Metrics: metrics.New(nil), Now: time.Now, Log: bustest.Logger(),
		Observe: func(_ context.Context, req control.ObserveRequest) (answer control.ObserveAnswer, err error) {
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
		order    periodic.Run
		differ   int
		applied  int
		outcome  string
		requests int
	}{
		{name: "the clock reports", differ: 500, requests: 2},
		{name: "the clock applies", clock: true, differ: 500, applied: 500, requests: 3},
		{name: "the clock does not apply too much", clock: true, differ: 501, outcome: control.OutcomeHeld, requests: 2},
		{name: "nothing to apply", clock: true, requests: 2},
		{name: "a report is ordered", clock: true, order: periodic.Run{Asked: true}, differ: 5, requests: 2},
		{name: "a report of too many is ordered", order: periodic.Run{Asked: true}, differ: 501, requests: 2},
		{name: "applying is ordered", order: periodic.Run{Asked: true, Apply: true}, differ: 5, applied: 5, requests: 3},
		{name: "too much is ordered", order: periodic.Run{Asked: true, Apply: true}, differ: 501, outcome: control.OutcomeHeld, requests: 2},
		{name: "too much is forced", order: periodic.Run{Asked: true, Apply: true, Force: true}, differ: 501, applied: 501, requests: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newComparing(5001, some(c.differ))
			x.r.Apply = c.clock
			c.order.Entry = "entry"
			res, err := x.r.Reconcile(t.Context(), &c.order)
			require.NoError(t, err)
			assert.Equal(t, c.outcome, res.Outcome)
			assert.Equal(t, c.outcome == control.OutcomeHeld, x.report.Held != "")
			assert.Equal(t, x.report.Held, res.Text)
			assert.Equal(t, c.differ > 500, x.report.TooMany != "", "who asks may know before he orders it")
			assert.Equal(t, map[string]int{
				"users": 5001, "compared": 5001, "foreign": 0, "under_way": 0, "differing": c.differ, "applied": c.applied,
			}, res.Counts)
			assert.Equal(t, "entry", x.report.Entry)
			assert.Equal(t, 5001, x.report.Compared)
			assert.Len(t, x.report.Users, c.differ)

			for _, u := range x.report.Users {
				assert.Equal(t, c.applied > 0, u.Applied)
				assert.Equal(t, "17/06/2024 14:30:00", u.Wanted)
				assert.Equal(t, "lost", u.Why)
			}

			require.Len(t, x.asked, c.requests)
			assert.Equal(t, control.MaxObserved, len(x.asked[0].Users))
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
	x.r.Observe = func(context.Context, control.ObserveRequest) (control.ObserveAnswer, error) {
		return control.ObserveAnswer{}, away
	}
	_, err := x.r.Reconcile(t.Context(), &periodic.Run{})
	require.ErrorIs(t, err, away)
	assert.Zero(t, x.report, "the report before stays")

	// What was applied before a failure is in the report.
	x = newComparing(5000, some(20))
	observe := x.r.Observe
	x.r.Observe = func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
		if req.Apply {
			return control.ObserveAnswer{}, away
		}
		return observe(ctx, req)
	}
	_, err = x.r.Reconcile(t.Context(), &periodic.Run{Asked: true, Apply: true})
	require.ErrorIs(t, err, away)
	assert.Len(t, x.report.Users, 20)
	assert.Zero(t, x.report.Applied)
}
