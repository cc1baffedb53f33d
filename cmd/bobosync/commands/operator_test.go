package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

const timeout = time.Minute

// responders plays the services on a real broker. Commands are called as main calls them.
type responders struct {
	t    *testing.T
	srv  *bustest.Server
	conn *bus.Conn
}

// newResponders starts a broker with everything that the services create in it, but without any service.
func newResponders(t *testing.T) *responders {
	t.Helper()
	srv := bustest.Start(t)
	r := &responders{t: t, srv: srv, conn: srv.Connect(t)}
	err := topology.Provision(t.Context(), r.conn.JS, topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}, topology.Everyone)
	require.NoError(t, err)
	r.addressed()

	return r
}

// addressed sets NATS_URL so that the commands reach the broker.
func (r *responders) addressed() {
	r.t.Setenv("NATS_URL", r.srv.ClientURL())
}

// serve answers for a service until the end of the test, or until stop is called.
func (r *responders) serve(service topology.Service, endpoints ...control.Endpoint) (stop func()) {
	r.t.Helper()
	stop, err := control.Serve(r.t.Context(), r.conn.NC, service, "dev", endpoints...)
	require.NoError(r.t, err)
	r.t.Cleanup(stop)

	return stop
}

// says returns an endpoint that answers every request with res.
func says[Res any](name string, res Res) control.Endpoint {
	return control.On(name, func(context.Context, json.RawMessage) (Res, error) { return res, nil })
}

// states returns an endpoint that reports res as an instance's state.
func states[Res any](res Res) control.Endpoint {
	return control.OnEvery(control.State, func(context.Context, control.Nothing) (Res, error) { return res, nil })
}

// asked records the requests to a service.
type asked[Req any] struct {
	mu  sync.Mutex
	all []Req
}

func (a *asked[Req]) got() []Req {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Req(nil), a.all...)
}

// hears returns an endpoint that records its requests and answers them.
func hears[Req, Res any](a *asked[Req], name string, answer func(Req) (Res, error)) control.Endpoint {
	return control.On(name, func(_ context.Context, req Req) (Res, error) {
		a.mu.Lock()
		a.all = append(a.all, req)
		a.mu.Unlock()
		return answer(req)
	})
}

// call runs a command in this process, as main runs it.
func (r *responders) call(args ...string) (out, text string, status int) {
	r.t.Helper()
	return callHere(r.t, args...)
}

func callHere(t *testing.T, args ...string) (out, text string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := Root(func(*string) []*cobra.Command { return nil })
	root.SetArgs(args)
	root.SetOut(&stdout)
	root.SetErr(&stderr)

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	status = Execute(ctx, root)

	return stdout.String(), stderr.String(), status
}

// succeeds runs a command that must exit with 0 and print nothing to standard error.
func (r *responders) succeeds(args ...string) string {
	r.t.Helper()
	out, text, status := r.call(args...)
	require.Equal(r.t, 0, status, "bobosync %s: %s%s", strings.Join(args, " "), out, text)
	require.Empty(r.t, text, "bobosync %s", strings.Join(args, " "))

	return out
}

// fails runs a command that must exit with this status and print this text.
func (r *responders) fails(status int, says string, args ...string) string {
	r.t.Helper()
	out, text, got := r.call(args...)
	require.Equal(r.t, status, got, "bobosync %s: %s%s", strings.Join(args, " "), out, text)
	require.Contains(r.t, out+text, says, "bobosync %s", strings.Join(args, " "))

	return out + text
}

// allWell serves the states of an installation in which nothing is wrong.
func (r *responders) allWell() (stopPublisher func()) {
	r.t.Helper()

	now := time.Now()
	me := control.Instance{Name: "a/1", Version: "v1.2.3", Started: now.Add(-time.Hour)}
	r.serve(topology.Ingest, states(control.IngestState{Instance: me, LastFile: now.Add(-time.Minute), FreeBytes: 9 << 30}))
	r.serve(topology.Resolver, states(control.ResolverState{Instance: me, Recovered: true, Workers: 7, OnDuty: 3, Snapshot: "s", Mapped: 9}))
	r.serve(topology.Janitor, states(control.JanitorState{Instance: me, Leads: true, Jobs: []control.Job{{Name: control.JobMapping, LastSuccess: now}}}))

	return r.serve(topology.Publisher, states(control.PublisherState{Instance: me, Partitions: []int{2}, LastSuccess: now}))
}

// told returns what the status says as JSON. It misses late answers, so call it until all are there.
func (r *responders) told(t require.TestingT, status int, args ...string) (level string, causes []string, f verdict.Facts) {
	out, text, got := r.call(append([]string{"status", "--json"}, args...)...)
	require.Equal(t, status, got, "%s%s", out, text)
	var answer struct {
		Verdict  string
		Findings []struct{ Cause, Text, Do string }
		Facts    verdict.Facts
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer))

	for _, found := range answer.Findings {
		causes = append(causes, found.Cause)
		require.NotEmpty(t, found.Text)
		require.NotEmpty(t, found.Do)
	}

	return answer.Verdict, causes, answer.Facts
}

// until repeats holds until all its requirements are met.
func (r *responders) until(holds func(t require.TestingT)) {
	r.t.Helper()
	await.NoFailure(r.t, func(c *await.Try) { holds(c) }, timeout)
}

func TestStatusOfAnInstallation(t *testing.T) {
	r := newResponders(t)
	stopPublisher := r.allWell()
	r.until(func(t require.TestingT) {
		level, causes, _ := r.told(t, 0)
		require.Equal(t, "ok", level)
		require.Empty(t, causes)

		out, _, _ := r.call("status")
		require.Contains(t, out, "OK: duty data is fresh\n")
	})

	// Messages that wait in the broker, and a partition that is leased.
	for range 3 {
		_, err := r.conn.JS.Publish(t.Context(), topology.EntriesSubject("f"), []byte("{}"))
		require.NoError(t, err)
	}

	_, err := r.conn.JS.Publish(t.Context(), topology.UpdatesSubject("u"), []byte("{}"))
	require.NoError(t, err)
	leases, err := r.conn.JS.KeyValue(t.Context(), topology.BucketLeases)
	require.NoError(t, err)
	_, err = leases.PutString(t.Context(), topology.PartitionLease(5), "b-2")
	require.NoError(t, err)
	r.until(func(t require.TestingT) {
		_, _, f := r.told(t, 0)
		require.Equal(t, map[topology.Service]uint64{topology.Ingest: 0, topology.Resolver: 3, topology.Publisher: 1}, f.Backlog)
		require.Equal(t, map[int]string{5: "b-2"}, f.Partitions)
	})

	// AtHoc's state is known even without a publisher.
	stopPublisher()

	state, err := r.conn.JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	data, err := json.Marshal(breaker.State{Class: breaker.Refused, Since: time.Now(), Cause: "athoc: get access token: unauthorized"})
	require.NoError(t, err)
	_, err = state.Put(t.Context(), breaker.Key, data)
	require.NoError(t, err)
	_, err = r.conn.JS.Publish(t.Context(), topology.DeadSubject("publisher"), []byte("{}"))
	require.NoError(t, err)
	r.until(func(t require.TestingT) {
		level, causes, _ := r.told(t, 2)
		require.Equal(t, "problem", level)
		require.Equal(t, []string{"no_publisher", verdict.CauseAtHocRefuses, verdict.CauseDead}, causes)
	})
	out := r.fails(2, "PROBLEM: no new duty data reaches AtHoc\n", "status")
	require.Contains(t, out, "No publisher is alive: nothing is sent to AtHoc")

	require.NoError(t, r.conn.JS.DeleteStream(t.Context(), topology.StreamUpdates))
	require.NoError(t, r.conn.JS.DeleteConsumer(t.Context(), topology.StreamAcks, topology.ConsumerIngestAcks))
	r.until(func(t require.TestingT) {
		_, causes, f := r.told(t, 2)
		require.Equal(t, verdict.CauseMissing, causes[0])
		require.ElementsMatch(t, []string{"stream UPDATES", "consumer ingest-acks"}, f.Missing)
	})
}

func TestStatusWarns(t *testing.T) {
	r := newResponders(t)
	now := time.Now()
	me := control.Instance{Name: "a/1", Version: "v1.2.3", Started: now.Add(-30 * time.Hour)}
	r.serve(topology.Ingest, states(control.IngestState{Instance: me, LastFile: now.Add(-13 * time.Hour), FreeBytes: 9 << 30}))
	r.serve(topology.Resolver, states(control.ResolverState{Instance: me, Recovered: true, Snapshot: "s"}))
	r.serve(topology.Janitor, states(control.JanitorState{Instance: me, Leads: true}))
	r.serve(topology.Publisher, states(control.PublisherState{Instance: me}))
	// A second process of a service answers, too.
	other := me
	other.Name, other.Version = "A/9", "v1.2.4"
	stop, err := control.Serve(t.Context(), r.srv.Connect(t).NC, topology.Publisher, "dev", states(control.PublisherState{Instance: other}))
	require.NoError(t, err)
	t.Cleanup(stop)

	r.until(func(t require.TestingT) {
		_, causes, f := r.told(t, 1)
		require.Equal(t, []string{verdict.CauseSilent, verdict.CauseVersions}, causes)
		require.Len(t, f.Publisher, 2)
		require.Equal(t, "A/9", f.Publisher[0].Name, "in the same order each time")
	})
	r.until(func(t require.TestingT) {
		_, causes, _ := r.told(t, 1, "--silent-after", "14h")
		require.Equal(t, []string{verdict.CauseVersions}, causes)
	})
}

func TestStatusWithoutABroker(t *testing.T) {
	if testing.Short() {
		t.Skip("tries for seconds")
	}

	t.Setenv("NATS_URL", "nats://user:hunter2@"+bustest.FreeAddr(t))

	began := time.Now()
	out, text, status := callHere(t, "status")
	require.Equal(t, 2, status)
	require.Empty(t, text)
	require.Contains(t, out, "PROBLEM: nobody can tell whether duty data is fresh")
	require.Contains(t, out, "The broker cannot be reached")
	require.NotContains(t, out, "hunter2")
	require.Less(t, time.Since(began), timeout/2)
}

// TestStatusOfABrokerWithoutJetStream checks the status when a broker answers that has no JetStream. The broker
// switches JetStream off by itself when its disk is full.
func TestStatusOfABrokerWithoutJetStream(t *testing.T) {
	if testing.Short() {
		t.Skip("tries for seconds")
	}

	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
	})
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(timeout))
	t.Setenv("NATS_URL", srv.ClientURL())

	look := &client.Observer{}
	look.Broker.URL = srv.ClientURL()
	t.Cleanup(look.Close)
	f, err := look.Observe(t.Context())
	require.NoError(t, err)
	require.Nil(t, f.Unreachable)
	require.Contains(t, f.Missing, "stream ENTRIES")

	require.NoError(t, srv.DisableJetStream())
	f, err = look.Observe(t.Context())
	require.NoError(t, err)
	require.NotNil(t, f.Unreachable, "%+v", f)
	require.Equal(t, verdict.CauseJetStream, f.Unreachable.Cause)

	began := time.Now()
	out, text, status := callHere(t, "status")
	require.Equal(t, 2, status, text)
	require.Contains(t, out, "its JetStream is off or does not answer")
	require.Less(t, time.Since(began), timeout/2)
	_, text, status = callHere(t, "dead", "list")
	require.Equal(t, 1, status)
	require.Contains(t, text, "its JetStream is off or does not answer")
}

// TestAnOrderWithoutTheRight checks that a user of the broker who may look but give no orders is told so at once.
func TestAnOrderWithoutTheRight(t *testing.T) {
	viewer := &server.User{Username: "viewer", Password: "hunter2", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>"}},
	}}
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), Users: []*server.User{viewer},
	})
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(timeout))
	t.Setenv("NATS_URL", strings.Replace(srv.ClientURL(), "nats://", "nats://viewer:hunter2@", 1))

	began := time.Now()

	for _, args := range [][]string{{"mapping", "refresh"}, {"replay", "--all"}, {"files", "list"}} {
		_, text, status := callHere(t, args...)
		require.Equal(t, 1, status)
		require.Contains(t, text, "does not let this user give that order: call the command with the operator's file in NATS_CREDS")
		require.NotContains(t, text, "hunter2")
	}

	require.Less(t, time.Since(began), timeout/2)
}

func TestStatusIsWatched(t *testing.T) {
	r := newResponders(t)
	r.allWell()

	look := &client.Observer{}
	look.Broker.URL = r.srv.ClientURL()
	t.Cleanup(look.Close)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The second block is followed by Ctrl-C.
	w := &pieces{until: 2, then: cancel}
	require.NoError(t, watchStatus(ctx, look, w, statusFlags{}))
	require.Equal(t, 2, strings.Count(w.buf.String(), "OK: duty data is fresh"))
	require.NotContains(t, w.buf.String(), "\x1b", "no terminal, no signs for one")
}

// pieces keeps what is written to it, and calls then after the given number of writes.
type pieces struct {
	buf   bytes.Buffer
	until int
	then  func()
}

func (b *pieces) Write(p []byte) (int, error) {
	if b.until--; b.until == 0 {
		defer b.then()
	}
	return b.buf.Write(p)
}

func TestUsageErrorsEndWithTwo(t *testing.T) {
	t.Setenv("NATS_URL", "nats://"+bustest.FreeAddr(t)) // nobody must get that far

	for _, args := range [][]string{
		{"sned"}, {"dead", "sned"}, {"mapping", "sned"}, {"status", "--loud"}, {"status", "me"}, {"worker"}, {"worker", "1", "2"},
		{"replay"}, {"replay", "--all", "--since", "1h"}, {"files", "show"}, {"mapping", "approve", "a", "b"}, {"status", "--silent-after", "long"},
		{"reconcile", "--apply", "--dry-run"}, {"files", "show", "a.csv", "--csv", "--json"}, {"journal", "--most", "many"},
	} {
		out, text, status := callHere(t, args...)
		require.Equal(t, exitUsage, status, "bobosync %v: %s%s", args, out, text)
		require.Contains(t, text, "--help", "bobosync %v", args)
		require.Empty(t, out, "bobosync %v", args)
	}

	for _, args := range [][]string{{}, {"dead"}, {"mapping"}, {"help"}, {"status", "--help"}, {"completion", "bash"}, {"--version"}} {
		out, text, status := callHere(t, args...)
		require.Equal(t, 0, status, "bobosync %v: %s", args, text)
		require.NotEmpty(t, out, "bobosync %v", args)
	}
}

// TestTheShellCompletes checks that the shell completes names that the services know, and completes nothing if no
// service answers.
func TestTheShellCompletes(t *testing.T) {
	r := newResponders(t)
	require.NotContains(t, r.succeedsLoudly("__complete", "files", "show", ""), "monday.csv")
	r.serve(topology.Ingest, says(control.Files, control.FilesAnswer{Files: []control.FileState{{ID: "f1", Name: "monday.csv"}}}))
	r.serve(topology.Resolver, says(control.Replays, []control.ReplayState{{ID: "r1", What: "every\x1b[2J\u202eone"}, {ID: "r2", Ended: time.Now()}}))
	r.serve(topology.Janitor, says(control.MappingShow, control.MappingReport{Held: &control.HeldMapping{ID: "3fa9c1"}}))

	completes := func(name string, args ...string) (out string) { // names that do not arrive in time are left out
		await.True(t, func() bool {
			out = r.succeedsLoudly(append([]string{"__complete"}, args...)...)
			return strings.Contains(out, name)
		}, timeout, "%s for %v", name, args)

		return out
	}
	completes("monday.csv", "files", "show", "")
	completes("monday.csv", "replay", "--file", "")
	completes("3fa9c1", "mapping", "approve", "")
	completes("reconcile", "journal", "--kind", "")
	stoppable := completes("r1", "replay", "stop", "")
	require.NotContains(t, stoppable, "r2")
	require.NotContains(t, stoppable, "\x1b", "the shell shows it as it is")
	require.NotContains(t, stoppable, "\u202e")
}

// succeedsLoudly runs a command that must exit with 0 but may print to standard error.
func (r *responders) succeedsLoudly(args ...string) string {
	r.t.Helper()
	out, text, status := r.call(args...)
	require.Equal(r.t, 0, status, text)
	return out
}
