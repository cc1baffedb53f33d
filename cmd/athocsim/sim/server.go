package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// relistenDelay is how long to wait before opening the port again after a refusal, if somebody else has taken the
// port.
const relistenDelay = 50 * time.Millisecond

type connKey struct{}

// server is the listening side of a simulator. Its port can be closed and opened again.
type server struct {
	sim   *Simulator
	http  *http.Server
	admin *http.Server // nil if the API's server has the pages as well
	addr  string       // the address that was bound
	host  string       // the address to give to clients
	tls   *tls.Config  // nil: plain HTTP
	own   string       // the admin address that was bound
	undo  func() bool  // stops watching Start's context

	mu       sync.Mutex
	listener net.Listener // nil while the port is closed
	conns    map[net.Conn]struct{}
	closed   bool
	wake     chan struct{} // makes the keeper check the faults again
	keeping  bool
	wg       sync.WaitGroup
}

// Start listens on addr ("127.0.0.1:0" for any free port) and serves in the background until ctx ends or Close is
// called. It speaks HTTP/1.1 only: a connection fault must hit one call, and not all calls that share an HTTP/2
// connection.
func (s *Simulator) Start(ctx context.Context, addr string) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closed {
		return ErrClosed
	}

	if s.server != nil {
		return errors.New("the simulator is started already")
	}

	srv := &server{sim: s, conns: map[net.Conn]struct{}{}, wake: make(chan struct{}, 1)}
	if s.tls != nil {
		srv.tls = s.tls.config
	}

	if err := srv.start(ctx, addr); err != nil {
		return err
	}

	s.server = srv
	srv.undo = context.AfterFunc(ctx, func() {
		if err := s.Close(); err != nil {
			s.logger.Error("closing the simulator", "error", err)
		}
	})
	s.logger.Info("listening", "address", srv.addr, "tls", srv.tls != nil)

	return nil
}

func (v *server) newHTTP(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)

	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(v.sim.logger.Handler(), slog.LevelDebug),
		ConnState:         v.track,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
}

func (v *server) start(ctx context.Context, addr string) error {
	var lc net.ListenConfig

	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", addr, err)
	}

	if own := v.sim.opts.AdminAddr; own != "" {
		adminLn, err := lc.Listen(ctx, "tcp", own)
		if err != nil {
			return errors.Join(fmt.Errorf("listening on %s for the admin pages: %w", own, err), ln.Close())
		}

		v.admin, v.own = v.newHTTP(v.sim.admin), adminLn.Addr().String()
		v.admin.ConnState = nil
		v.wg.Go(func() { v.report(v.admin.Serve(adminLn)) })
	}

	v.http = v.newHTTP(v.sim.Handler())
	v.addr, v.host = ln.Addr().String(), clientAddr(ln.Addr())
	v.serve(ln)

	return nil
}

// clientAddr returns an address that a client on this machine can use, which 0.0.0.0 and :: are not.
func clientAddr(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}

	return net.JoinHostPort("127.0.0.1", fmt.Sprint(t.Port))
}

func (v *server) report(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		v.sim.logger.Error("the server stopped serving", "error", err)
	}
}

// serve starts serving a listener; the caller holds the lock, or is Start.
func (v *server) serve(ln net.Listener) {
	v.listener = ln
	if v.tls != nil {
		ln = tls.NewListener(ln, v.tls)
	}

	v.wg.Go(func() { v.report(v.http.Serve(ln)) })
}

func (v *server) track(c net.Conn, state http.ConnState) {
	v.mu.Lock()
	defer v.mu.Unlock()

	switch state {
	case http.StateNew:
		if v.listener == nil { // accepted just before the port was closed
			_ = c.Close()
		}

		v.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(v.conns, c)
	}
}

// refuse closes the port and all connections except spare, until no refuse fault is on.
func (v *server) refuse(spare net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()

	if v.closed {
		return
	}

	if v.listener != nil {
		_ = v.listener.Close() // the only error is that it was closed already
		v.listener = nil
	}

	for c := range v.conns {
		if c != spare {
			_ = c.Close()
		}
	}

	if !v.keeping {
		v.keeping = true
		v.wg.Go(v.keep)
	}
}

// reconsider makes the keeper check the faults again.
func (v *server) reconsider() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// keep opens the port again once the last refusal has ended.
func (v *server) keep() {
	for {
		delay := v.sim.faults.refusedFor()
		if delay <= 0 || v.sim.ctx.Err() != nil {
			if v.reopen() {
				return
			}

			delay = relistenDelay
		}

		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-v.wake:
		case <-v.sim.ctx.Done():
		}

		timer.Stop()
	}
}

// reopen opens the port again unless it must stay closed. It returns true if the keeper has nothing more to do.
func (v *server) reopen() bool {
	v.mu.Lock()
	defer v.mu.Unlock()

	if v.closed || v.sim.ctx.Err() != nil {
		v.keeping = false
		return true
	}

	if v.sim.faults.refusedFor() > 0 { // another refusal has begun meanwhile
		return false
	}

	var lc net.ListenConfig

	ln, err := lc.Listen(v.sim.ctx, "tcp", v.addr)
	if err != nil {
		v.sim.logger.Warn("the port cannot be opened again yet", "address", v.addr, "error", err)
		return false
	}

	v.keeping = false
	v.serve(ln)
	v.sim.logger.Info("listening again", "address", v.addr)

	return true
}

func (v *server) close() error {
	v.undo()
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.reconsider()

	err := v.http.Close()
	if v.admin != nil {
		err = errors.Join(err, v.admin.Close())
	}

	if errors.Is(err, net.ErrClosed) { // a refusal has closed the port
		err = nil
	}

	v.wg.Wait()

	return err
}

// refusedFor returns how long the port still has to stay closed.
func (s *faultSet) refusedFor() time.Duration {
	longest := time.Duration(0)
	for _, f := range s.list() {
		if f.Kind == FaultRefuse {
			longest = max(longest, time.Until(time.Unix(0, f.Until)))
		}
	}

	return longest
}

// addFault switches a fault on. spare is the connection that the request came over; a refusal leaves it open.
func (s *Simulator) addFault(f Fault, spare net.Conn) (Fault, error) {
	if err := f.validate(); err != nil {
		return Fault{}, err
	}

	srv := s.running()
	if f.Kind == FaultRefuse && srv == nil {
		return Fault{}, errors.New("a refuse fault needs a simulator that was started: there is no port to close")
	}

	f = s.faults.add(f)
	s.logger.Info("fault on", "fault", f.ID, "kind", f.Kind, "scope", f.Scope, "for", time.Duration(f.For))

	if f.Kind == FaultRefuse {
		srv.refuse(spare)
	}

	return f, nil
}

func (s *Simulator) reopenIfCleared() {
	if srv := s.running(); srv != nil {
		srv.reconsider()
	}
}

func (s *Simulator) running() *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// Addr returns the address that Start bound, "" before Start.
func (s *Simulator) Addr() string {
	if srv := s.running(); srv != nil {
		return srv.addr
	}
	return ""
}

// URL returns the base address for clients (ATHOC_SERVER_URL), "" before Start.
func (s *Simulator) URL() string {
	srv := s.running()
	switch {
	case srv == nil:
		return ""
	case srv.tls != nil:
		return "https://" + srv.host
	}

	return "http://" + srv.host
}

// AdminURL returns the base address of the /sim/ pages, "" before Start.
func (s *Simulator) AdminURL() string {
	if srv := s.running(); srv != nil && srv.own != "" {
		return "http://" + srv.own
	}
	return s.URL()
}

// CACertFile returns the path of the PEM file that clients have to trust (SSL_CERT_PATH), "" without TLS.
func (s *Simulator) CACertFile() string {
	if s.tls == nil {
		return ""
	}
	return s.tls.caFile
}

// Env returns what a client's environment needs to use this simulator, secrets included. It is complete after Start.
func (s *Simulator) Env() Fields {
	o := &s.opts
	env := Fields{
		{"ATHOC_SERVER_URL", s.URL()},
		{"CLIENT_ID", o.ClientID},
		{"CLIENT_SECRET", o.ClientSecret},
		{"APIUSER", o.Username},
		{"PASSWORD", o.Password},
		{"ORG_CODE", o.OrgCode},
		{"SCOPE", "openid profile " + requiredScope},
		{"DUTY_STATUS_FIELD", o.DutyAttribute},
		{"COLLAR_ID_FIELD", o.CollarAttribute},
	}
	if f := s.CACertFile(); f != "" {
		env = append(env, Field{"SSL_CERT_PATH", f})
	}

	return env
}
