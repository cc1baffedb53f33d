package janitor

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// fakeResolver answers the janitor's requests.
type fakeResolver struct {
	mu    sync.Mutex
	asked []control.ObserveRequest
	judge func(control.ObserveRequest) (control.ObserveAnswer, error)
	state control.ResolverState
}

func (w *world) resolver(f *fakeResolver) *fakeResolver {
	w.t.Helper()
	stop, err := control.Serve(w.t.Context(), w.broker.Connect(w.t).NC, topology.Resolver, "test",
		control.On(control.Observe, func(_ context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
			f.mu.Lock()
			defer f.mu.Unlock()

			f.asked = append(f.asked, req)

			return f.judge(req)
		}),
		control.OnEvery(control.State, func(context.Context, control.Nothing) (control.ResolverState, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.state, nil
		}))
	require.NoError(w.t, err)
	w.t.Cleanup(stop)

	return f
}

func (f *fakeResolver) requests() []control.ObserveRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// clears answers a request as if every status in it were published as cleared.
func clears(req control.ObserveRequest) (answer control.ObserveAnswer, err error) {
	for _, u := range req.Users {
		answer.Findings = append(answer.Findings, control.Finding{User: u.User, Why: "stale duty", Published: true})
	}

	answer.Compared, answer.Published = len(req.Users), len(req.Users)

	return answer, nil
}

// cleaning returns settings with which the janitor only cleans up.
func (w *world) cleaning() Config {
	cfg := w.config()
	cfg.Sync.Mappings = false
	cfg.Lifetime.AutoCleanupHours = 24
	cfg.Cleanup.Interval = time.Hour

	return cfg
}

// onDuty makes users be on duty for the given time.
func onDuty(users []sim.User, since time.Duration) {
	for _, u := range users {
		u.Attributes[sim.DefaultDutyAttribute] = athoc.FormatTime(time.Now().Add(-since), time.Local)
	}
}

func TestStaleDutyOfManyIsFoundOverPagesAndToldAtOnce(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(4000, sim.DefaultCollar)
	onDuty(users[:2500], 25*time.Hour)
	onDuty(users[2500:3200], 20*time.Hour)
	w := newWorld(t, sim.Options{Users: users})
	resolver := w.resolver(&fakeResolver{judge: clears})
	started := time.Now()

	w.run(w.cleaning())
	w.eventually("the journal", func() bool { return len(w.ended(control.JobCleanup)) == 1 })

	asked := resolver.requests()
	require.Len(t, asked, 1)
	assert.Equal(t, control.Expire, asked[0].Purpose)
	assert.True(t, asked[0].Apply)
	assert.WithinRange(t, asked[0].Seen, started, time.Now())

	var told []string
	for _, u := range asked[0].Users {
		assert.True(t, u.On)
		told = append(told, u.User)
	}

	assert.ElementsMatch(t, logins(users[:2500]), told)
	assert.Equal(t, 4, w.searches(), "those on duty only")
	call := w.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointSearch})[0]
	criteria, _ := call.Parameters.Get("Criteria")
	assert.Equal(t, "On-Duty-DTG pr", criteria)
	assert.Less(t, asked[0].Seen.UnixNano(), call.Arrived, "the moment is before the first page was asked for")
	assert.Equal(t, map[string]int{"with_status": 3200, "no_date": 0, "stale": 2500, "cleared": 2500, "under_way": 0}, w.ended(control.JobCleanup)[0].Counts)
	assert.True(t, w.logs.Has("INFO", `"stale duty is cleared in AtHoc"`))
	assert.NotContains(t, w.logs.String(), "@example.org")
	assert.EqualValues(t, 2500, w.metric("stale_duties_cleared_total"))
	assert.Zero(t, w.athoc.Stats().Endpoints[sim.EndpointUpdate].Calls, "the janitor writes nothing")

	// At the next run there is nothing to do, so the journal gets no entry.
	_, err := w.athoc.ClearAttribute(sim.DefaultDutyAttribute, logins(users[:2500])...)
	require.NoError(t, err)

	before := w.searches()
	w.pass(61 * time.Minute)

	onTime := func() bool { return w.searches() == before+1 && w.leading().Jobs[1].Running.IsZero() }
	w.eventually("the next cleaning", onTime)
	assert.Len(t, resolver.requests(), 1)
	assert.Len(t, w.ended(control.JobCleanup), 1)
}

// TestSilentFeedsAreTold checks that the resolver is told of silent feeds together with stale duty, including feeds
// whose directory is away.
func TestSilentFeedsAreTold(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(1, sim.DefaultCollar)
	onDuty(users, 25*time.Hour)
	w := newWorld(t, sim.Options{Users: users})
	resolver := w.resolver(&fakeResolver{judge: clears})
	stop, err := control.Serve(t.Context(), w.broker.Connect(t).NC, topology.Ingest, "test",
		control.OnEvery(control.State, func(context.Context, control.Nothing) (control.IngestState, error) {
			return control.IngestState{
				Feeds: []control.FeedState{
					{Name: "north", Silent: true}, {Name: "south", LastFile: w.now()}, {Name: "east", LastFile: w.now()},
					{Name: "west", LastFile: w.now().Add(-20 * time.Minute)},
				},
				Directories: map[string]string{"FEEDS east": "does not exist", "FEEDS west": "does not exist"},
			}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(stop)
	w.run(w.cleaning())
	w.eventually("the request", func() bool { return len(resolver.requests()) == 1 })
	require.Equal(t, []string{"north", "west"}, resolver.requests()[0].Silent)
}

func TestOddDutyStatusesAreLeftAloneAndToldOnce(t *testing.T) {
	t.Parallel()
	const field = "Duty-Text"
	users := sim.GenerateUsers(10, sim.DefaultCollar)
	users[0].Attributes[field] = "on duty"
	users[1].Attributes[field] = "2024-06-17T14:30:00Z"
	users[2].Attributes[field] = "17/06/2001 14:30:00"
	w := newWorld(t, sim.Options{Users: users, Attributes: []sim.Attribute{{Name: field, Type: "string"}}})
	resolver := w.resolver(&fakeResolver{judge: clears})
	cfg := w.cleaning()
	cfg.AtHoc.DutyStatusField = field
	w.run(cfg)

	for round := 1; round <= 3; round++ {
		w.eventually("a cleaning", func() bool { return len(resolver.requests()) == round })
		require.Len(t, resolver.requests()[round-1].Users, 1)
		assert.Equal(t, users[2].LoginID, resolver.requests()[round-1].Users[0].User)
		assert.Equal(t, 1, w.logs.Count("that is no date and is left alone"))

		if round == 2 {
			require.NoError(t, w.athoc.PutUsers(sim.User{LoginID: users[3].LoginID, Attributes: map[string]string{field: "x"}}))
			break
		}

		w.eventually("its end", func() bool { return w.leading().Jobs[1].Running.IsZero() })
		w.pass(61 * time.Minute)
	}

	w.eventually("its end", func() bool { return w.leading().Jobs[1].Running.IsZero() })
	w.pass(61 * time.Minute)
	w.eventually("another number", func() bool { return w.logs.Count("that is no date and is left alone") == 2 })
	w.eventually("the journal", func() bool { return len(w.ended(control.JobCleanup)) == 3 })
	assert.Equal(t, 3, w.ended(control.JobCleanup)[0].Counts["no_date"])
}

func TestCleaningSwitchedOff(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(3, sim.DefaultCollar)
	onDuty(users, 1000*time.Hour)
	w := newWorld(t, sim.Options{Users: users})
	cfg := w.cleaning()
	cfg.Lifetime.AutoCleanupHours = 0
	stop := w.run(cfg)
	assert.True(t, w.leading().Jobs[1].Off)
	w.pass(1000 * time.Hour)
	stop()
	assert.Zero(t, w.searches())
}

func TestFailedCleaningsAreTriedAgainAndAreOneEntry(t *testing.T) {
	t.Parallel()

	users := sim.GenerateUsers(3, sim.DefaultCollar)
	onDuty(users, 25*time.Hour)
	w := newWorld(t, sim.Options{Users: users})
	w.run(w.cleaning())
	// There is no resolver.
	for n := range 3 {
		w.eventually("a failure", func() bool { return w.leading().Jobs[1].Failures == n+1 })
		w.pass(time.Hour)
	}

	resolver := w.resolver(&fakeResolver{judge: clears})
	w.pass(time.Hour)
	w.eventually("a success", func() bool {
		if len(resolver.requests()) == 0 {
			w.pass(time.Minute)
		}
		return len(resolver.requests()) > 0 && w.leading().Jobs[1].Failures == 0
	})

	var failed []control.JournalEntry
	for _, e := range w.ended(control.JobCleanup) {
		if e.Outcome == control.OutcomeFailed {
			failed = append(failed, e)
		}
	}

	require.Len(t, failed, 1)
	assert.Contains(t, failed[0].Error, "no such service answers")
	assert.GreaterOrEqual(t, failed[0].Counts["times"], 3)
}
