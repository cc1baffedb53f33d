// Package nats_test runs a real server with the configuration in this directory, with keys and certificates made for
// the test.
package nats_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest/freeport"
	"bobosync/shared/logging/logtest"
	"bobosync/shared/topology"
)

const (
	timeout      = 20 * time.Second
	pollInterval = 20 * time.Millisecond
)

// installation is a directory with the committed configuration, and with keys and certificates of its own.
type installation struct {
	dir, ca string
	port    int
	ns      *server.Server
	// told is the log of the broker, if it runs as a separate program.
	told *logtest.Log
}

// reloads counts how often the broker has reloaded its files.
func reloads(log *logtest.Log) int { return log.Count("Reloaded server configuration") }

func freePort(t *testing.T) int {
	t.Helper()

	port, err := freeport.Find()
	require.NoError(t, err)

	return port
}

// install copies the configuration and makes keys and certificates.
func install(t *testing.T) *installation {
	t.Helper()
	in := &installation{dir: t.TempDir(), port: freePort(t)}
	_, err := setup.Keys(in.dir, topology.Users())
	require.NoError(t, err)

	tls := filepath.Join(in.dir, "tls")
	require.NoError(t, setup.Certificates(tls, []string{"127.0.0.1"}, time.Now()))
	in.ca = filepath.Join(tls, setup.CAFile)
	in.configure(t, nil)

	return in
}

// configure writes the configuration, with values in place of its variables: tests that run at the same time share
// the environment.
func (in *installation) configure(t *testing.T, values map[string]string) {
	t.Helper()

	tls := filepath.Dir(in.ca)
	all := map[string]string{
		"NATS_STORE_DIR": filepath.Join(in.dir, "store"), "NATS_TLS_CERT": filepath.Join(tls, setup.CertFile),
		"NATS_TLS_KEY": filepath.Join(tls, setup.KeyFile), "NATS_TLS_CA": in.ca,
	}
	maps.Copy(all, values)

	var pairs []string
	for name, value := range all {
		pairs = append(pairs, ": $"+name+"\n", ": "+value+"\n")
	}

	for _, name := range []string{"nats.conf", "accounts.conf", "cluster.conf"} {
		content, err := os.ReadFile(name)
		require.NoError(t, err)

		text := strings.NewReplacer(pairs...).Replace(string(content))
		require.NoError(t, os.WriteFile(filepath.Join(in.dir, name), []byte(text), 0o600))
	}
}

// options reads a configuration file. Only the ports differ from it, because other tests use those.
func (in *installation) options(t *testing.T, file string) *server.Options {
	t.Helper()

	opts, err := server.ProcessConfigFile(filepath.Join(in.dir, file))
	require.NoError(t, err)

	opts.Host, opts.Port, opts.HTTPPort = "127.0.0.1", in.port, 0
	opts.NoSigs, opts.NoLog, opts.DisableJetStreamBanner = true, true, true

	return opts
}

var (
	// built is the directory in which programs are built, once for all tests.
	built    string
	building sync.Mutex
)

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "nats-test-*"); err != nil {
		panic(err)
	}

	code := m.Run()
	_ = os.RemoveAll(built) // it is a temporary directory

	os.Exit(code)
}

// build builds a program, unless another test has done so, and returns its path.
func build(t *testing.T, name, pkg string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()

	path := filepath.Join(built, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}

	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg)

	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	return path
}

// up starts the broker, on the same port each time.
func (in *installation) up(t *testing.T) {
	t.Helper()
	in.ns = serve(t, in.options(t, "nats.conf"))
}

// program starts the broker as a separate program, as its image does, until the end of the test; it builds the
// program first. In the test's own process the race detector would fail the test: for a reload the broker reads its
// TLS configuration while others connect (nats-server 2.15.2, diffOptions).
func (in *installation) program(t *testing.T) *exec.Cmd {
	t.Helper()
	file := build(t, "nats-server", "github.com/nats-io/nats-server/v2")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), file,
		"--config", filepath.Join(in.dir, "nats.conf"), "--addr", "127.0.0.1", "--port", strconv.Itoa(in.port), "--http_port", "-1")
	in.told = &logtest.Log{}
	cmd.Stderr = in.told
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))

		err := cmd.Wait()
		if t.Failed() {
			t.Logf("the broker: %v\n%s", err, in.told.String())
		}
	})
	in.eventually(t, topology.UserViewer)

	return cmd
}

// reload makes the broker that runs as a program reload its files.
func (in *installation) reload(t *testing.T, program *exec.Cmd) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program.Path, "--signal", "reload="+strconv.Itoa(program.Process.Pid)).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// reloadTwice reloads the broker as often as new accounts need: for these, nats-server 2.15.2 says that JetStream is
// not enabled, and ignores their imports, until it is reloaded again.
func (in *installation) reloadTwice(t *testing.T, program *exec.Cmd) {
	t.Helper()

	for range 2 {
		before := reloads(in.told)
		in.reload(t, program)
		await.True(t, func() bool { return reloads(in.told) > before }, timeout)
	}
}

// eventually waits until a user can log in.
func (in *installation) eventually(t *testing.T, user string) {
	t.Helper()
	await.NoFailure(t, func(c *await.Try) {
		conn, err := bus.Connect(t.Context(), in.config(user))
		if assert.NoError(c, err) {
			conn.Close()
		}
	}, timeout)
}

// down stops the broker; its store remains.
func (in *installation) down() {
	in.ns.Shutdown()
	in.ns.WaitForShutdown()
}

func serve(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()

	ns, err := server.NewServer(opts)
	require.NoError(t, err)
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	require.True(t, ns.ReadyForConnections(timeout))

	return ns
}

// broker starts a broker until the end of the test.
func broker(t *testing.T) *installation {
	t.Helper()
	in := install(t)
	in.up(t)
	return in
}

func (in *installation) url() string {
	return "tls://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(in.port))
}

// config returns the configuration of a program that logs in as this user.
func (in *installation) config(user string) bus.Config {
	return bus.Config{
		URL: in.url(), CredsFile: setup.CredsFile(in.dir, user), CAFile: in.ca, Logger: slog.New(slog.DiscardHandler),
		ReconnectWait: pollInterval,
	}
}

// login connects as a user.
func (in *installation) login(t *testing.T, user string) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), in.config(user))
	require.NoError(t, err)
	t.Cleanup(conn.Close)

	return conn
}

// settings are the services' defaults.
var settings = topology.Settings{Replicas: 1, EntriesMaxBytes: 64 << 20, CallTimeout: 2 * time.Second}

// services are the users that the services log in as, by the services' names.
var services = []string{"ingest", "resolver", "publisher", "janitor"}
