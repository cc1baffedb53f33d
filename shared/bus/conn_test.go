package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/broker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/logging/logtest"
)

// messages returns the messages of all records of a log.
func messages(t *testing.T, log *logtest.Log) (texts []string) {
	t.Helper()

	for line := range strings.Lines(log.String()) {
		var entry struct{ Msg string }
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		texts = append(texts, entry.Msg)
	}

	return texts
}

func TestConnectWaitsForTheBroker(t *testing.T) {
	addr := bustest.FreeAddr(t)
	var log logtest.Log
	type result struct {
		conn *bus.Conn
		err  error
	}
	got := make(chan result, 1)
	go func() {
		c, err := bus.Connect(t.Context(), bus.Config{
			URL: "nats://user:geheim@" + addr, Logger: log.Logger(slog.LevelDebug), ReconnectWait: time.Millisecond,
		})
		got <- result{c, err}
	}()

	await.True(t, func() bool { return len(messages(t, &log)) > 0 }, timeout)
	silent(t, got, 50*time.Millisecond) // many attempts later

	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	runServer(t, &server.Options{Username: "user", Password: "geheim"}, port)
	r := receive(t, got)
	require.NoError(t, r.err)
	t.Cleanup(r.conn.Close)
	assert.True(t, r.conn.Connected())
	assert.Equal(t, []string{"waiting for the broker", "connected to broker"}, messages(t, &log), "one line each, however many tries")
	assert.NotContains(t, log.String(), "geheim")
	assert.NotContains(t, log.String(), "user")
}

// runServer runs a server with settings that the embedded broker does not have.
func runServer(t *testing.T, o *server.Options, port string) *server.Server {
	t.Helper()

	o.Host, o.NoSigs, o.NoLog, o.JetStream, o.StoreDir = "127.0.0.1", true, true, true, t.TempDir()
	o.Port = server.RANDOM_PORT
	if port != "" {
		var err error
		o.Port, err = net.DefaultResolver.LookupPort(t.Context(), "tcp", port)
		require.NoError(t, err)
	}

	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(timeout))

	return s
}

func TestConnectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()

	_, err := bus.Connect(ctx, bus.Config{URL: bustest.FreeAddr(t), Logger: bustest.Logger(), ReconnectWait: time.Millisecond})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, nats.ErrNoServers, "says what it waited for")
}

// A broker without JetStream is of no use; nor may the connection be left open (goleak).
func TestConnectNeedsJetStream(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(timeout))

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()

	_, err = bus.Connect(ctx, bus.Config{URL: s.ClientURL(), Logger: bustest.Logger(), ReconnectWait: time.Millisecond})
	require.ErrorContains(t, err, "JetStream does not answer")
}

func TestConnectFailsAtOnceOnWhatWaitingCannotMend(t *testing.T) {
	s := runServer(t, &server.Options{Username: "user", Password: "geheim"}, "")
	missing := filepath.Join(t.TempDir(), "missing")
	garbage := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(garbage, []byte("top-geheim"), 0o600))

	for name, tc := range map[string]struct {
		cfg  bus.Config
		want string
	}{
		"no address":        {bus.Config{}, "no address given"},
		"bad address":       {bus.Config{URL: "nats://geheim@[::1"}, "address 1 of the broker's URL is not valid"},
		"bad second":        {bus.Config{URL: "nats://a:1,nats://:geheim\x7f@b"}, "address 2 of the broker's URL is not valid"},
		"refused":           {bus.Config{URL: strings.Replace(s.ClientURL(), "//", "//user:geheim2@", 1)}, "Authorization Violation"},
		"nobody":            {bus.Config{URL: s.ClientURL()}, "name the file with this program's key in NATS_CREDS"},
		"no TLS":            {bus.Config{URL: strings.Replace(s.ClientURL(), "nats:", "tls:", 1)}, "it offers no TLS"},
		"no credentials":    {bus.Config{URL: s.ClientURL(), CredsFile: missing}, "read credentials"},
		"wrong credentials": {bus.Config{URL: s.ClientURL(), CredsFile: garbage}, "neither NATS credentials nor an nkey seed"},
		"no authority":      {bus.Config{URL: s.ClientURL(), CAFile: missing}, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()

			tc.cfg.Logger = bustest.Logger()
			_, err := bus.Connect(ctx, tc.cfg)
			require.ErrorContains(t, err, tc.want)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			assert.NotContains(t, err.Error(), "geheim")
		})
	}
}

func TestConnectWithNkeySeed(t *testing.T) {
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	pub, err := pair.PublicKey()
	require.NoError(t, err)
	seed, err := pair.Seed()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "seed")
	require.NoError(t, os.WriteFile(file, seed, 0o600))
	s := runServer(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: pub}}}, "")
	c, err := bus.Connect(t.Context(), bus.Config{URL: s.ClientURL(), CredsFile: file, Logger: bustest.Logger()})
	require.NoError(t, err)
	assert.Contains(t, c.NC.NewInbox(), "_INBOX.")
	c.Close()

	require.NoError(t, os.WriteFile(file, slices.Concat([]byte("# whose it is\n# inbox: _INBOX_ingest\n"), seed), 0o600))
	c, err = bus.Connect(t.Context(), bus.Config{URL: s.ClientURL(), CredsFile: file, Logger: bustest.Logger()})
	require.NoError(t, err)
	assert.Contains(t, c.NC.NewInbox(), "_INBOX_ingest.")
	c.Close()
}

func TestConnectionStateIsTold(t *testing.T) {
	b := bustest.Start(t)
	states := make(chan bus.State, 10)
	c, err := bus.Connect(t.Context(), bus.Config{
		URL: b.ClientURL(), Logger: bustest.Logger(), ReconnectWait: time.Millisecond, OnState: func(s bus.State) { states <- s },
	})
	require.NoError(t, err)
	assert.Equal(t, bus.State{Connected: true}, receive(t, states))
	assert.Zero(t, c.Restored(), "there never was trouble")
	b.Down(t)
	assert.False(t, receive(t, states).Connected)

	up := time.Now()

	b.Up(t)
	assert.True(t, receive(t, states).Connected)
	assert.False(t, c.Restored().Before(up))
	require.NoError(t, c.Drain(t.Context()))
	assert.Equal(t, bus.State{}, receive(t, states))
	assert.False(t, c.Connected())
}

func TestDrainHasALimit(t *testing.T) {
	b := bustest.Start(t)
	c := b.Connect(t)
	b.Down(t)
	await.True(t, func() bool { return !c.Connected() }, timeout)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()

	require.Error(t, c.Drain(ctx))
	assert.True(t, c.NC.IsClosed())
}

func TestInProcess(t *testing.T) {
	s, err := broker.Start(t.Context(), broker.Options{StoreDir: t.TempDir(), DontListen: true, Logger: bustest.Logger()})
	require.NoError(t, err)
	assert.Empty(t, s.ClientURL())
	c, err := bus.Connect(t.Context(), bus.Config{InProcess: s, Logger: bustest.Logger()})
	require.NoError(t, err)
	require.NoError(t, c.RequireAPILevel(t.Context(), bus.LevelAtomicBatch, "batches"))
	require.NoError(t, c.Drain(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))
	require.Error(t, s.Health())
	require.False(t, errors.Is(s.Health(), broker.ErrDiskFull))
}
