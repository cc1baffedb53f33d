package janitor

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/services/janitor/internal/mapping"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

func logins(users []sim.User) (out []string) {
	for _, u := range users {
		out = append(out, u.LoginID)
	}
	return out
}

// alarms counts the log entries about newly held mappings.
func (w *world) alarms() (n int) {
	for line := range strings.Lines(w.logs.String()) {
		if strings.Contains(line, `"level":"ERROR"`) && strings.Contains(line, "is held back") {
			n++
		}
	}

	return n
}

func TestEmptyAnswerIsHeldBackAndTriedAgain(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(10, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(10)
	before := w.state().LastSeq

	_, err := w.athoc.RemoveUsers(logins(users)...)
	require.NoError(t, err)
	w.pass(3 * 24 * time.Hour)
	w.eventually("an alarm", func() bool { return w.alarms() == 1 })
	searched := w.searches()
	w.eventually("the journal", func() bool { return len(w.ended(control.JobMapping)) == 2 })
	assert.Equal(t, control.OutcomeHeld, w.ended(control.JobMapping)[0].Outcome)

	// Users without an id change nothing. The refresh is tried again with back-off, and the alarm for the same content
	// is not repeated.
	require.NoError(t, w.athoc.PutUsers(sim.User{LoginID: "without@example.org"}))
	w.pass(31 * time.Second)
	w.eventually("the next try", func() bool { return w.searches() > searched })
	w.eventually("the journal", func() bool { e := w.ended(control.JobMapping); return len(e) == 2 && e[0].Counts["times"] == 2 })
	assert.Equal(t, 1, w.alarms())
	assert.Equal(t, before, w.state().LastSeq, "nothing was published")
	assert.Len(t, w.mapping(), 10)
	w.eventually("the second failure", func() bool { return w.leading().Jobs[0].Failures == 2 })
	state := w.leading()
	require.NotNil(t, state.Held)
	assert.Equal(t, 10, state.Held.Removed)

	// A good answer is accepted without an approval, and then nothing is held back.
	require.NoError(t, w.athoc.PutUsers(users[:9]...))
	w.pass(time.Hour)
	w.mapped(9)
	w.eventually("the end of it", func() bool { s := w.leading(); return s.Held == nil && s.Jobs[0].Failures == 0 })
	assert.Equal(t, 1, w.alarms())
}

// holdSome puts a mapping of 100 ids into force, and has one of 80 held back.
func holdSome(t *testing.T) (*world, []sim.User, control.HeldMapping) {
	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(100)
	_, err := w.athoc.RemoveUsers(logins(users[80:])...)
	require.NoError(t, err)

	entry := w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.Equal(t, "jane", entry.By)
	assert.Equal(t, 20, entry.Counts["removed"])

	report := answerOf[control.MappingReport](w, control.MappingShow, control.Nothing{})
	require.NotNil(t, report.Held)
	assert.Equal(t, 100, report.Mapped)
	assert.Equal(t, 80, report.Users)
	assert.Len(t, w.mapping(), 100)
	would := answerOf[control.MappingDifference](w, control.MappingHeld, control.Nothing{})
	assert.Equal(t, report.Held.ID, would.ID)

	gone := map[string]string{}
	for _, c := range would.Removed {
		gone[c.Employee] = c.Before
	}

	assert.Equal(t, wanted(users[80:]), gone)
	assert.Empty(t, would.Changed)

	return w, users, *report.Held
}

func TestRemovalBelowTheGuardNeedsNoApproval(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(100)
	_, err := w.athoc.RemoveUsers(logins(users[90:])...)
	require.NoError(t, err)
	assert.Equal(t, control.OutcomeOK, w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{})).Outcome)
	w.mapped(90)
	assert.Zero(t, w.alarms())
}

// TestUsersWhoAreMissingAreNotTakenAway checks a refresh for which AtHoc returns fewer users than it says it has. The
// mapping in force stays until AtHoc returns all of them, or a person approves.
func TestUsersWhoAreMissingAreNotTakenAway(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(100)
	_, err := w.athoc.AddFault(sim.Fault{Kind: sim.FaultOmitUser, Scope: []string{sim.EndpointSearch}, Users: logins(users[98:])})
	require.NoError(t, err)
	require.NoError(t, w.athoc.PutUsers(sim.GenerateUsers(101, sim.DefaultCollar)[100]))
	entry := w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.Equal(t, 2, entry.Counts["removed"])
	assert.Len(t, w.mapping(), 100)
	held := w.leading().Held
	require.NotNil(t, held)
	assert.Contains(t, held.Reason, "AtHoc says that it has 101 users, and returned 99 of them")

	w.athoc.ClearFaults()
	assert.Equal(t, control.OutcomeOK, w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{})).Outcome)
	w.mapped(101)
	w.eventually("nothing is held back", func() bool { return w.leading().Held == nil })
}

// TestALostMappingIsGuardedToo checks that a lost mapping is guarded by its size, which the record has.
func TestALostMappingIsGuardedToo(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(100)
	stream, err := w.js.Stream(t.Context(), topology.StreamMapping)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))

	_, err = w.athoc.RemoveUsers(logins(users[5:])...)
	require.NoError(t, err)

	entry := w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.Equal(t, 95, entry.Counts["removed"])
	require.NoError(t, w.athoc.PutUsers(users[5:95]...))
	assert.Equal(t, control.OutcomeOK, w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{})).Outcome)
	w.mapped(95)
}

func TestApproval(t *testing.T) {
	t.Parallel()
	w, users, h := holdSome(t)
	w.eventually("the metric", func() bool { return w.metric("mapping_held") == 1 })
	assert.EqualValues(t, 1, w.metric("runs_total", control.JobMapping, control.OutcomeHeld))
	assert.EqualValues(t, 100, w.metric("mapping_ids"))

	for _, id := range []string{"", "123456789012", h.ID[:3]} {
		_, err := ask[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: id})
		require.ErrorContains(t, err, h.ID, id)
	}

	entry := w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome)
	assert.Equal(t, "joe", entry.By)
	assert.Contains(t, entry.Text, "approved by joe")
	assert.Equal(t, wanted(users[:80]), w.mapped(80))
	assert.Nil(t, w.leading().Held)
	w.eventually("the metric", func() bool { return w.metric("mapping_held") == 0 })
	assert.EqualValues(t, 80, w.metric("mapping_ids"))
	assert.EqualValues(t, 2, w.metric("runs_total", control.JobMapping, control.OutcomeOK))
	_, err := ask[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID})
	require.ErrorContains(t, err, "no mapping is held back")
	_, err = ask[control.MappingDifference](w, control.MappingHeld, control.Nothing{})
	require.ErrorContains(t, err, "no mapping is held back")

	// The approval was valid only for that mapping.
	_, err = w.athoc.RemoveUsers(logins(users[60:80])...)
	require.NoError(t, err)
	assert.Equal(t, control.OutcomeHeld, w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{})).Outcome)
	assert.Equal(t, 2, w.alarms())
}

func TestApprovalWhenTheContentHasMoved(t *testing.T) {
	t.Parallel()
	w, users, h := holdSome(t)
	_, err := w.athoc.RemoveUsers(users[0].LoginID)
	require.NoError(t, err)

	entry := w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome, "another content than was approved")
	assert.Len(t, w.mapping(), 100)
	assert.Equal(t, 2, w.alarms())
	anew := w.leading().Held
	require.NotNil(t, anew)
	assert.NotEqual(t, h.ID, anew.ID)
	assert.Equal(t, 21, anew.Removed)

	require.NoError(t, w.athoc.PutUsers(users[:5]...))
	entry = w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: anew.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome, "less would be removed, but nobody has seen that")
	assert.Equal(t, h.ID, w.leading().Held.ID, "it is the first one again")
	entry = w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome)
	assert.Equal(t, wanted(users[:80]), w.mapped(80))
}

func TestApprovedEmptyMappingIsOneChunk(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(5, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(5)
	_, err := w.athoc.RemoveUsers(logins(users)...)
	require.NoError(t, err)
	w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{}))
	h := w.leading().Held
	require.NotNil(t, h)
	assert.Equal(t, control.OutcomeOK, w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID})).Outcome)
	assert.Empty(t, w.mapped(0))
	assert.EqualValues(t, 1, w.state().Msgs)
	assert.Equal(t, control.OutcomeOK, w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{})).Outcome,
		"what is in force is not held back")
}

func TestApprovalOutlivesTheJanitor(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	stop := w.run(w.config())
	w.refreshed(100)
	_, err := w.athoc.RemoveUsers(logins(users[50:])...)
	require.NoError(t, err)
	w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{}))
	h := w.leading().Held
	require.NotNil(t, h)

	_, err = w.athoc.AddFault(sim.Fault{Kind: sim.FaultStatus, Status: 503, Scope: []string{sim.EndpointSearch}, Calls: 1})
	require.NoError(t, err)

	entry := w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeFailed, entry.Outcome)
	stop()

	w.run(w.config()) // on another machine: only the broker has the state
	assert.Equal(t, wanted(users[:50]), w.mapped(50))
	w.eventually("the journal", func() bool { return len(w.ended(control.JobMapping)) > 0 })
	assert.Equal(t, "joe", w.ended(control.JobMapping)[0].By)
}

// TestKilledAtAnyPoint ends the janitor at many moments of a refresh. The broker must always hold a whole mapping.
func TestKilledAtAnyPoint(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(6_000, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	cfg := w.config()
	stop := w.run(cfg)
	w.mapped(6_000)
	stop()

	random := rand.New(rand.NewPCG(1, 2))
	for round := range 18 {
		w.pass(3 * 24 * time.Hour)

		i := random.IntN(len(users))
		users[i].Attributes = map[string]string{sim.DefaultCollar: fmt.Sprintf("new%d", round)}
		require.NoError(t, w.athoc.PutUsers(users[i]))

		before, last := w.searches(), w.state().LastSeq
		stop := w.run(cfg)
		if round < 6 { // while it is reading
			w.eventually("page calls", func() bool { return w.searches() > before+round })
		} else { // around the time of publishing
			w.eventually("the last page call", func() bool { return w.searches() == before+6 })

			if round%3 == 0 {
				w.eventually("a new mapping", func() bool { return w.state().LastSeq > last })
			}
		}

		stop()
		assert.Len(t, w.whole(), 6_000, "round %d", round)
	}

	w.pass(3 * 24 * time.Hour)
	w.run(cfg)
	w.eventually("the last mapping", func() bool { return maps.Equal(wanted(users), w.whole()) })
}

// whole returns the latest complete mapping in the stream, as the resolver reads it; chunks of older ones may come
// before it.
func (w *world) whole() map[string]string {
	w.t.Helper()
	r := &mapping.Refresher{JS: w.js}
	whole, err := r.Current(w.t.Context())
	require.NoError(w.t, err)
	stream, err := w.js.Stream(w.t.Context(), topology.StreamMapping)
	require.NoError(w.t, err)
	// The broker makes the chunks visible one by one while it stores them, although it stores all or none.
	w.eventually("the last chunk is the last of its mapping", func() bool {
		msg, err := stream.GetMsg(w.t.Context(), w.state().LastSeq)
		require.NoError(w.t, err)
		var chunk event.MappingChunk
		require.NoError(w.t, event.Decode(msg.Data, &chunk))

		return chunk.Index == chunk.Chunks-1
	})

	return whole
}

// TestExchangedIDsAreHeldBack checks ids whose users are exchanged in pairs: nobody is removed, but each status would
// be shown for somebody else.
func TestExchangedIDsAreHeldBack(t *testing.T) {
	t.Parallel()

	people := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: people})
	w.run(w.config())
	w.refreshed(100)

	for i := 0; i < len(people); i += 2 {
		people[i].Attributes, people[i+1].Attributes = people[i+1].Attributes, people[i].Attributes
	}

	before := w.mapping()
	require.NoError(t, w.athoc.PutUsers(people...))
	entry := w.end(answerOf[control.Begun](w, control.MappingRefresh, control.RunRequest{By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.Equal(t, 100, entry.Counts["changed"])
	assert.Equal(t, before, w.mapping(), "the one in force stays")
	h := w.leading().Held
	require.NotNil(t, h)
	assert.Equal(t, 100, h.Changed)
	assert.Equal(t, control.OutcomeOK, w.end(answerOf[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID})).Outcome)
	assert.Equal(t, wanted(people), w.mapped(100))
}
