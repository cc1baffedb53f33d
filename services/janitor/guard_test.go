package janitor

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	before := map[string]string{"1": "a", "2": "b", "3": "c"}
	for _, c := range []struct {
		name          string
		before, after map[string]string
		want          change
	}{
		{"nothing", nil, nil, change{}},
		{"the first", nil, before, change{after: 3, added: 3}},
		{"the same", before, before, change{before: 3, after: 3}},
		{"everybody is gone", before, nil, change{before: 3, removed: 3}},
		{"a little of each", before, map[string]string{"1": "a", "2": "x", "4": "d"}, change{before: 3, after: 3, added: 1, changed: 1, removed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, compare(c.before, c.after)) })
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		c     change
		most  int
		holds bool
	}{
		{"the first", change{after: 100, added: 100}, 10, false},
		{"just as many as allowed", change{before: 100, after: 90, removed: 10}, 10, false},
		{"one more", change{before: 100, after: 89, removed: 11}, 10, true},
		{"as many come as go", change{before: 100, after: 100, added: 11, removed: 11}, 10, true},
		{"a small mapping", change{before: 9, after: 8, removed: 1}, 10, true},
		{"none may go", change{before: 1000, after: 999, removed: 1}, 0, true},
		{"nothing goes, none may", change{before: 1000, after: 1001, added: 1}, 0, false},
		{"all may go but one", change{before: 1000, after: 1, removed: 999}, 100, false},
		{"empty, whatever is allowed", change{before: 1000, removed: 1000}, 100, true},
		{"empty from the start", change{}, 10, true},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.holds, c.c.guard(c.most) != "") })
	}
}

func TestApprovalLets(t *testing.T) {
	t.Parallel()
	approved := func(h held) *held {
		h.Hash, h.Approved = "aa", time.Now()
		return &h
	}
	half := change{before: 100, after: 50, removed: 50}
	empty := change{before: 100, removed: 100}
	for _, c := range []struct {
		name string
		h    *held
		hash string
		c    change
		want bool
	}{
		{"nothing is held", nil, "aa", half, false},
		{"not approved", &held{Hash: "aa", After: 50, Removed: 50}, "aa", half, false},
		{"the same", approved(held{After: 50, Removed: 50}), "aa", half, true},
		{"another that removes as many", approved(held{After: 50, Removed: 50}), "bb", half, true},
		{"one that removes more", approved(held{After: 50, Removed: 49}), "bb", half, false},
		{"an empty one in the place of another", approved(held{After: 1, Removed: 100}), "bb", empty, false},
		{"the empty one", approved(held{Removed: 100}), "aa", empty, true},
		{"better than the empty one", approved(held{Removed: 100}), "bb", half, true},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.h.lets(c.hash, c.c)) })
	}
}

func logins(users []sim.User) (out []string) {
	for _, u := range users {
		out = append(out, u.LoginID)
	}
	return out
}

// alarms counts what was logged about mappings that are held back anew.
func (w *world) alarms() (n int) {
	for line := range strings.Lines(w.logs.text()) {
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
	w.eventually("the journal", func() bool { return len(w.ended(control.DutyMapping)) == 2 })
	assert.Equal(t, control.OutcomeHeld, w.ended(control.DutyMapping)[0].Outcome)

	// Users without an id are no better. It is tried again with back-off, and the alarm for the same content is not repeated.
	require.NoError(t, w.athoc.PutUsers(sim.User{LoginID: "without@example.org"}))
	w.pass(31 * time.Second)
	w.eventually("the next try", func() bool { return w.searches() > searched })
	w.eventually("the journal", func() bool { e := w.ended(control.DutyMapping); return len(e) == 2 && e[0].Counts["times"] == 2 })
	assert.Equal(t, 1, w.alarms())
	assert.Equal(t, before, w.state().LastSeq, "nothing was published")
	assert.Len(t, w.mapping(), 10)
	w.eventually("the second failure", func() bool { return w.atWork().Duties[0].Failures == 2 })
	state := w.atWork()
	require.NotNil(t, state.Held)
	assert.Equal(t, 10, state.Held.Removed)

	// A good answer is taken by itself, and nothing is held any more.
	require.NoError(t, w.athoc.PutUsers(users[:9]...))
	w.pass(time.Hour)
	w.mapped(9)
	w.eventually("the end of it", func() bool { s := w.atWork(); return s.Held == nil && s.Duties[0].Failures == 0 })
	assert.Equal(t, 1, w.alarms())
}

// holdSome has a mapping of 100 ids held back, since another one of 80 came.
func holdSome(t *testing.T) (*world, []sim.User, control.HeldMapping) {
	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.config())
	w.refreshed(100)
	_, err := w.athoc.RemoveUsers(logins(users[80:])...)
	require.NoError(t, err)
	entry := w.end(told[control.Begun](w, control.MappingRefresh, control.Order{By: "jane"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome)
	assert.Equal(t, "jane", entry.By)
	assert.Equal(t, 20, entry.Counts["removed"])
	report := told[control.MappingReport](w, control.MappingShow, control.Nothing{})
	require.NotNil(t, report.Held)
	assert.Equal(t, 100, report.Mapped)
	assert.Equal(t, 80, report.Users)
	assert.Len(t, w.mapping(), 100)
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
	assert.Equal(t, control.OutcomeOK, w.end(told[control.Begun](w, control.MappingRefresh, control.Order{})).Outcome)
	w.mapped(90)
	assert.Zero(t, w.alarms())
}

func TestApproval(t *testing.T) {
	t.Parallel()
	w, users, h := holdSome(t)
	w.eventually("the metric", func() bool { return w.metric("mapping_held") == 1 })
	assert.EqualValues(t, 1, w.metric("runs_total", control.DutyMapping, control.OutcomeHeld))
	assert.EqualValues(t, 100, w.metric("mapping_ids"))
	for _, id := range []string{"", "123456789012", h.ID[:3]} {
		_, err := ask[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: id})
		require.ErrorContains(t, err, h.ID, id)
	}
	entry := w.end(told[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome)
	assert.Equal(t, "joe", entry.By)
	assert.Contains(t, entry.Text, "approved by joe")
	assert.Equal(t, wanted(users[:80]), w.mapped(80))
	assert.Nil(t, w.atWork().Held)
	w.eventually("the metric", func() bool { return w.metric("mapping_held") == 0 })
	assert.EqualValues(t, 80, w.metric("mapping_ids"))
	assert.EqualValues(t, 2, w.metric("runs_total", control.DutyMapping, control.OutcomeOK))
	_, err := ask[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID})
	require.ErrorContains(t, err, "no mapping is held back")

	// The approval was for that once.
	_, err = w.athoc.RemoveUsers(logins(users[60:80])...)
	require.NoError(t, err)
	assert.Equal(t, control.OutcomeHeld, w.end(told[control.Begun](w, control.MappingRefresh, control.Order{})).Outcome)
	assert.Equal(t, 2, w.alarms())
}

func TestApprovalWhenTheContentHasMoved(t *testing.T) {
	t.Parallel()
	w, users, h := holdSome(t)
	_, err := w.athoc.RemoveUsers(users[0].LoginID)
	require.NoError(t, err)
	entry := w.end(told[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeHeld, entry.Outcome, "more would be removed than was approved")
	assert.Len(t, w.mapping(), 100)
	assert.Equal(t, 2, w.alarms())
	anew := w.atWork().Held
	require.NotNil(t, anew)
	assert.NotEqual(t, h.ID, anew.ID)
	assert.Equal(t, 21, anew.Removed)

	require.NoError(t, w.athoc.PutUsers(users[:5]...))
	entry = w.end(told[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: anew.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeOK, entry.Outcome, "less is removed than was approved")
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
	w.end(told[control.Begun](w, control.MappingRefresh, control.Order{}))
	h := w.atWork().Held
	require.NotNil(t, h)
	assert.Equal(t, control.OutcomeOK, w.end(told[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID})).Outcome)
	assert.Empty(t, w.mapped(0))
	assert.EqualValues(t, 1, w.state().Msgs)
	assert.Equal(t, control.OutcomeOK, w.end(told[control.Begun](w, control.MappingRefresh, control.Order{})).Outcome,
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
	w.end(told[control.Begun](w, control.MappingRefresh, control.Order{}))
	h := w.atWork().Held
	require.NotNil(t, h)
	_, err = w.athoc.AddFault(sim.Fault{Kind: sim.FaultStatus, Status: 503, Scope: []string{sim.EndpointSearch}, Calls: 1})
	require.NoError(t, err)
	entry := w.end(told[control.Begun](w, control.MappingApprove, control.ApproveRequest{ID: h.ID, By: "joe"}))
	assert.Equal(t, control.OutcomeFailed, entry.Outcome)
	stop()

	w.run(w.config()) // on another machine: nothing but the broker remembers
	assert.Equal(t, wanted(users[:50]), w.mapped(50))
	w.eventually("the journal", func() bool { return len(w.ended(control.DutyMapping)) > 0 })
	assert.Equal(t, "joe", w.ended(control.DutyMapping)[0].By)
}

// TestKilledAtAnyPoint ends the janitor at many moments of a refresh: what the broker holds is always a whole mapping.
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
		if round < 6 { // in the middle of reading
			w.eventually("page calls", func() bool { return w.searches() > before+round })
		} else { // around the publishing
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

// whole reads the last mapping that the stream holds whole, as the resolver does: chunks of older ones may be before it.
func (w *world) whole() map[string]string {
	w.t.Helper()
	r := &refresher{js: w.js}
	whole, err := r.current(w.t.Context())
	require.NoError(w.t, err)
	stream, err := w.js.Stream(w.t.Context(), topology.StreamMapping)
	require.NoError(w.t, err)
	msg, err := stream.GetMsg(w.t.Context(), w.state().LastSeq)
	require.NoError(w.t, err)
	var chunk event.MappingChunk
	require.NoError(w.t, event.Decode(msg.Data, &chunk))
	assert.Equal(w.t, chunk.Chunks-1, chunk.Index, "the last chunk is the last of its mapping")
	return whole
}

func TestMappingInForceIsReadFromTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{})
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}
	require.NoError(t, topology.Provision(t.Context(), w.js, settings, topology.Everyone))
	put := func(chunks ...event.MappingChunk) {
		for _, c := range chunks {
			_, err := w.js.Publish(t.Context(), topology.SubjectMapping, event.Encode(&c))
			require.NoError(t, err)
		}
	}
	r := &refresher{js: w.js, log: w.quiet()}
	current := func() map[string]string {
		got, err := r.current(t.Context())
		require.NoError(t, err)
		return got
	}
	assert.Nil(t, current())
	put(event.MappingChunk{Snapshot: "a", Chunks: 2, Index: 0, Users: map[string]string{"1": "a"}})
	assert.Nil(t, current(), "a part is none")
	put(event.MappingChunk{Snapshot: "a", Chunks: 2, Index: 1, Users: map[string]string{"2": "b"}})
	assert.Equal(t, map[string]string{"1": "a", "2": "b"}, current())
	put(event.MappingChunk{Snapshot: "b", Chunks: 2, Index: 0, Users: map[string]string{"3": "c"}})
	assert.Equal(t, map[string]string{"1": "a", "2": "b"}, current(), "the last whole one counts")
	_, err := w.js.Publish(t.Context(), topology.SubjectMapping, []byte("nonsense"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"1": "a", "2": "b"}, current())
	put(event.MappingChunk{Snapshot: "c", Chunks: 1, Users: map[string]string{}})
	assert.Equal(t, map[string]string{}, current(), "an empty one is one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.current(ctx)
	require.Error(t, err)
}
