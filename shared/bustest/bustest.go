// Package bustest gives tests a real JetStream broker inside the test process.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/broker"
	"bobosync/shared/bus"
	"bobosync/shared/bustest/freeport"
)

// timeout is how long any step of this package may take before the test fails.
const timeout = 30 * time.Second

// Option changes how Start runs the broker.
type Option func(*broker.Options)

// SyncAlways makes the broker sync each message to disk, as production does. By default tests go without, which is
// faster.
func SyncAlways() Option { return func(o *broker.Options) { o.SyncLazily = false } }

// Server is a broker on a loopback port, with a store in the test's temporary directory. Its methods are for the
// test's own goroutine.
type Server struct {
	*broker.Server
	opts broker.Options
}

// Start runs a broker until the end of the test.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()

	s := &Server{opts: broker.Options{
		StoreDir:   tb.TempDir(),
		Port:       freePort(tb), // the same after a restart, so that clients find the broker
		SyncLazily: true,
		Logger:     Logger(),
	}}
	for _, o := range options {
		o(&s.opts)
	}

	s.Up(tb)
	tb.Cleanup(func() { s.Down(tb) })

	return s
}

// Connect returns a connection that is closed at the end of the test.
func (s *Server) Connect(tb testing.TB) *bus.Conn {
	tb.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	c, err := bus.Connect(ctx, bus.Config{
		URL: s.ClientURL(), Name: tb.Name(), Logger: Logger(), ReconnectWait: 20 * time.Millisecond,
	})
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}

	tb.Cleanup(c.Close)

	return c
}

// Drained reports whether a durable consumer has delivered all that its stream holds for it, and has had it
// acknowledged. It does not suffice that nothing is pending: the broker counts a message for its consumers a moment
// after it has confirmed it to the publisher.
func Drained(ctx context.Context, js jetstream.JetStream, stream, consumer string) (bool, error) {
	st, err := js.Stream(ctx, stream)
	if err != nil {
		return false, fmt.Errorf("look up stream %s: %w", stream, err)
	}

	c, err := st.Consumer(ctx, consumer)
	if err != nil {
		return false, fmt.Errorf("look up consumer %s of %s: %w", consumer, stream, err)
	}

	info := c.CachedInfo()

	filters := slices.DeleteFunc(append([]string{info.Config.FilterSubject}, info.Config.FilterSubjects...), func(f string) bool { return f == "" })
	last := st.CachedInfo().State.LastSeq
	if len(filters) > 0 {
		last = 0
	}

	for _, filter := range filters {
		m, err := st.GetLastMsgForSubject(ctx, filter)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}

		if err != nil {
			return false, fmt.Errorf("read the last message of %s: %w", filter, err)
		}

		last = max(last, m.Sequence)
	}

	return info.NumPending == 0 && info.NumAckPending == 0 && info.AckFloor.Stream >= last, nil
}

// Down stops the broker; its store stays. Stopping a stopped broker does nothing.
func (s *Server) Down(tb testing.TB) {
	tb.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	if err := s.Shutdown(ctx); err != nil {
		tb.Fatalf("stop broker: %v", err)
	}
}

// Up starts the broker on the store and port that it had before.
func (s *Server) Up(tb testing.TB) {
	tb.Helper()

	ns, err := broker.Start(tb.Context(), s.opts)
	if err != nil {
		tb.Fatalf("start broker: %v", err)
	}

	s.Server = ns
}

// Restart is Down followed by Up.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.Down(tb)
	s.Up(tb)
}

// Recreate calls create until it succeeds, after the only stream of the broker was deleted. The broker removes the
// directory of all streams a moment after it has confirmed the deletion, and cannot make a stream in it at that very
// moment ("error creating store for stream"; nats-server 2.15.2, about 1 of 5,000). In the product there are always
// other streams.
func Recreate(tb testing.TB, create func() error) {
	tb.Helper()

	for end := time.Now().Add(timeout); ; {
		err := create()
		if err == nil {
			return
		}

		if time.Now().After(end) {
			tb.Fatalf("recreate what was deleted: %v", err)
		}
	}
}

// LeftBehind is the function of a goroutine that nats.go (1.55.0) now and then leaves behind when a publisher is
// cleaned up right after its first message: the goroutine had not begun by then, and waits on no channel.
const LeftBehind = "github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"

// Logger discards everything: a broker that is restarted on purpose complains loudly.
func Logger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// FreeAddr returns a loopback host:port on which nothing listens.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(tb)))
}

func freePort(tb testing.TB) int {
	tb.Helper()

	port, err := freeport.Find()
	if err != nil {
		tb.Fatalf("find a free port: %v", err)
	}

	return port
}

// Dir returns the directory of the server's store, so that a test can delete it while the server is down.
func (s *Server) Dir() string { return s.opts.StoreDir }
