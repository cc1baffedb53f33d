//go:build unix

// Package harness runs the real programs of BOBO Sync as separate processes, with a broker and the AtHoc simulator,
// on loopback ports and in one directory. It drops files, makes things go wrong, and gathers what the auditor needs.
// It starts every process itself, and sends signals to no others.
package harness

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
	"bobosync/shared/bustest/freeport"
)

// The settings of the stack, which the auditor gets as well.
const (
	BoboZone  = "Asia/Kolkata" // an offset with half an hour, and no summer time
	AtHocZone = "America/Phoenix"
	Lifetime  = 24 * time.Hour

	settleTime  = 400 * time.Millisecond
	callTimeout = 2 * time.Second
	rateLimit   = 8
	batchSize   = 4
	// serviceStart is how long a service on a busy machine may need until it works.
	serviceStart = 15 * time.Second
	// jitter is what a busy machine and the proxies may add to the arrival of a call.
	jitter = 400 * time.Millisecond

	// serverURL is AtHoc's address for all services: they share a token only if they use the same server. Each
	// reaches it through a proxy of its own (HTTP_PROXY), which forwards everything to the simulator.
	serverURL = "http://athoc.e2e.test"

	dutyAttribute   = sim.DefaultDutyAttribute
	collarAttribute = sim.DefaultCollar
	otherAttribute  = "Phone"
)

// Config says what to run.
type Config struct {
	// Dir is the directory for everything; it must be empty, or hold what Unpack has written. Bin is the directory of
	// the programs; see Build.
	Dir, Bin string
	// AllInOne runs `bobosync run` instead of the services and the broker.
	AllInOne bool
	// Publishers is how many publishers there are at the start; at least 1.
	Publishers int
	// Plan provides the workers. Its files are dropped by whoever drives the stack.
	Plan workload.Plan
	// Past, if not nil, is what the stack continues from; its users are then AtHoc's.
	Past *Past
	// Settings are environment variables for all services; they override the harness's own.
	Settings map[string]string
	// Guard holds mass changes, and adds a crew of workers for them.
	Guard bool
	// Hostile says that nothing is done to services and network: all that goes wrong comes from a hostile bringer.
	Hostile bool
	// Asked is for how many random workers and moments the pipeline is asked what AtHoc held; 0 means 100, or fewer
	// if there are few workers.
	Asked int
	// SyncLazily lets the broker acknowledge messages before they are synced. A kill leaves the same data behind
	// either way; only a power cut would show the difference.
	SyncLazily bool
	// SmallStore gives the broker's store a small file system of its own, if one can be mounted, so that it can be
	// filled.
	SmallStore bool
	// Tap, if not nil, is called with all data that passes between the services and AtHoc. It is called from several
	// goroutines.
	Tap func([]byte)
}

// publisher is one replica. Each has its own proxies.
type publisher struct {
	*Process
	athoc, broker *Proxy
}

// Stack is a running pipeline. Its methods are safe for concurrent use.
type Stack struct {
	Sim *Simulator
	In  *Folder
	// Secrets are passwords and similar texts that must not be found anywhere.
	Secrets []string

	cfg     Config
	started time.Time // when the first program of this stack was started; if the stack has a past, then in its past
	lives   time.Time // when this process started the stack, or took it up
	env     map[string]string
	ports   struct{ broker, sim, admin int }
	// front is the proxy through which everybody reaches the simulator; the publishers reach it through proxies of
	// their own. It refuses connections while a restarted simulator does not know yet whom it must refuse.
	front    *Proxy
	victims  victims
	orders   orders
	ctx      context.Context
	cancel   context.CancelFunc
	watching sync.WaitGroup

	// unmount removes the small file system of the broker's store; nil if there is none.
	unmount func() error

	mu         sync.Mutex
	processes  map[string]*Process
	publishers map[string]*publisher
	made       int // number of publishers so far
	probes     int
	brought    int   // number of things that a hostile bringer has brought so far
	lasting    []int // IDs of the faults that stay
	lost       []audit.Window
	frozen     []audit.Window
	halted     []time.Time    // when answers may have been lost; see audit.Input
	storeLost  []time.Time    // when the broker lost its store
	forgotten  []audit.Window // when the resolver may have lost what it had just held
	calm       time.Time      // when the last fault was over; zero if unknown
	conn       *nats.Conn     // to the broker, once somebody has asked for it
	log        *os.File
}

// Names of the processes. Publishers are publisher-1 and so on.
const (
	Broker          = "broker"
	AtHoc           = "athocsim"
	Ingest          = "ingest"
	Resolver        = "resolver"
	Janitor         = "janitor"
	AllInOne        = "bobosync"
	publisherPrefix = "publisher-"
)

// Directories of a stack, below Config.Dir.
const (
	inDir     = "in"
	doneDir   = "processed"
	failedDir = "failed"
	dataDir   = "data"
	storeDir  = "jetstream"
	logDir    = "logs"
	callLog   = "calls.jsonl"
)

// probe is the worker with whose bookings the harness checks that the pipeline works from end to end.
var probe = workload.Worker{Employee: "90909", Login: "probe@example.org"}

// Start starts everything. The caller must call Close, even after an error.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	now := time.Now()

	s := &Stack{cfg: cfg, started: now, lives: now, processes: map[string]*Process{}, publishers: map[string]*publisher{}}
	s.ctx, s.cancel = context.WithCancel(ctx)

	s.cfg.Plan.Workers = append(slices.Clone(cfg.Plan.Workers), probe)
	if cfg.Guard {
		s.cfg.Plan.Workers = append(s.cfg.Plan.Workers, crew(crewSize)...)
	}

	for _, dir := range []string{inDir, doneDir, failedDir, dataDir, storeDir, logDir, "outside"} {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			return s, fmt.Errorf("make the stack's directories: %w", err)
		}
	}

	var err error
	if cfg.SmallStore && os.Getuid() == 0 {
		if s.unmount, err = Mount(s.Path(storeDir), storeMebibytes); err != nil {
			s.unmount = nil // without the file system, no disk is filled
		}
	}

	if s.log, err = os.Create(s.Path(logDir, "harness.log")); err != nil {
		return s, err
	}

	s.In = newFolder(s.Path(inDir), s.Path("outside"), settleTime)
	if cfg.Past != nil {
		if err := s.takeUp(cfg.Past); err != nil {
			return s, fmt.Errorf("take up the past: %w", err)
		}
	}

	s.watching.Go(func() { s.In.watch(s.ctx) })

	for _, port := range []*int{&s.ports.broker, &s.ports.sim, &s.ports.admin} {
		if *port, err = freeport.Find(); err != nil {
			return s, err
		}
	}

	s.environment()

	if err := s.startSimulator(); err != nil {
		return s, err
	}

	return s, s.startServices()
}

// Path returns a path below the stack's directory.
func (s *Stack) Path(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, parts...)...)
}

// Note writes a line to the harness's log.
func (s *Stack) Note(format string, args ...any) {
	fmt.Fprintf(s.log, "%s %s\n", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// secret makes up a secret that occurs nowhere else.
func (s *Stack) secret() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	text := "s3cr3t-" + hex.EncodeToString(b[:])
	s.Secrets = append(s.Secrets, text)

	return text
}

// environment sets the environment of all services. Nothing of the harness's own environment gets through except what
// Go needs.
func (s *Stack) environment() {
	s.env = map[string]string{
		"CLIENT_ID": "e2e-client", "CLIENT_SECRET": s.secret(), "APIUSER": "e2e-operator", "PASSWORD": s.secret(), "ORG_CODE": "E2E",
		"ATHOC_SERVER_URL": serverURL, "ATHOC_ALLOW_HTTP": "true", "CSV_DIRECTORY": s.Path(inDir), "PROCESSED_DIRECTORY": s.Path(doneDir), "FAILED_FILES_DIRECTORY": s.Path(failedDir),
		"DATA_DIRECTORY": s.Path(dataDir), "BOBO_TIMEZONE": BoboZone, "ATHOC_TIMEZONE": AtHocZone,
		"POLL_INTERVAL": "500ms", "SETTLE_TIME": settleTime.String(), "ATHOC_TIMEOUT": callTimeout.String(),
		"ATHOC_RATE_LIMIT": fmt.Sprint(rateLimit), "BATCH_SIZE": fmt.Sprint(batchSize), "BATCH_WAIT": "30ms",
		"AUTO_CLEANUP_HOURS": fmt.Sprint(int(Lifetime.Hours())), "CLEANUP_INTERVAL": "2s", "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json",
		"DUTY_STATUS_FIELD": dutyAttribute, "COLLAR_ID_FIELD": collarAttribute, "ENTRIES_MAX_BYTES": fmt.Sprint(64 << 20),
	}
	if s.cfg.Guard {
		maps.Copy(s.env, guardSettings)
	}

	maps.Copy(s.env, s.cfg.Settings)
}

// Close ends all processes, gracefully if possible, and returns what went wrong with that.
func (s *Stack) Close() error {
	s.cancel()
	s.watching.Wait()
	var errs []error
	stop := func(p *Process) { errs = append(errs, p.Stop()) }

	s.mu.Lock()

	last := []*Process{}
	var first []*Process
	for name, p := range s.processes {
		if name == Broker || name == AtHoc {
			last = append(last, p)
		} else {
			first = append(first, p)
		}
	}

	publishers := slices.Collect(maps.Values(s.publishers))
	if s.conn != nil {
		s.conn.Close()
	}
	s.mu.Unlock()

	for _, p := range append(first, last...) {
		stop(p)
	}

	for _, p := range publishers {
		errs = append(errs, p.athoc.Close(), p.broker.Close())
	}

	if s.front != nil {
		errs = append(errs, s.front.Close())
	}

	if s.unmount != nil {
		errs = append(errs, s.unmount())
	}

	if s.log != nil {
		errs = append(errs, s.log.Close())
	}

	return errors.Join(errs...)
}
