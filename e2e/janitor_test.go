//go:build unix

package e2e_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/boborow"
)

// staleRounds is how often stale duty is cleared while workers book on; make soak-stale sets a higher number.
var staleRounds = flag.Int("stale-rounds", 2, "rounds of TestWhoBooksOnWhileStaleDutyIsClearedIsOnDuty")

// roster is a stack whose workers a test books on and off one file after the other, so that the test knows the right
// end state.
type roster struct {
	t       *testing.T
	s       *harness.Stack
	rng     *rand.Rand
	workers int
	clock   time.Time
	latest  map[string]booking
	files   int
}

func newRoster(t *testing.T, workers, publishers int, settings map[string]string) *roster {
	t.Helper()
	return newRosterIn(t, workDir(t), harness.Config{Publishers: publishers, Settings: settings}, workers)
}

// newRosterIn is newRoster with the given configuration of the stack, in the given directory.
func newRosterIn(t *testing.T, dir string, cfg harness.Config, workers int) *roster {
	t.Helper()

	vars := map[string]string{
		"BATCH_SIZE": "1000", "ATHOC_RATE_LIMIT": "50", "ATHOC_TIMEOUT": "10s", "LOG_LEVEL": "INFO", "BATCH_WAIT": "100ms", "CLEANUP_INTERVAL": "1s",
	}
	maps.Copy(vars, cfg.Settings)
	cfg.Plan, cfg.Settings = staff(workers), vars
	s := startIn(t, dir, cfg)
	require.NoError(t, s.Idle(idleWithin))

	return &roster{
		t: t, s: s, rng: rand.New(rand.NewPCG(3, 4)), workers: workers, latest: map[string]booking{},
		clock: time.Now().Add(-5 * time.Hour).Truncate(time.Second),
	}
}

func login(employee string) string { return "worker" + employee + "@example.org" }

// some draws n workers.
func (r *roster) some(n int) []string {
	var out []string
	for _, i := range r.rng.Perm(r.workers)[:n] {
		out = append(out, fmt.Sprintf("%05d", i))
	}

	return out
}

// book drops a file with a booking of each worker, later than all bookings before.
func (r *roster) book(on bool, employees ...string) {
	r.t.Helper()

	zone, err := time.LoadLocation(harness.BoboZone)
	require.NoError(r.t, err)

	r.clock = r.clock.Add(10 * time.Second)
	at := r.clock.In(zone)
	var text strings.Builder
	for _, e := range employees {
		fmt.Fprintln(&text, boborow.New(on, e, at))
		r.latest[e] = booking{at, on}
	}

	r.files++
	require.NoError(r.t, r.s.In.Drop(workload.File{Name: fmt.Sprintf("booking %d.csv", r.files), Content: []byte(text.String())}))
}

// edit sets the duty status of users in AtHoc, as somebody would by hand.
func (r *roster) edit(at time.Time, employees ...string) {
	r.t.Helper()

	zone, err := time.LoadLocation(harness.AtHocZone)
	require.NoError(r.t, err)

	value := ""
	if !at.IsZero() {
		value = at.In(zone).Format(sim.DateLayout)
	}

	values := map[string]string{}
	for _, e := range employees {
		values[login(e)] = value
	}

	require.NoError(r.t, r.s.Sim.Edit(r.t.Context(), sim.DefaultDutyAttribute, values))
}

// TestWhoBooksOnWhileStaleDutyIsClearedIsOnDuty checks that workers who book on while the janitor has everybody's
// stale duty cleared in AtHoc are on duty in the end, and that nobody else is.
func TestWhoBooksOnWhileStaleDutyIsClearedIsOnDuty(t *testing.T) {
	slow(t)

	const workers, booking = 2500, 500
	r := newRoster(t, workers, 3, nil)
	everybody := slices.Sorted(maps.Keys(allOf(workers)))
	var on []string
	for round := range *staleRounds {
		if len(on) > 0 {
			r.book(false, on...)
			require.NoError(t, r.s.Idle(idleWithin))
		}

		on = r.some(booking)
		r.edit(time.Now().Add(-time.Duration(25+r.rng.IntN(500))*time.Hour), everybody...)
		// The file is read a moment after it was dropped, which falls somewhere into the clearing.
		timer := time.NewTimer(time.Duration(r.rng.IntN(1500)) * time.Millisecond)
		<-timer.C
		r.book(true, on...)
		require.NoError(t, r.s.Idle(idleWithin), "round %d", round)
		requireStatuses(t, r.s, r.latest)
		require.Equal(t, booking, onDuty(t, r.s), "round %d", round)
	}

	t.Logf("%d rounds", *staleRounds)
}

func allOf(workers int) map[string]bool {
	out := map[string]bool{}
	for i := range workers {
		out[fmt.Sprintf("%05d", i)] = true
	}

	return out
}

// onDuty counts the workers who have a duty status, not counting the one with whom the harness checks that everything
// works.
func onDuty(t *testing.T, s *harness.Stack) int {
	t.Helper()
	users, err := s.Sim.Users(t.Context())
	require.NoError(t, err)

	n := 0
	for user, attributes := range users {
		if strings.HasPrefix(user, "worker") && attributes[sim.DefaultDutyAttribute] != "" {
			n++
		}
	}

	return n
}

// TestStaleDutyIsClearedInFewCalls checks that clearing 2,500 users, including users whom no file has ever mentioned,
// takes only as many calls as BATCH_SIZE requires. Of several publishers, each may make one more call that is not
// full, and the very first call is small, to learn how fast AtHoc is. The publishers wait for a full batch for as
// long as a slow machine may take to publish everything.
func TestStaleDutyIsClearedInFewCalls(t *testing.T) {
	long(t)

	const workers, needed = 2500, 3
	for publishers, most := range map[int]int{1: needed + 1, 3: needed + 1 + 3} {
		t.Run(fmt.Sprintf("%d publishers", publishers), func(t *testing.T) {
			r := newRoster(t, workers, publishers, map[string]string{"BATCH_WAIT": "2s"})
			before, err := r.s.Sim.Stats(t.Context())
			require.NoError(t, err)
			r.edit(time.Now().Add(-30*time.Hour), slices.Collect(maps.Keys(allOf(workers)))...)
			require.NoError(t, r.s.Idle(idleWithin))
			require.Zero(t, onDuty(t, r.s))
			after, err := r.s.Sim.Stats(t.Context())
			require.NoError(t, err)

			calls := after.Endpoints[sim.EndpointUpdate].Calls - before.Endpoints[sim.EndpointUpdate].Calls
			require.LessOrEqual(t, calls, most)
			t.Logf("%d users cleared in %d calls", workers, calls)
		})
	}
}

// TestReconcile checks that what was changed by hand in AtHoc is found and, if asked for, corrected, and that what a
// newer event has changed is not touched.
func TestReconcile(t *testing.T) {
	slow(t)
	r := newRoster(t, 40, 3, nil)
	everybody := r.some(40)
	r.book(true, everybody...)
	require.NoError(t, r.s.Idle(idleWithin))

	byHand, newer := everybody[:3], everybody[3]
	r.edit(time.Time{}, byHand[0])
	r.edit(time.Now().Add(-2*time.Hour), byHand[1], byHand[2])
	r.edit(time.Time{}, newer)
	r.book(false, newer) // so that AtHoc is right about this user
	require.NoError(t, r.s.Idle(idleWithin))

	report := func(args ...string) (users map[string]string, applied int) {
		out, err := r.s.Operate(t.Context(), append([]string{"reconcile", "--json"}, args...)...)
		require.NoError(t, err)
		var answer struct {
			Applied int `json:"applied"`
			Users   []struct{ Employee, Why string }
		}
		require.NoError(t, json.Unmarshal([]byte(out), &answer), out)

		users = map[string]string{}
		for _, u := range answer.Users {
			users[u.Employee] = u.Why
		}

		return users, answer.Applied
	}
	require.Eventually(t, func() bool { // users confirmed only just now are not judged
		found, applied := report()
		require.Zero(t, applied)
		return slices.Equal(slices.Sorted(maps.Keys(found)), slices.Sorted(slices.Values(byHand)))
	}, idleWithin, time.Second)
	require.NoError(t, r.s.Idle(idleWithin))

	_, applied := report("--apply")
	require.Equal(t, len(byHand), applied)
	require.NoError(t, r.s.Idle(idleWithin))
	requireStatuses(t, r.s, r.latest)

	found, _ := report()
	require.Empty(t, found)
}
