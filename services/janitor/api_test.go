package janitor

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestStateOfAllInstancesAndATakeOver(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.resolver(&fakeResolver{judge: clears})
	cfg := w.config()
	cfg.Reconcile.Mode, cfg.Reconcile.Hour = reconcileReport, w.now().Add(-time.Hour).In(time.Local).Hour()
	stopFirst := w.run(cfg)
	w.refreshed(100)
	w.end(answerOf[control.Begun](w, control.Reconcile, control.ReconcileRequest{By: "jane"}))
	_, err := w.athoc.RemoveUsers(logins(users[50:])...)
	require.NoError(t, err)
	w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{By: "jane"}))
	w.run(cfg)
	var both []control.JanitorState
	w.eventually("both to answer", func() bool {
		both = w.states()
		return len(both) == 2
	})

	first, leaders := w.leading(), 0
	for _, s := range both {
		assert.Equal(t, "test", s.Version)
		assert.NotEmpty(t, s.Name)

		if s.Leads {
			leaders++
		} else {
			assert.Empty(t, s.Jobs)
			assert.Nil(t, s.Held)
		}
	}

	assert.Equal(t, 1, leaders)
	require.Len(t, first.Jobs, 4)
	assert.Equal(t, []string{control.JobMapping, control.JobCleanup, control.JobReconcile, control.JobPurge},
		[]string{first.Jobs[0].Name, first.Jobs[1].Name, first.Jobs[2].Name, first.Jobs[3].Name})
	assert.True(t, first.Jobs[1].Off)
	assert.True(t, first.Jobs[3].Off)
	assert.False(t, first.Jobs[0].LastSuccess.IsZero())
	assert.True(t, first.Jobs[0].Next.After(w.now()))
	assert.False(t, first.Jobs[2].LastSuccess.IsZero())
	require.NotNil(t, first.Held)

	searched := w.searches()
	journal := answerOf[control.JournalAnswer](w, control.Journal, control.JournalRequest{}).Entries
	assert.Len(t, journal, 3)
	stopFirst()
	w.eventually("the second to take over", func() bool {
		states := w.states()
		return len(states) == 1 && states[0].Leads
	})
	var taken control.JanitorState
	w.eventually("it to know what failed", func() bool { // a mapping that was held back is soon tried again
		taken = w.leading()
		return taken.Jobs[0].Failures == 1
	})
	assert.Equal(t, first.Jobs[0].LastSuccess, taken.Jobs[0].LastSuccess)
	assert.Equal(t, first.Jobs[2].LastSuccess, taken.Jobs[2].LastSuccess, "a comparison is known that another machine made")
	assert.Equal(t, first.Jobs[2].Next, taken.Jobs[2].Next)
	assert.Equal(t, first.Held, taken.Held)
	assert.Equal(t, searched, w.searches())
	assert.Equal(t, journal, answerOf[control.JournalAnswer](w, control.Journal, control.JournalRequest{}).Entries, "the journal outlives the instance")
}

func TestMappingReport(t *testing.T) {
	t.Parallel()

	person := func(user, id string) sim.User {
		return sim.User{LoginID: user, Attributes: map[string]string{sim.DefaultCollar: id}}
	}
	w := newWorld(t, sim.Options{Users: []sim.User{
		person("a@example.org", "1"), person("b@example.org", "1"), person("c@example.org", "02"), person("d@example.org", "2"),
		{LoginID: "e@example.org"},
	}})
	cfg := w.config()
	stop := w.run(cfg)
	w.refreshed(2)

	check := func() {
		r := answerOf[control.MappingReport](w, control.MappingShow, control.Nothing{})
		rec := w.record()
		assert.Equal(t, rec.Snapshot, r.Snapshot)
		assert.Equal(t, rec.Taken, r.Taken)
		assert.Equal(t, []int{5, 2, 1, 0, 0}, []int{r.Users, r.Mapped, r.Without, r.Unusable, r.Left})
		assert.Equal(t, map[string][]string{"1": {"a@example.org", "b@example.org"}}, r.Ambiguous)
		assert.Equal(t, [][]string{{"02", "2"}}, r.Alike)
		assert.Nil(t, r.Held)
		assert.Equal(t, control.JobMapping, r.Job.Name)
	}
	check()
	stop()
	w.run(cfg)
	w.leading()
	check() // the findings outlive the process
}

func TestJournalAndNotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(3, sim.DefaultCollar)})
	cfg := w.config()
	stop := w.run(cfg)
	w.refreshed(3)

	for _, wrong := range []control.JournalEntry{
		{Kind: control.JobMapping, Text: "x"}, {Kind: control.KindOperator}, {Kind: control.KindOperator, Text: strings.Repeat("x", 5000)},
	} {
		_, err := ask[control.Nothing](w, control.JournalNote, wrong)
		refusal := new(control.Refusal)
		require.ErrorAs(t, err, &refusal)
	}

	began, asked := w.now().Add(-time.Minute).UTC(), w.now()
	answerOf[control.Nothing](w, control.JournalNote, control.JournalEntry{
		Kind: control.KindOperator, By: "jane", Started: began, Ended: began.Add(time.Second), Text: "3 dead letters requeued", Counts: map[string]int{"requeued": 3},
	})
	stop()
	w.run(cfg)
	w.leading()
	answer := answerOf[control.JournalAnswer](w, control.Journal, control.JournalRequest{Kind: control.KindOperator})
	require.Len(t, answer.Entries, 1)
	note := answer.Entries[0]
	assert.Equal(t, control.JournalEntry{
		ID: note.ID, Kind: control.KindOperator, By: "jane", Started: note.Started, Ended: note.Started, Outcome: control.OutcomeOK,
		Text: "3 dead letters requeued", Counts: map[string]int{"requeued": 3},
	}, note)
	assert.WithinRange(t, note.Started, asked, w.now(), "when is not for who notes it to say")
	mapping := w.ended(control.JobMapping)
	require.Len(t, mapping, 1)
	assert.Equal(t, 3, mapping[0].Counts["added"])
}

// TestOutageBlocksNeitherOrdersNorThePurge checks that everything else goes on while AtHoc is down and the janitor's
// calls wait for the circuit breaker.
func TestOutageBlocksNeitherOrdersNorThePurge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(3, sim.DefaultCollar)})
	fault, err := w.athoc.AddFault(sim.Fault{Kind: sim.FaultStatus, Status: 503, Scope: []string{sim.EndpointSearch}})
	require.NoError(t, err)
	stop, err := control.Serve(t.Context(), w.broker.Connect(t).NC, topology.Ingest, "test",
		control.On(control.Purge, func(context.Context, control.PurgeRequest) (control.PurgeAnswer, error) {
			return control.PurgeAnswer{Files: 1}, nil
		}))
	require.NoError(t, err)

	defer stop()

	cfg := w.config()
	cfg.Retention.Files = 30
	cfg.Lifetime.AutoCleanupHours = 24
	w.run(cfg)
	w.eventually("failures", func() bool {
		jobs := w.leading().Jobs
		return jobs[0].Failures > 0 && jobs[1].Failures+jobs[0].Failures > 1
	})
	w.pass(24 * time.Hour)
	begun := answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{By: "jane"})
	w.eventually("the purge", func() bool { return len(w.ended(control.JobPurge)) == 1 })
	assert.Equal(t, control.OutcomeOK, w.ended(control.JobPurge)[0].Outcome)
	assert.Zero(t, w.state().Msgs)

	w.athoc.ClearFault(fault.ID)
	w.eventually("the mapping", func() bool {
		w.pass(10 * time.Second)
		return w.record().Users == 3
	})
	assert.NotEmpty(t, w.end(begun).Outcome)
}
