package nats_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// TestAccountsAreGenerated checks that the committed file is what shared/topology/permissions.go says.
func TestAccountsAreGenerated(t *testing.T) {
	t.Parallel()

	committed, err := os.ReadFile("accounts.conf")
	require.NoError(t, err)
	require.Equal(t, string(setup.Accounts()), string(committed), "run make nats-conf")
}

// TestConfigurationIsSafe checks what a broker needs that holds data which nobody else has.
func TestConfigurationIsSafe(t *testing.T) {
	t.Parallel()
	in := install(t)
	opts, err := server.ProcessConfigFile(filepath.Join(in.dir, "nats.conf"))
	require.NoError(t, err)
	require.True(t, opts.SyncAlways)
	require.False(t, opts.AllowNonTLS)
	require.NotNil(t, opts.TLSConfig)
	require.Equal(t, "127.0.0.1", opts.HTTPHost, "monitoring knows no users")
	require.Empty(t, opts.NoAuthUser)
	require.Empty(t, opts.Users, "everyone has a key")
	require.Len(t, opts.Nkeys, len(topology.Users()))
	require.Positive(t, opts.JetStreamMaxStore)
	require.LessOrEqual(t, opts.AuthTimeout, 3.0, "who does not log in is soon gone")
	require.LessOrEqual(t, opts.TLSTimeout, 3.0)
	require.GreaterOrEqual(t, opts.MaxConn, 4096, "and keeps nobody out until then")

	accounts := map[string]int{}
	for _, u := range opts.Nkeys {
		accounts[u.Account.Name]++
		require.NotNil(t, u.Permissions.Publish)
		require.NotEmpty(t, u.Permissions.Publish.Allow, "an empty list would allow everything")
		require.NotEmpty(t, u.Permissions.Subscribe.Allow)

		if answer := u.Permissions.Response; answer != nil {
			require.LessOrEqual(t, answer.MaxMsgs, 4)
			require.LessOrEqual(t, answer.Expires, time.Minute)
		}
	}

	for _, service := range append([]string{topology.UserOperator, topology.UserViewer}, services...) {
		require.Equal(t, 1, accounts[strings.ToUpper(service)], "%s shares its account with nobody", service)
	}
}

// TestKeysAreMadeOnceAndRotated checks that keys stay until they are rotated, and that only their owner can read
// them.
func TestKeysAreMadeOnceAndRotated(t *testing.T) {
	t.Parallel()
	in := install(t)
	program := in.program(t)
	read := func(user string) string {
		content, err := os.ReadFile(setup.CredsFile(in.dir, user))
		require.NoError(t, err)
		return string(content)
	}
	ingest, viewer := read("ingest"), read("viewer")
	require.Contains(t, ingest, "# inbox: _INBOX_ingest\n")

	info, err := os.Stat(setup.CredsFile(in.dir, "ingest"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	public, err := os.ReadFile(filepath.Join(in.dir, setup.PublicFile))
	require.NoError(t, err)
	require.NotContains(t, string(public), strings.Fields(ingest)[len(strings.Fields(ingest))-1], "no secret in the broker's file")

	require.NoError(t, os.Rename(setup.CredsFile(in.dir, "monitor"), filepath.Join(in.dir, "elsewhere")))
	made, err := setup.Keys(in.dir, topology.Users())
	require.NoError(t, err)
	require.Empty(t, made, "one whose secret half lies elsewhere has its key")

	again, err := os.ReadFile(filepath.Join(in.dir, setup.PublicFile))
	require.NoError(t, err)
	require.Equal(t, string(public), string(again))

	old := in.config("ingest")
	old.CredsFile = filepath.Join(in.dir, "old.nk")
	require.NoError(t, os.WriteFile(old.CredsFile, []byte(ingest), 0o600))
	using, err := bus.Connect(t.Context(), old)
	require.NoError(t, err)
	t.Cleanup(using.Close)

	made, err = setup.Keys(in.dir, topology.Users(), "ingest")
	require.NoError(t, err)
	require.Equal(t, []string{"ingest"}, made)
	require.NotEqual(t, ingest, read("ingest"))
	require.Equal(t, viewer, read("viewer"))
	in.reload(t, program)
	in.eventually(t, "ingest")
	await.True(t, func() bool { return !using.Connected() }, timeout, "who uses the old key is put out")
	_, err = bus.Connect(t.Context(), old)
	require.ErrorContains(t, err, "it does not know the key", "the old one is worth nothing")

	_, err = setup.Keys(in.dir, topology.Users(), "nobody")
	require.ErrorContains(t, err, `there is no user "nobody"`)
}

// TestCertificatesAreRenewed checks that the authority stays, so that nobody who trusts it has to trust a new one.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return content
	}
	hosts := []string{"nats.example.org", "192.0.2.7"}
	require.NoError(t, setup.Certificates(dir, hosts, time.Now()))

	ca, cert := read(setup.CAFile), read(setup.CertFile)

	require.NoError(t, setup.Certificates(dir, hosts, time.Now()))
	require.Equal(t, ca, read(setup.CAFile))
	require.False(t, bytes.Equal(cert, read(setup.CertFile)))

	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))

	block, _ := pem.Decode(read(setup.CertFile))
	parsed, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)

	for _, host := range hosts {
		_, err = parsed.Verify(x509.VerifyOptions{DNSName: host, Roots: roots})
		require.NoError(t, err, host)
	}

	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err = parsed.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}})
		require.NoError(t, err)
	}

	info, err := os.Stat(filepath.Join(dir, setup.KeyFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Error(t, setup.Certificates(dir, nil, time.Now()))

	cert = read(setup.CertFile)

	require.ErrorContains(t, setup.Certificates(dir, hosts, time.Now().AddDate(11, 0, 0)), "has expired", "nobody would take what it signs")
	require.Equal(t, cert, read(setup.CertFile))
}

// TestServersTellThatTheySync checks that provisioning, operators and viewers learn with their own rights that the
// servers sync, and get answers of no account but their own.
func TestServersTellThatTheySync(t *testing.T) {
	t.Parallel()

	in := broker(t)
	for _, user := range []string{topology.UserProvision, topology.UserOperator, topology.UserViewer} {
		servers, err := topology.Servers(t.Context(), in.login(t, user).NC)
		require.NoError(t, err)
		require.Len(t, servers, 1)
		require.True(t, servers[0].Syncs)
		require.Equal(t, server.VERSION, servers[0].Version)
	}
}

// TestProvisionerNeedsNoMore checks that the user provision can create everything from nothing, and do so again.
func TestProvisionerNeedsNoMore(t *testing.T) {
	t.Parallel()

	in := broker(t)
	conn := in.login(t, topology.UserProvision)
	for range 2 {
		require.NoError(t, topology.Provision(t.Context(), conn.JS, settings, topology.Everyone))
	}

	findings, err := topology.Survey(t.Context(), in.login(t, topology.UserViewer).JS, settings)
	require.NoError(t, err)

	for _, f := range findings {
		require.True(t, f.AsWanted(), "%s: %v", f.Resource, f.Changes)
	}
}

// TestClusterOfThree checks that three servers with cluster.conf replicate each stream, and go on if one is gone.
func TestClusterOfThree(t *testing.T) {
	t.Parallel()
	in := install(t)
	// The routes name localhost, so that name must be in the certificate: an address would not do.
	require.NoError(t, setup.Certificates(filepath.Dir(in.ca), []string{"127.0.0.1", "localhost"}, time.Now()))

	var ports [3]string
	routes := make([]string, 0, 3)
	for i := range ports {
		_, port, _ := strings.Cut(bustest.FreeAddr(t), ":")
		ports[i] = port
		routes = append(routes, "nats://localhost:"+port)
	}

	servers := make([]*server.Server, 0, 3)
	urls := make([]string, 0, 3)
	for i, port := range ports {
		in.configure(t, map[string]string{
			"NATS_ROUTES": "[" + strings.Join(routes, ", ") + "]", "NATS_SERVER_NAME": fmt.Sprint("nats-", i),
			"NATS_STORE_DIR": filepath.Join(in.dir, fmt.Sprint("store-", i)),
		})
		opts := in.options(t, "cluster.conf")
		opts.Port, opts.Cluster.Host = freePort(t), "127.0.0.1"
		_, err := fmt.Sscan(port, &opts.Cluster.Port)
		require.NoError(t, err)
		ns := serve(t, opts)
		servers = append(servers, ns)
		urls = append(urls, strings.Replace(ns.ClientURL(), "nats://", "tls://", 1))
	}

	await.True(t, func() bool {
		for _, ns := range servers {
			if ns.NumRoutes() == 0 {
				return false
			}
		}

		return true
	}, timeout)

	cfg := in.config(topology.UserProvision)
	cfg.URL = strings.Join(urls, ",")

	ctx, cancel := context.WithTimeout(t.Context(), 3*timeout)
	defer cancel()

	conn, err := bus.Connect(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(conn.Close)

	wanted := settings
	wanted.Replicas = 3
	await.True(t, func() bool { // until the servers have found each other
		return topology.Provision(ctx, conn.JS, wanted, topology.Everyone) == nil
	}, 2*timeout)
	await.True(t, func() bool {
		told, err := topology.Servers(ctx, conn.NC)
		return err == nil && len(told) == 3
	}, timeout, "each server tells")

	in.requireOrder(t, urls[1], urls[2])
	servers[0].Shutdown()

	cfg.CredsFile = setup.CredsFile(in.dir, "ingest")
	ingest, err := bus.Connect(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(ingest.Close)
	await.True(t, func() bool {
		_, err := ingest.JS.Publish(ctx, topology.EntriesSubject("f00"), nil)
		return err == nil
	}, timeout)
}

// requireOrder checks that an operator at one server of a cluster can give an order to a service at another, and that
// the service knows who gave it.
func (in *installation) requireOrder(t *testing.T, serviceAt, operatorAt string) {
	t.Helper()

	connect := func(user, url string) *bus.Conn {
		cfg := in.config(user)
		cfg.URL = url
		conn, err := bus.Connect(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(conn.Close)

		return conn
	}
	stop, err := control.Serve(t.Context(), connect("resolver", serviceAt).NC, topology.Resolver, "dev",
		control.On(control.StopReplay, func(_ context.Context, req control.StopRequest) (control.ReplayState, error) {
			return control.ReplayState{By: req.By}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(stop)

	operator := connect(topology.UserOperator, operatorAt)
	await.NoFailure(t, func(c *await.Try) { // until that server knows the service
		state, err := control.Ask[control.ReplayState](t.Context(), operator.NC, topology.Resolver, control.StopReplay, control.StopRequest{By: "boss@pc"})
		assert.NoError(c, err)
		assert.Equal(c, "operator (boss@pc)", state.By)
	}, 2*timeout)
}
