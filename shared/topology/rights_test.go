package topology_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

// strict is a broker that keeps its users apart; each user's password is the user's name.
type strict struct {
	t  *testing.T
	ns *server.Server
}

func newStrict(t *testing.T) *strict {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "nats.conf")
	accounts := topology.AccountsConf(func(user string) string { return fmt.Sprintf("user: %s, password: %s", user, user) })
	require.NoError(t, os.WriteFile(conf, []byte("listen: 127.0.0.1:-1\njetstream { store_dir: '"+t.TempDir()+"' }\n"+accounts), 0o600))
	opts, err := server.ProcessConfigFile(conf)
	require.NoError(t, err)

	opts.NoSigs, opts.NoLog = true, true
	ns, err := server.NewServer(opts)
	require.NoError(t, err)
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	require.True(t, ns.ReadyForConnections(10*time.Second))

	return &strict{t, ns}
}

func (s *strict) login(user string) jetstream.JetStream {
	s.t.Helper()
	nc, err := nats.Connect(s.ns.ClientURL(), nats.UserInfo(user, user), nats.CustomInboxPrefix(topology.Inbox(user)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.t.Errorf("%s: %v", user, err) }))
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(s.t, err)

	return js
}

func (s *strict) streams() []string {
	var names []string
	list := s.login(topology.UserViewer).StreamNames(s.t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}

	require.NoError(s.t, list.Err())
	slices.Sort(names)

	return names
}

// TestServicesFindWhatTheProvisionerMade: each service starts with its own rights, before and after everything was
// made, and nothing is refused.
func TestServicesFindWhatTheProvisionerMade(t *testing.T) {
	t.Parallel()

	s := newStrict(t)
	ended := make(chan error)
	all := []topology.Service{topology.Janitor, topology.Publisher, topology.Resolver, topology.Ingest}
	for _, service := range all {
		js := s.login(string(service))
		go func() { ended <- topology.Provision(t.Context(), js, settings, service) }()
	}

	require.NoError(t, topology.Provision(t.Context(), s.login(topology.UserProvision), settings, topology.Everyone))

	for range all {
		require.NoError(t, <-ended)
	}

	findings, err := topology.Survey(t.Context(), s.login(topology.UserViewer), settings)
	require.NoError(t, err)

	for _, f := range findings {
		require.True(t, f.AsWanted(), "%s", f.Resource)
	}
}

// TestAServiceMakesNothing: it reports what it lacks, and whose key makes that.
func TestAServiceMakesNothing(t *testing.T) {
	t.Parallel()

	s := newStrict(t)
	for _, service := range []topology.Service{topology.Janitor, topology.Publisher, topology.Resolver, topology.Ingest} {
		err := topology.Provision(t.Context(), s.login(string(service)), settings, service, topology.WithTimeout(time.Millisecond))
		require.ErrorIs(t, err, topology.ErrMissing)
		require.ErrorContains(t, err, `run bobosync provision with the key of "provision"`)
	}

	require.Empty(t, s.streams())
}

// TestDifferencesOfOthersAreWarnedOf: a service does not change what others own, but warns that it differs.
func TestDifferencesOfOthersAreWarnedOf(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))
	other := settings
	other.EntriesMaxBytes *= 2
	var log bytes.Buffer
	warn := topology.WithLog(slog.New(slog.NewTextHandler(&log, nil)))

	require.NoError(t, topology.Provision(t.Context(), conn.JS, other, topology.Resolver, warn))
	require.Contains(t, log.String(), "level=WARN")
	require.Contains(t, log.String(), `part="stream ENTRIES" owner=ingest differences="max bytes is 1048576, wanted 2097152"`)
	log.Reset()
	require.NoError(t, topology.Provision(t.Context(), conn.JS, other, topology.Publisher, warn))
	require.Empty(t, log.String(), "a publisher does not depend on it")
	require.NoError(t, topology.Provision(t.Context(), conn.JS, other, topology.Ingest, warn))
	require.Empty(t, log.String(), "its owner changes it")
	require.NoError(t, topology.Provision(t.Context(), conn.JS, other, topology.Resolver, warn))
	require.Empty(t, log.String())
}

// TestAPartOfAnotherKindIsNotUsed: the work would go wrong with a part of the wrong kind.
func TestAPartOfAnotherKindIsNotUsed(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	_, err := conn.JS.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: topology.StreamAcks, Subjects: []string{topology.SubjectAcks}, Retention: jetstream.InterestPolicy,
	})
	require.NoError(t, err)
	err = topology.Provision(t.Context(), conn.JS, settings, topology.Publisher)
	require.ErrorContains(t, err, "stream ACKS cannot be used: retention is Interest, wanted Limits")
}
