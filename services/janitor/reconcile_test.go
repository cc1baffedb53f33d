package janitor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
)

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
	w.leading()
	report := answerOf[control.ReconcileAnswer](w, control.ReconcileReport, control.Page{})
	assert.Empty(t, report.Users)
	assert.Zero(t, w.searches(), "the first start waits for the hour")

	entry := w.end(answerOf[control.Begun](w, control.Reconcile, control.ReconcileRequest{Apply: true, By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.True(t, w.logs.Has("ERROR", "RECONCILE_MAX_CHANGE_PERCENT"))
	report = answerOf[control.ReconcileAnswer](w, control.ReconcileReport, control.Page{})
	assert.Equal(t, entry.ID, report.Entry)
	assert.Equal(t, 30, report.Differing)
	assert.Zero(t, report.Applied)
	assert.NotEmpty(t, report.Held)

	held := w.leading().ReconcileHeld
	require.NotNil(t, held, "status says it")
	assert.Equal(t, report.Held, held.Held)
	assert.Empty(t, held.Users)
	assert.Equal(t, 3, w.searches(), "all users are read")

	entry = w.end(answerOf[control.Begun](w, control.Reconcile, control.ReconcileRequest{Apply: true, Force: true, By: "jane"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome)
	assert.Nil(t, w.leading().ReconcileHeld)
	report = answerOf[control.ReconcileAnswer](w, control.ReconcileReport, control.Page{})
	assert.Equal(t, 30, report.Applied)
	require.Len(t, report.Users, 30)
	assert.Equal(t, control.DifferingUser{
		User: users[0].LoginID, Employee: "1", Holds: users[0].Attributes[sim.DefaultDutyAttribute], Wanted: want,
		Why: "an older status", Applied: true,
	}, report.Users[0])

	asked := resolver.requests()
	assert.Len(t, asked, 3)

	w.pass(24 * time.Hour)
	w.eventually("the clock's comparison", func() bool { e := w.ended(control.JobReconcile); return len(e) == 3 && e[0].By == "" })

	asked = resolver.requests()
	assert.Len(t, asked, 4)
	assert.False(t, asked[3].Apply, "the clock only reports")
	assert.NotContains(t, w.logs.String(), "@example.org")
}

// TestAComparisonWithNobodyIsNone checks a comparison for which AtHoc says that it has users but returns none of them.
func TestAComparisonWithNobodyIsNone(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(20, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.resolver(&fakeResolver{judge: func(req control.ObserveRequest) (control.ObserveAnswer, error) {
		return control.ObserveAnswer{Compared: len(req.Users)}, nil
	}})
	cfg := w.config()
	cfg.Sync.Mappings = false
	cfg.Reconcile.Mode, cfg.Reconcile.Hour = reconcileReport, 4
	w.run(cfg)
	w.leading()

	hide := func(some []sim.User) {
		w.athoc.ClearFaults()
		_, err := w.athoc.AddFault(sim.Fault{Kind: sim.FaultOmitUser, Scope: []string{sim.EndpointSearch}, Users: logins(some)})
		require.NoError(t, err)
	}
	hide(users)
	assert.Equal(t, control.OutcomeFailed, w.end(answerOf[control.Begun](w, control.Reconcile, control.ReconcileRequest{By: "jane"})).Outcome)
	hide(users[19:])

	entry := w.end(answerOf[control.Begun](w, control.Reconcile, control.ReconcileRequest{By: "jane"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome, "what it returns is compared")
	assert.Equal(t, 19, entry.Counts["compared"])
}
