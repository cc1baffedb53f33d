// Package broker runs a NATS server with JetStream inside the calling process. The all-in-one program uses it instead
// of a separate broker, and tests use it as a real broker on a random port.
package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"

	"bobosync/shared/disk"
	"bobosync/shared/scrub"
)

// Errors that distinguish an operator's mistakes. The text around them says what to do.
var (
	// ErrStoreLocked means that another process, or another Server of this one, has the store open.
	ErrStoreLocked = errors.New("store is in use by another process")
	// ErrStoreNotWritable means that the store directory cannot be created or written.
	ErrStoreNotWritable = errors.New("store directory is not writable")
	// ErrDiskFull means that the file system of the store has no room left.
	ErrDiskFull = errors.New("disk is full")
	// ErrPortInUse means that the listen address is taken.
	ErrPortInUse = errors.New("listen address cannot be used")
)

const (
	lockName = "broker.lock"
	// probeSize is how many bytes are written and synced before the start, so that a full disk is reported as such.
	probeSize = 256 << 10
	// littleRoom is so little room at the start, in bytes, that it does not suffice for all streams.
	littleRoom = 16 << 20
	// RandomPort as Options.Port lets the system choose a free port.
	RandomPort = server.RANDOM_PORT
)

// Options describes an embedded broker. StoreDir is required.
type Options struct {
	// StoreDir is the directory of the JetStream files. It is created if it is missing. One process at a time may use
	// it; a lock file inside enforces that.
	StoreDir string
	// Host is the address to listen on, default 127.0.0.1.
	Host string
	// Port is the TCP port; 0 is the NATS default 4222, RandomPort (-1) any free one.
	Port int
	// Token is what clients must present; if it is empty, everybody who reaches the address is let in.
	Token string
	// Guests are clients with another token and fewer rights; nil if there are none. They require a Token.
	Guests *Guests
	// DontListen opens no port at all: only connections through InProcessConn are possible.
	DontListen bool
	// SyncLazily turns off the sync of each message before it is acknowledged. The default (false) survives a power
	// failure without loss; true is faster and loses up to two minutes of acknowledged messages in one.
	SyncLazily bool
	// MaxStore limits the bytes on disk of all streams together; 0 is three quarters of what is free at the start.
	MaxStore int64
	// Domain is the JetStream domain, usually empty.
	Domain string
	// Logger receives the server's lines: its notices at DEBUG, its warnings and errors at their own levels. Default
	// slog.Default.
	Logger *slog.Logger
}

// Server is a running broker. All methods may be called from several goroutines.
type Server struct {
	ns       *server.Server
	lock     *flock.Flock
	storeDir string
	room     uint64 // bytes that were free at the start, by which the server bounds its streams
	stopOnce sync.Once
	stopped  chan struct{}
}

// Start opens the store and starts the broker; it returns when clients can connect and JetStream answers.
// Its errors wrap ErrStoreLocked, ErrStoreNotWritable, ErrDiskFull or ErrPortInUse where one of these is the cause.
// ctx is only checked before the start; end the server with Shutdown.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}

	if o.StoreDir == "" {
		return nil, errors.New("start broker: no store directory given")
	}

	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}

	lock, err := openStore(o.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}

	s := &Server{lock: lock, storeDir: o.StoreDir, stopped: make(chan struct{})}
	logger = logger.With("component", "broker")
	pruneAside(o.StoreDir, time.Now(), logger) // before the start, for which there may be no room otherwise

	if err := scrub.FollowAll(o.StoreDir, logger); err != nil {
		logger.Error("what names a worker who was erased is not overwritten everywhere; it is tried again at the next start", "error", err)
	}

	s.room, _ = disk.Free(o.StoreDir) // 0 where the system does not say
	if err := s.runHealing(o, logger); err != nil {
		return nil, fmt.Errorf("start broker: %w", errors.Join(err, s.lock.Unlock()))
	}

	return s, nil
}

// runHealing starts the server itself. If the server cannot use parts of the store, they are set aside and it is
// started again.
func (s *Server) runHealing(o Options, logger *slog.Logger) error {
	for heals := 0; ; heals++ {
		log := &logBridge{logger: logger}

		err := s.run(o, log)
		var damaged []string
		switch {
		case errors.Is(err, errStore):
			damaged = []string{filepath.Join(o.StoreDir, serverDir)}
		case err != nil:
			return err
		default:
			if damaged, err = s.damaged(); err == nil && len(damaged) == 0 {
				return nil
			}

			s.stop()
		}

		reason := log.problemText()
		switch {
		case noRoom(reason):
			return diskFull(o.StoreDir, errors.New(reason))
		case notOfStore(reason):
			return fmt.Errorf("open the store %s: %s", o.StoreDir, reason)
		case err != nil && !errors.Is(err, errStore):
			return err
		case heals == maxHeals:
			return fmt.Errorf("%w: %s: %s", ErrDamaged, strings.Join(damaged, ", "), reason)
		}

		if err := setAside(o.StoreDir, damaged, logger, cmp.Or(reason, "its last messages are lost")); err != nil {
			return err
		}
	}
}

// stop stops the server itself, and waits until its files are closed.
func (s *Server) stop() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// run starts the server itself. The server reports a failed start only as a fatal log line, so the error is taken from
// there.
func (s *Server) run(o Options, log *logBridge) error {
	opts := serverOptions(o)
	var door *doorkeeper
	if o.Guests != nil {
		door = &doorkeeper{token: o.Token, guests: *o.Guests}
		opts.Authorization, opts.CustomClientAuthentication = "", door
	}

	ns, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}

	ns.SetLoggerV2(log, false, false, false)
	ns.Start()

	if text := log.fatal(); text != "" {
		ns.Shutdown()
		ns.WaitForShutdown()
		return startError(text, opts)
	}

	s.ns = ns

	if door == nil {
		return nil
	}

	if err := door.letIn(ns); err != nil {
		s.stop()
		return err
	}

	return nil
}

func serverOptions(o Options) *server.Options {
	host := o.Host
	if host == "" {
		host = "127.0.0.1"
	}

	return &server.Options{
		ServerName:             "bobosync",
		Host:                   host,
		Port:                   o.Port,
		DontListen:             o.DontListen,
		Authorization:          o.Token,
		JetStream:              true,
		StoreDir:               o.StoreDir,
		SyncAlways:             !o.SyncLazily,
		JetStreamMaxStore:      o.MaxStore,
		JetStreamDomain:        o.Domain,
		DisableJetStreamBanner: true,
		NoSigs:                 true, // signals belong to the program
	}
}

// startError turns the server's fatal log line into an error with a remedy.
func startError(text string, o *server.Options) error {
	switch {
	case strings.Contains(text, "listening on port"):
		return fmt.Errorf("%w: %s (is another broker running? stop it or choose another address)", ErrPortInUse, text)
	case noRoom(text):
		return diskFull(o.StoreDir, errors.New(text))
	case strings.Contains(strings.ToLower(text), "jetstream"):
		return fmt.Errorf("%w: %s", errStore, text)
	default:
		return errors.New(text)
	}
}

// errStore means that the server did not start because of what is in its store.
var errStore = errors.New("the store cannot be used")

// notOfStore reports whether a message of the server's says that its files could not be read or written for a reason
// that setting them aside would not remove.
func notOfStore(text string) bool {
	for _, reason := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EIO, syscall.ENOMEM, syscall.EFBIG,
		syscall.ESTALE, syscall.ENOTCONN, syscall.EHOSTDOWN, syscall.ETIMEDOUT, syscall.EINTR, syscall.ENXIO, syscall.EBUSY, // a share or a device that is not there
	} {
		if strings.Contains(text, reason.Error()) {
			return true
		}
	}

	return strings.Contains(text, "not writable")
}

// noRoom reports whether a message of the server's says that the file system is full.
func noRoom(text string) bool { return disk.SaysFull(text) }

func diskFull(dir string, cause error) error {
	return fmt.Errorf("%w: make room on the file system of %s and start again: %w", ErrDiskFull, dir, cause)
}

// openStore creates dir if necessary, takes its lock, and proves that it can be written.
func openStore(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, storeError(dir, err)
	}

	lock := flock.New(filepath.Join(dir, lockName))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, storeError(dir, err)
	}

	if !ok {
		return nil, fmt.Errorf("%w: %s: stop the other program or give this one a directory of its own", ErrStoreLocked, dir)
	}

	if err := probe(dir); err != nil {
		return nil, errors.Join(storeError(dir, err), lock.Unlock())
	}

	return lock, nil
}

func storeError(dir string, err error) error {
	if disk.IsFull(err) {
		return diskFull(dir, err)
	}

	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: give this user write access to %s: %w", ErrStoreNotWritable, dir, err)
	}

	return fmt.Errorf("%w: %s: %w", ErrStoreNotWritable, dir, err)
}

// probe writes, syncs and removes a file in dir.
func probe(dir string) (err error) {
	f, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()

	if disk.NoFiles(dir) { // the server makes files for each stream, and deletes a stream for which it cannot
		return fmt.Errorf("next to no more files can be made: %w", syscall.ENOSPC)
	}

	if _, err := f.Write(make([]byte, probeSize)); err != nil {
		return err
	}

	return f.Sync()
}

// ClientURL returns the address for clients, for example nats://127.0.0.1:4222. It is empty with DontListen.
func (s *Server) ClientURL() string {
	if s.ns.Addr() == nil {
		return ""
	}
	return s.ns.ClientURL()
}

// InProcessConn opens a connection that uses no socket. It makes Server a nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// Health returns an error unless the broker can store messages in all streams, and deliver them. On a full disk
// JetStream switches itself off, or freezes the stream that could not be written. Then the error wraps ErrDiskFull, and
// only a restart of the broker with room on the disk helps.
func (s *Server) Health() error {
	switch {
	case !s.ns.Running():
		return errors.New("broker: not running")
	case !s.ns.JetStreamEnabled():
		return fmt.Errorf("broker: JetStream has switched itself off: %w", diskFull(s.storeDir, errors.New("see the log")))
	}

	free, err := disk.Free(s.storeDir)
	if err == nil && s.room < littleRoom && free >= 2*littleRoom {
		return fmt.Errorf("broker: it was started with room for %d bytes, and there is more now", s.room)
	}

	if err == nil && free < probeSize {
		// An atomic batch that cannot be stored freezes no stream, and each one leaves open files behind.
		return fmt.Errorf("broker: nothing can be stored: %w", diskFull(s.storeDir, fmt.Errorf("%d bytes are free", free)))
	}

	health := s.ns.Healthz(&server.HealthzOptions{Details: true})
	var errs []error
	for _, e := range health.Errors {
		if e.Type == server.HealthzErrorConn {
			continue // it is busy, or just stopping
		}

		errs = append(errs, errors.New(e.Error))
	}

	err = errors.Join(errs...)
	if err != nil && noRoom(err.Error()) {
		return fmt.Errorf("broker: a stream is frozen: %w", diskFull(s.storeDir, err))
	}

	if err != nil {
		return fmt.Errorf("broker: not healthy: %w", err)
	}

	if astray := s.ahead(""); len(astray) > 0 {
		return fmt.Errorf("broker: stream %s has lost its end, so that consumer %s gets nothing of what comes", astray[0].stream, astray[0].consumer)
	}

	return nil
}

// DropClients cuts all client connections, as a network failure would. Clients reconnect by themselves.
func (s *Server) DropClients() error {
	conns, err := s.ns.Connz(nil)
	if err != nil {
		return fmt.Errorf("list client connections: %w", err)
	}

	for _, c := range conns.Conns {
		// A connection that has gone in the meantime needs no cutting.
		_ = s.ns.DisconnectClientByID(c.Cid)
	}

	return nil
}

// Shutdown stops the broker, waits until its files are closed and frees the store. If ctx ends first, Shutdown returns
// its error; the shutdown goes on, and a later call waits for it again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() {
		go func() {
			defer close(s.stopped)

			s.stop()
			// A lock that cannot be released ends with the process.
			_ = s.lock.Unlock()
		}()
	})

	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shut broker down: %w", ctx.Err())
	}
}
