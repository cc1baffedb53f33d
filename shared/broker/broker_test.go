package broker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/shared/broker"
)

func TestMain(m *testing.M) {
	// The server (2.15.2) leaves behind the goroutine of an atomic batch that it could not store on a full disk.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop"))
}

func start(t *testing.T, o broker.Options) *broker.Server {
	t.Helper()

	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}

	if o.Port == 0 {
		o.Port = broker.RandomPort
	}

	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}

	s, err := broker.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Shutdown(context.Background())) })

	return s
}

// knock tries to log in with the wrong token.
func knock(t *testing.T, s *broker.Server) {
	t.Helper()

	_, err := nats.Connect(s.ClientURL(), nats.Token("wrong"))
	require.ErrorIs(t, err, nats.ErrAuthorization)
}

func dial(t *testing.T, s *broker.Server) jetstream.JetStream {
	t.Helper()

	nc, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)

	return js
}

func TestStoreSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, broker.Options{StoreDir: dir, MaxStore: 1 << 20})
	require.NoError(t, s.Health())
	js := dial(t, s)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("x"))
	require.NoError(t, err)
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()), "twice is fine")

	st, err := dial(t, start(t, broker.Options{StoreDir: dir})).Stream(t.Context(), "S")
	require.NoError(t, err)
	assert.EqualValues(t, 1, st.CachedInfo().State.Msgs)
}

func TestMaxStoreIsKept(t *testing.T) {
	t.Parallel()
	js := dial(t, start(t, broker.Options{MaxStore: 1 << 20}))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 2 << 20})
	require.Error(t, err)
}

func TestTwoBrokersNeverShareAStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, broker.Options{StoreDir: dir})
	_, err := broker.Start(t.Context(), broker.Options{StoreDir: dir, Port: broker.RandomPort})
	require.ErrorIs(t, err, broker.ErrStoreLocked)
	assert.ErrorContains(t, err, "stop the other program")

	// Another process does not get it either.
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperStart$", "-test.v")

	cmd.Env = append(os.Environ(), "BROKER_TEST_STORE="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), broker.ErrStoreLocked.Error())
}

// TestHelperStart is the other process.
func TestHelperStart(t *testing.T) {
	dir := os.Getenv("BROKER_TEST_STORE")
	if dir == "" {
		t.Skip("run by another test")
	}

	_, err := broker.Start(t.Context(), broker.Options{StoreDir: dir, DontListen: true})
	t.Log(err)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(start(t, broker.Options{}).ClientURL())
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	dir := t.TempDir()
	_, err = broker.Start(t.Context(), broker.Options{StoreDir: dir, Port: port, Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, broker.ErrPortInUse)
	start(t, broker.Options{StoreDir: dir}) // the failed start has left nothing behind
}

func TestStoreNotWritable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := broker.Start(t.Context(), broker.Options{StoreDir: filepath.Join(file, "store")})
	require.ErrorIs(t, err, broker.ErrStoreNotWritable)

	if os.Getuid() == 0 {
		return // root may write anywhere
	}

	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	_, err = broker.Start(t.Context(), broker.Options{StoreDir: dir})
	require.ErrorIs(t, err, broker.ErrStoreNotWritable)
}

func TestStartNeedsAStoreAndALiveContext(t *testing.T) {
	t.Parallel()
	_, err := broker.Start(t.Context(), broker.Options{})
	require.ErrorContains(t, err, "no store directory")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err = broker.Start(ctx, broker.Options{StoreDir: t.TempDir()})
	require.ErrorIs(t, err, context.Canceled)
}

func TestShutdownHonoursItsContext(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if err := s.Shutdown(ctx); err != nil { // the shutdown may have been that fast
		require.ErrorIs(t, err, context.Canceled)
	}

	require.NoError(t, s.Shutdown(t.Context()), "a later call waits for it")
}

func TestServerLinesAreQuiet(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var buf bytes.Buffer
	h := slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buf.Write(p)
	}), &slog.HandlerOptions{Level: slog.LevelInfo})
	s := start(t, broker.Options{Logger: slog.New(h)})
	dial(t, s)
	require.NoError(t, s.Shutdown(t.Context()))
	mu.Lock()
	defer mu.Unlock()

	assert.Empty(t, buf.String(), "a healthy broker says nothing above DEBUG")
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestHealthAfterShutdown(t *testing.T) {
	t.Parallel()
	s := start(t, broker.Options{})
	require.NoError(t, s.Shutdown(t.Context()))
	err := s.Health()
	require.Error(t, err)
	assert.False(t, errors.Is(err, broker.ErrDiskFull))
}
