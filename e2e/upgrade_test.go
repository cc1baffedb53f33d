//go:build unix

package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/await"
)

// recordWith makes TestRecordUpgrade record the test data again: docs/testing.md says how.
var recordWith = flag.String("record-upgrade", "", "`directory` with the programs of an older version, and natsd, whose stores TestRecordUpgrade keeps")

// upgradeSettings are the same before and after the upgrade. Nothing ever counts as stale, and no finished file is
// deleted, because the recorded data grows old. The directories are relative, because the ledger knows finished files
// by their path.
var upgradeSettings = map[string]string{
	"AUTO_CLEANUP_HOURS": "0", "BATCH_SIZE": "1000", "PROCESSED_FILES_PURGE_DAYS": "0", "CLIENT_SECRET": "upgrade-secret", "PASSWORD": "upgrade-password",
	"CSV_DIRECTORY": "in", "PROCESSED_DIRECTORY": "processed", "FAILED_FILES_DIRECTORY": "failed",
}

func upgradeArchive(allInOne bool) string {
	return filepath.Join("testdata", "upgrade", "8e1707d-"+map[bool]string{true: "all-in-one", false: "services"}[allInOne]+".tar.gz")
}

// Who is who in the recorded data. The workers in unmapped get a user in AtHoc only after the upgrade. The users of
// the workers in left are already gone from AtHoc, but the mapping that says so is held back.
var (
	ordinary = numbers(0, 20)
	unmapped = numbers(20, 23)
	left     = numbers(23, 400)
	crowd    = numbers(400, 2500) // so many that a replay is not published in one go
	stubborn = ordinary[:3]       // their updates wait when everything stops
	refused  = ordinary[19]       // AtHoc refuses this worker's update, so that there is a dead letter
)

func numbers(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%05d", i))
	}

	return out
}

// TestUpgrade checks that everything that waits in the stores of commit 8e1707d is processed correctly by the current
// programs.
func TestUpgrade(t *testing.T) {
	slow(t)

	for _, allInOne := range []bool{false, true} {
		t.Run(fmt.Sprintf("all in one %t", allInOne), func(t *testing.T) {
			t.Parallel()
			dir := workDir(t)
			past, err := harness.Unpack(upgradeArchive(allInOne), dir)
			require.NoError(t, err)
			require.NoError(t, harness.MakeYoung(filepath.Join(dir, "jetstream")))
			require.NoError(t, harness.MakeYoung(filepath.Join(dir, "data", "jetstream")))

			for _, employee := range unmapped { // they have been added to AtHoc
				user := audit.User{Login: login(employee), Collar: employee, Attributes: map[string]string{
					sim.DefaultCollar: employee, sim.DefaultDutyAttribute: "",
				}}
				past.Users, past.Final[user.Login] = append(past.Users, user), user.Attributes
			}

			for i, u := range past.Users {
				past.Users[i].Removed = slices.Contains(left, u.Collar)
			}

			s := startIn(t, dir, harness.Config{Publishers: 2, AllInOne: allInOne, Past: past, Settings: upgradeSettings})
			requeueAll(t, s)
			approve(t, s)

			for i, u := range past.Users {
				if slices.Contains(unmapped, u.Collar) {
					past.Users[i].Mapped = time.Now()
				}
			}

			finish(t, s)
			replays := ask[[]struct{ Stopped bool }](t, s, "replay", "list")
			require.Len(t, replays, 1)
			require.True(t, replays[0].Stopped, "what was stopped stays so")
		})
	}
}

// requeueAll requeues all dead letters, of which there is one, and waits until its file is finished.
func requeueAll(t *testing.T, s *harness.Stack) {
	t.Helper()
	letters := ask[[]struct{ ID uint64 }](t, s, "dead", "list")
	require.Len(t, letters, 1)
	_, err := s.Operate(t.Context(), "dead", "requeue", "--all")
	require.NoError(t, err)
	await.True(t, func() bool {
		failed, err := os.ReadDir(s.Path("failed"))
		return err == nil && len(failed) == 0
	}, idleWithin, "the file with the dead row is finished")
}

// approve approves the mapping that is held back.
func approve(t *testing.T, s *harness.Stack) {
	t.Helper()
	await.True(t, func() bool { // the janitor may be the last service to have started
		held, err := heldMapping(t, s)
		return err == nil && held != ""
	}, readyWithin, "a mapping is held back")
	_, err := s.Operate(t.Context(), "mapping", "refresh") // AtHoc now has users whom the mapping lacks
	require.ErrorContains(t, err, "held back")
	held, err := heldMapping(t, s)
	require.NoError(t, err)
	_, err = s.Operate(t.Context(), "mapping", "approve", held)
	require.NoError(t, err)
}

func heldMapping(t *testing.T, s *harness.Stack) (string, error) {
	answer, err := asked[struct{ Held struct{ ID string } }](t, s, "mapping", "show")
	return answer.Held.ID, err
}

// TestRecordUpgrade makes the stores that TestUpgrade continues from.
func TestRecordUpgrade(t *testing.T) {
	if *recordWith == "" {
		t.Skip("it makes test data: see docs/testing.md")
	}

	for _, allInOne := range []bool{false, true} {
		t.Run(fmt.Sprintf("all in one %t", allInOne), func(t *testing.T) {
			p := staff(2500)
			for i := range p.Workers {
				switch {
				case slices.Contains(unmapped, p.Workers[i].Employee):
					p.Workers[i].Login = ""
				case slices.Contains(left, p.Workers[i].Employee):
					p.Workers[i].Role = workload.Removed
				}
			}

			s, err := harness.Start(t.Context(), harness.Config{
				Dir: workDir(t), Bin: *recordWith, Publishers: 2, AllInOne: allInOne, Plan: p, Settings: upgradeSettings,
			})
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			require.NoError(t, err)
			r := recorder{roster{t: t, s: s, clock: time.Now().Add(-2 * time.Hour), latest: map[string]booking{}}}
			r.record(allInOne)
			require.NoError(t, s.Pack(upgradeArchive(allInOne)))
		})
	}
}

// recorder leaves something waiting at each stage of the pipeline.
type recorder struct{ roster }

func (r *recorder) record(allInOne bool) {
	t, s := r.t, r.s
	require.NoError(t, s.Ready(readyWithin))
	r.book(true, append(slices.Concat(ordinary, unmapped, left, crowd), "99999")...)
	require.NoError(t, s.Idle(idleWithin))

	// A dead letter: AtHoc rejects a value even if it is sent alone.
	_, err := s.Sim.Fault(t.Context(), sim.Fault{Kind: sim.FaultStatus, Status: 400, Scope: []string{sim.EndpointUpdate}})
	require.NoError(t, err)
	r.book(false, refused)
	await.True(t, func() bool { return len(ask[[]any](t, s, "dead", "list")) == 1 }, idleWithin)
	require.NoError(t, s.Sim.Calm(t.Context()))

	// A mapping that is held back: users are gone.
	require.NoError(t, s.RemoveUsers())
	_, err = s.Operate(t.Context(), "mapping", "refresh")
	require.ErrorContains(t, err, "held back")

	// Updates that wait, after a replay that was stopped.
	_, err = s.Sim.Fault(t.Context(), sim.Fault{Kind: sim.FaultUserError, Users: logins(stubborn)})
	require.NoError(t, err)
	s.RefuseAtHoc(true)
	_, err = s.Operate(t.Context(), "replay", "--all")
	require.NoError(t, err)
	replays := ask[[]struct{ ID string }](t, s, "replay", "list")
	require.Len(t, replays, 1)
	_, err = s.Operate(t.Context(), "replay", "stop", replays[0].ID)
	require.NoError(t, err)
	r.book(false, ordinary[:8]...)

	if !allInOne {
		r.leaveUnread()
	}

	s.RefuseAtHoc(false)
	r.until("all are sent but the stubborn", func() bool { return r.off(ordinary[3:8]) })

	if !allInOne {
		r.until("outcomes wait", func() bool { return r.waits("ACKS") > 0 })
	}

	require.NoError(t, s.KillAll())
	r.book(true, slices.Concat(ordinary[1:2], ordinary[7:12], unmapped[:1])...) // nobody has read this file
}

// leaveUnread leaves entries that the resolver has not read, and no process that would read outcomes.
func (r *recorder) leaveUnread() {
	require.NoError(r.t, r.s.AwaitBacklog(readyWithin))
	r.until("the resolver has read all", func() bool { return r.waits("ENTRIES") == 0 })
	require.NoError(r.t, r.s.Process(harness.Resolver).Kill())
	r.book(true, slices.Concat(ordinary[2:6], unmapped[1:])...)
	r.until("entries wait", func() bool { return r.waits("ENTRIES") > 0 })
	require.NoError(r.t, r.s.Process(harness.Ingest).Kill())
}

func (r *recorder) until(what string, holds func() bool) {
	r.t.Helper()
	await.True(r.t, holds, readyWithin, what)
}

// off reports whether none of these workers is on duty in AtHoc.
func (r *recorder) off(employees []string) bool {
	users, err := r.s.Sim.Users(r.t.Context())
	require.NoError(r.t, err)
	return !slices.ContainsFunc(employees, func(e string) bool { return users[login(e)][sim.DefaultDutyAttribute] != "" })
}

// waits counts the messages of a stream that one of its consumers has yet to acknowledge.
func (r *recorder) waits(stream string) (most uint64) {
	conn, err := nats.Connect(r.s.BrokerURL())
	require.NoError(r.t, err)

	defer conn.Close()

	js, err := jetstream.New(conn)
	require.NoError(r.t, err)
	st, err := js.Stream(r.t.Context(), stream)
	require.NoError(r.t, err)

	consumers := st.ListConsumers(r.t.Context())
	for c := range consumers.Info() {
		most = max(most, c.NumPending+uint64(c.NumAckPending))
	}

	require.NoError(r.t, consumers.Err())

	return most
}

func logins(employees []string) []string {
	var out []string
	for _, e := range employees {
		out = append(out, login(e))
	}

	return out
}
