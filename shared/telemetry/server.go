package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Timeouts of the server. Its answers are small, and what they depend on has its own timeouts.
const (
	readTime     = 5 * time.Second
	writeTime    = 15 * time.Second
	idleTime     = 2 * time.Minute
	shutdownTime = 3 * time.Second
	healthTime   = 3 * time.Second
)

// ErrOff means that HTTP_ADDR is not set, so there is no server to ask.
var ErrOff = errors.New("HTTP_ADDR is not set: set it, for example to :8080")

// Server serves a process's /metrics, /healthz and /readyz. A nil *Server works and does nothing.
type Server struct {
	http     *http.Server
	listener net.Listener
	done     chan error
}

// Serve serves t at the address until Close. With an empty address it does nothing and returns nil. An address that
// cannot be used is an error.
func (t *Telemetry) Serve(ctx context.Context, addr string, log *slog.Logger) (*Server, error) {
	if addr == "" || t == nil {
		return nil, nil
	}

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics and health (HTTP_ADDR): %w", err)
	}

	complaints := slog.NewLogLogger(log.With("component", "http").Handler(), slog.LevelDebug)

	s := &Server{
		http: &http.Server{
			Handler: t.Handler(), ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime,
			IdleTimeout: idleTime, MaxHeaderBytes: 1 << 14, ErrorLog: complaints,
		},
		listener: listener, done: make(chan error, 1),
	}
	go func() { s.done <- s.http.Serve(listener) }()

	log.Info("metrics and health are served", "address", listener.Addr().String())

	return s, nil
}

// Addr returns the address that the server listens on, with its port.
func (s *Server) Addr() string {
	if s == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Close stops serving; requests under way get a few seconds to finish.
func (s *Server) Close() error {
	if s == nil {
		return nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()

	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}

	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}

	if err != nil {
		return fmt.Errorf("stop serving metrics and health: %w", err)
	}

	return nil
}

// Handler answers /metrics, /healthz and /readyz.
func (t *Telemetry) Handler() http.Handler {
	mux := http.NewServeMux()
	// A metric that cannot be read must not take the others with it.
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.Gatherer(), promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: writeTime - 2*time.Second,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, true, "alive\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, text := t.Ready()
		if ready {
			text = "ready\n"
		}

		answer(w, ready, text)
	})

	return mux
}

func answer(w http.ResponseWriter, good bool, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")

	if !good {
		w.WriteHeader(http.StatusServiceUnavailable)
	}

	_, _ = io.WriteString(w, text) // the client may be gone
}

// CheckHealth asks the process that serves at the address, on this machine, whether it is alive. It is for containers
// that contain no other program for that.
func CheckHealth(ctx context.Context, addr string) error {
	if addr == "" {
		return ErrOff
	}

	target, err := local(addr)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask %s for its health: %w", target, err)
	}

	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}

	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for the health: %w", err)
	}
	defer resp.Body.Close()

	said, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("ask %s for its health: %w", target, err)
	}

	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not well (%s): %s", target, resp.Status, strings.TrimSpace(string(said)))
	}

	return nil
}

// local converts an address to listen on to one that this machine can connect to.
func local(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", errors.New("HTTP_ADDR: must be host:port, such as :8080 or 127.0.0.1:8080")
	}

	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}

	return net.JoinHostPort(host, port), nil
}
