//go:build unix

// Package harness runs the real programs of BOBO Sync as processes of their own, with a broker and the AtHoc simulator
// beside them, all on loopback ports and in one directory; drops files, makes things go wrong, and gathers what the
// auditor needs. It starts every process itself and signals no other.
package harness

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
	"bobosync/shared/bustest/freeport"
)

// What the stack is told, and the auditor with it.
const (
	BoboZone  = "Asia/Kolkata" // half an hour off, and no summer time
	AtHocZone = "America/Phoenix"
	Lifetime  = 24 * time.Hour

	settleTime  = 400 * time.Millisecond
	callTimeout = 2 * time.Second
	rateLimit   = 8
	batchSize   = 4
	// serviceStart is what a service may need on a busy machine until it works.
	serviceStart = 15 * time.Second
	// jitter is what a busy machine and the proxies may add to the arrival of a call.
	jitter = 400 * time.Millisecond

	// serverURL is AtHoc's address for all services: they share a token only if they mean the same server. Each reaches it
	// through a proxy of its own (HTTP_PROXY), which passes on to the simulator whatever it gets.
	serverURL = "http://athoc.e2e.test"

	dutyAttribute   = sim.DefaultDutyAttribute
	collarAttribute = sim.DefaultCollar
	otherAttribute  = "Phone"
)

// Config says what to run.
type Config struct {
	// Dir is the directory for everything; it must be empty, or hold what Unpack has laid out. Bin has the programs; see Build.
	Dir, Bin string
	// AllInOne runs `bobosync run` instead of the services and the broker.
	AllInOne bool
	// Publishers is how many publishers there are at the start; at least 1.
	Publishers int
	// Plan gives the workers. Its files are dropped by whoever drives the stack.
	Plan workload.Plan
	// Past, if not nil, is what the stack goes on from, and its users are AtHoc's.
	Past *Past
	// Settings are environment variables for all services, above the harness's own.
	Settings map[string]string
	// Guard has mass changes held, and a crew of workers for them.
	Guard bool
	// Hostile tells that nothing is done to services and network: all that goes wrong is what a hostile bringer brings.
	Hostile bool
	// Asked is of how many random workers and moments it is asked what AtHoc held; 0 is 100, or fewer for a few workers.
	Asked int
	// SyncLazily spares the broker the syncing of each message. What a kill leaves behind is the same; only a power cut
	// would show the difference.
	SyncLazily bool
	// SmallStore gives the broker's store a small file system of its own, where one can be mounted, so that it can be filled.
	SmallStore bool
	// Tap, if not nil, is shown all that passes between the services and AtHoc. It is called by several goroutines.
	Tap func([]byte)
}

// publisher is one replica, each with a network of its own.
type publisher struct {
	*Process
	athoc, broker *Proxy
}

// Stack is a running pipeline. Its methods are safe for concurrent use.
type Stack struct {
	Sim *Simulator
	In  *Folder
	// Secrets are texts that must be found nowhere: passwords and the like.
	Secrets []string

	cfg     Config
	started time.Time // when the first program of this stack was started, in its past if it has one
	lives   time.Time // when this process took it up
	env     map[string]string
	ports   struct{ broker, sim, admin int }
	// front is the simulator's address for all but the publishers; it is closed to them while a simulator that was
	// started again does not know yet whom it must refuse.
	front    *Proxy
	victims  victims
	orders   orders
	ctx      context.Context
	cancel   context.CancelFunc
	watching sync.WaitGroup

	// unmount takes the small file system of the broker's store away again; nil if there is none.
	unmount func() error

	mu         sync.Mutex
	processes  map[string]*Process
	publishers map[string]*publisher
	made       int // publishers so far
	probes     int
	brought    int   // by a hostile bringer, so far
	lasting    []int // faults that stay
	lost       []audit.Window
	frozen     []audit.Window
	halted     []time.Time    // when answers may have been lost: publishers or the broker were killed or went on, or found each other again
	storeLost  []time.Time    // when the broker lost its store
	forgotten  []audit.Window // when the resolver may have lost what it had just held
	calm       time.Time      // when the last fault was over; zero if that is not known
	conn       *nats.Conn     // to the broker, once it was asked
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

// probe is the worker by whom the harness sees that the pipeline works from end to end.
var probe = workload.Worker{Employee: "90909", Login: "probe@example.org"}

// Start starts everything. Call Close, also after an error.
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
			s.unmount = nil // without it no disk is filled
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

// secret makes up one that is found nowhere else.
func (s *Stack) secret() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	text := "s3cr3t-" + hex.EncodeToString(b[:])
	s.Secrets = append(s.Secrets, text)
	return text
}

// environment is what all services are told. Nothing of the harness's own environment gets through but what Go needs.
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

// add makes a process of a program and starts it.
func (s *Stack) add(name, program string, env map[string]string, args ...string) (*Process, error) {
	p := &Process{
		Name: name, path: filepath.Join(s.cfg.Bin, program), args: args, dir: s.cfg.Dir, log: s.Path(logDir, name+".log"),
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.cfg.Dir, "TZ=UTC"},
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p.env = append(p.env, k+"="+env[k])
	}
	return s.launch(p)
}

// halt notes a moment at which answers of AtHoc may be lost.
func (s *Stack) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = append(s.halted, time.Now())
}

// launch starts a process that was made.
func (s *Stack) launch(p *Process) (*Process, error) {
	if p.Name == AllInOne || p.Name == Broker || strings.HasPrefix(p.Name, publisherPrefix) {
		p.halted = s.halt
	}
	s.mu.Lock()
	s.processes[p.Name] = p
	s.mu.Unlock()
	return p, p.Start()
}

// Process returns a process by its name, nil if there is none of that name.
func (s *Stack) Process(name string) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes[name]
}

func (s *Stack) startSimulator() error {
	data, err := json.Marshal(s.initialUsers())
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.Path("users.json"), data, 0o600); err != nil {
		return fmt.Errorf("write the users: %w", err)
	}
	env := map[string]string{
		"ATHOCSIM_CLIENT_ID": s.env["CLIENT_ID"], "ATHOCSIM_CLIENT_SECRET": s.env["CLIENT_SECRET"],
		"ATHOCSIM_USERNAME": s.env["APIUSER"], "ATHOCSIM_PASSWORD": s.env["PASSWORD"], "ATHOCSIM_ORG": s.env["ORG_CODE"],
	}
	admin := address(s.ports.admin)
	if s.front, err = NewProxy(address(s.ports.sim)); err != nil {
		return err
	}
	s.front.tap = s.cfg.Tap
	s.front.Refuse(true)
	s.Sim = newSimulator(admin)
	_, err = s.add(AtHoc, "athocsim", env, "-listen", address(s.ports.sim), "-admin", admin, "-state", s.Path("athoc.state"),
		"-call-log", s.Path(callLog), "-users-file", s.Path("users.json"), "-log-level", "DEBUG", "-echo-case", "random",
		"-latency", "20ms", "-latency-jitter", "60ms")
	if err != nil {
		return err
	}
	return s.introduce()
}

// initialUsers are the attributes of AtHoc's users when the simulator is started for the first time.
func (s *Stack) initialUsers() []map[string]string {
	users := []map[string]string{}
	add := func(login string, attributes map[string]string) {
		attributes = maps.Clone(attributes)
		attributes[sim.LoginID] = login
		users = append(users, attributes)
	}
	if s.cfg.Past != nil {
		for login, attributes := range s.cfg.Past.Final {
			add(login, attributes)
		}
		return users
	}
	for _, u := range s.users() {
		add(u.Login, u.Attributes)
	}
	return users
}

// introduce tells a simulator that has just started whom it must refuse, and opens the way to it.
func (s *Stack) introduce() error {
	err := s.eventually(20*time.Second, "the simulator answers", func() (bool, error) {
		_, err := s.Sim.Stats(s.ctx)
		return err == nil, nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.lasting = nil
	s.mu.Unlock()
	var forbidden []string
	for _, u := range s.users() {
		if u.Forbidden {
			forbidden = append(forbidden, u.Login)
		}
	}
	if len(forbidden) > 0 {
		id, err := s.Sim.Fault(s.ctx, sim.Fault{Kind: sim.FaultDenyUser, Users: forbidden})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.lasting = append(s.lasting, id)
		s.mu.Unlock()
	}
	s.front.Refuse(false)
	return nil
}

// RestartSimulator kills the simulator and starts it again with the state it had, after a pause. Faults and settings are
// forgotten.
func (s *Stack) RestartSimulator(ctx context.Context, pause time.Duration) error {
	s.front.Refuse(true)
	p := s.Process(AtHoc)
	if err := p.Kill(); err != nil {
		return err
	}
	s.front.Cut()
	wait(ctx, pause)
	if err := p.Start(); err != nil {
		return err
	}
	return s.introduce()
}

func (s *Stack) startServices() error {
	if s.cfg.AllInOne {
		env := maps.Clone(s.env)
		env["HTTP_PROXY"] = "http://" + s.front.Addr()
		_, err := s.add(AllInOne, "bobosync", env, "run")
		return err
	}
	args := []string{"-store", s.Path(storeDir), "-port", fmt.Sprint(s.ports.broker)}
	if s.cfg.SyncLazily {
		args = append(args, "-sync-lazily")
	}
	if _, err := s.add(Broker, "natsd", nil, args...); err != nil {
		return err
	}
	env := maps.Clone(s.env)
	env["NATS_URL"] = "nats://" + address(s.ports.broker)
	env["HTTP_PROXY"] = "http://" + s.front.Addr()
	for _, name := range []string{Ingest, Resolver, Janitor} {
		if _, err := s.add(name, name, env); err != nil {
			return err
		}
	}
	for range max(1, s.cfg.Publishers) {
		if _, err := s.AddPublisher(); err != nil {
			return err
		}
	}
	return nil
}

// AddPublisher starts one more publisher and returns its name.
func (s *Stack) AddPublisher() (string, error) {
	athoc, err := NewProxy(s.front.Addr())
	if err != nil {
		return "", err
	}
	broker, err := NewProxy(address(s.ports.broker))
	if err != nil {
		return "", errors.Join(err, athoc.Close())
	}
	env := maps.Clone(s.env)
	env["NATS_URL"] = "nats://" + broker.Addr()
	env["HTTP_PROXY"] = "http://" + athoc.Addr()
	s.mu.Lock()
	s.made++
	name := fmt.Sprint(publisherPrefix, s.made)
	p := &publisher{athoc: athoc, broker: broker}
	s.publishers[name] = p
	s.mu.Unlock()
	process, err := s.add(name, "publisher", env)
	s.mu.Lock()
	p.Process = process
	s.mu.Unlock()
	return name, err
}

// RemovePublisher ends a publisher for good, at once or gracefully.
func (s *Stack) RemovePublisher(name string, kill bool) error {
	s.mu.Lock()
	p := s.publishers[name]
	delete(s.publishers, name)
	delete(s.processes, name)
	s.mu.Unlock()
	if p == nil {
		return nil // another fault was faster
	}
	end := p.Stop
	if kill {
		end = p.Kill
	}
	return errors.Join(end(), p.athoc.Close(), p.broker.Close())
}

// Publishers returns the names of the publishers that have been started.
func (s *Stack) Publishers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, p := range s.publishers {
		if p.Process != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// network returns a publisher's connections to AtHoc and to the broker.
func (s *Stack) network(name string) (athoc, broker *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.publishers[name]
	return p.athoc, p.broker
}

// services returns all processes but the simulator.
func (s *Stack) services() []*Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Process
	for _, name := range slices.Sorted(maps.Keys(s.processes)) {
		if name != AtHoc {
			all = append(all, s.processes[name])
		}
	}
	return all
}

// RefuseAtHoc makes AtHoc unreachable, or reachable again.
func (s *Stack) RefuseAtHoc(on bool) {
	s.front.Refuse(on)
	if on {
		s.front.Cut()
	}
}

// AwaitBacklog waits until updates wait for AtHoc.
func (s *Stack) AwaitBacklog(within time.Duration) error {
	return s.eventually(within, "updates wait for AtHoc", func() (bool, error) {
		pending, err := s.pending()
		return strings.Contains(pending, publisherPrefix), err
	})
}

// Delete removes directories and files below the stack's directory.
func (s *Stack) Delete(names ...string) error {
	var errs []error
	for _, n := range names {
		s.Note("deleted: %s", n)
		if n != storeDir || s.unmount == nil {
			errs = append(errs, os.RemoveAll(s.Path(n)))
			continue
		}
		entries, err := os.ReadDir(s.Path(n)) // what is mounted there stays
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.RemoveAll(s.Path(n, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Messages returns the payloads and headers of all messages of all streams of the broker.
func (s *Stack) Messages() ([]byte, error) {
	conn, err := nats.Connect("nats://" + address(s.ports.broker))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	var all []byte
	names := js.StreamNames(s.ctx)
	for name := range names.Name() {
		stream, err := js.Stream(s.ctx, name)
		if err != nil {
			return nil, err
		}
		state := stream.CachedInfo().State
		for seq := max(1, state.FirstSeq); seq <= state.LastSeq && state.Msgs > 0; seq++ {
			m, err := stream.GetMsg(s.ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = fmt.Appendf(all, "%s %v %s\n", m.Subject, m.Header, m.Data)
		}
	}
	return all, names.Err()
}

// KillAll ends everything but the simulator at once.
func (s *Stack) KillAll() error {
	s.Note("kill -9 of everything")
	var errs []error
	for _, p := range s.services() {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

// StartAll starts everything again that does not run.
func (s *Stack) StartAll() error {
	s.Note("everything is started again")
	var errs []error
	for _, p := range s.services() {
		errs = append(errs, p.Start())
	}
	return errors.Join(errs...)
}

// Close ends all processes, gracefully where they can, and returns what went wrong with that.
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

// users are AtHoc's at the start, as the auditor is told them.
func (s *Stack) users() []audit.User {
	if s.cfg.Past != nil {
		return s.cfg.Past.Users
	}
	zone := s.rules().AtHocZone
	var users []audit.User
	for i, w := range s.cfg.Plan.Workers {
		if w.Login == "" {
			continue
		}
		u := audit.User{
			Login: w.Login, Collar: w.Employee, Forbidden: w.Role == workload.Forbidden, Removed: w.Role == workload.Removed,
			Attributes: map[string]string{collarAttribute: w.Employee, otherAttribute: fmt.Sprintf("+44 %07d", i)},
		}
		if !w.Duty.IsZero() {
			u.Attributes[dutyAttribute] = w.Duty.In(zone).Format(sim.DateLayout)
		}
		users = append(users, u)
	}
	return users
}

func (s *Stack) rules() audit.Rules {
	bobo, err1 := time.LoadLocation(BoboZone)
	athoc, err2 := time.LoadLocation(AtHocZone)
	if err := errors.Join(err1, err2); err != nil {
		panic(fmt.Sprintf("the machine has no time zones: %v", err))
	}
	hours, err := strconv.Atoi(s.env["AUTO_CLEANUP_HOURS"])
	if err != nil {
		panic(fmt.Sprintf("AUTO_CLEANUP_HOURS: %v", err))
	}
	guard := audit.Guard{}
	if s.cfg.Guard {
		guard = audit.Guard{Window: guardWindow, MinUsers: guardUsers, Percent: guardPercent}
	}
	start := serviceStart
	if s.cfg.Hostile {
		start = 0
	}
	return audit.Rules{
		Guard:    guard,
		BoboZone: bobo, AtHocZone: athoc, Lifetime: time.Duration(hours) * time.Hour, Cleans: hours > 0, MaxSkew: 15 * time.Minute, Duty: dutyAttribute,
		Rate: rateLimit, Burst: 1, Jitter: jitter, CallTimeout: callTimeout, Batch: batchSize, Settle: settleTime, Start: start,
	}
}

// eventually waits until a condition holds.
func (s *Stack) eventually(within time.Duration, what string, holds func() (bool, error)) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		select {
		case <-s.ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, s.ctx.Err())
		case <-deadline.C:
			err = errors.Join(err, s.Died())
			if err == nil {
				return fmt.Errorf("not within %s: %s", within, what)
			}
			return fmt.Errorf("not within %s: %s: %w", within, what, err)
		case <-tick.C:
		}
	}
}

// Died names the processes that ended by themselves.
func (s *Stack) Died() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.processes)) {
		errs = append(errs, s.processes[name].Died())
	}
	return errors.Join(errs...)
}

// Ready waits until the pipeline works from end to end: until a booking that is dropped now shows in AtHoc. The time up
// to that is one in which the mapping of workers may be unknown.
func (s *Stack) Ready(within time.Duration) error {
	s.mu.Lock()
	i := len(s.lost)
	s.lost = append(s.lost, audit.Window{From: time.Now()})
	s.mu.Unlock()
	shown, err := s.Book()
	if err != nil {
		return err
	}
	err = s.eventually(within, "a booking shows in AtHoc", shown)
	s.mu.Lock()
	s.lost[i].To = time.Now()
	s.mu.Unlock()
	return err
}

// Book drops a booking of the worker by whom the harness sees that the pipeline works, and returns what tells whether AtHoc shows it.
func (s *Stack) Book() (shown func() (bool, error), err error) {
	s.mu.Lock()
	s.probes++
	n := s.probes
	s.mu.Unlock()
	at := s.lives.Add(-time.Hour + time.Duration(n)*time.Second)
	created := at.In(s.rules().BoboZone).Format("20060102150405")
	row := strings.Join([]string{"BON", probe.Employee, "", created[:8], created[8:], created, "", "", "", ""}, ",")
	if err := s.In.Drop(workload.File{Name: fmt.Sprintf("probe %d.csv", n), Content: []byte(row)}); err != nil {
		return nil, err
	}
	return func() (bool, error) {
		value, err := s.Sim.Value(s.ctx, probe.Login, dutyAttribute)
		if err != nil {
			return false, err
		}
		since, err := time.ParseInLocation(sim.DateLayout, value, s.rules().AtHocZone)
		return err == nil && !since.Before(at.Truncate(time.Second)), nil // it may show a later one already
	}, nil
}

// RemoveUsers takes those users out of AtHoc that the plan says, once the mapping is known.
func (s *Stack) RemoveUsers() error {
	var logins []string
	for _, w := range s.cfg.Plan.Workers {
		if w.Role == workload.Removed {
			logins = append(logins, w.Login)
		}
	}
	if len(logins) == 0 {
		return nil
	}
	return s.Sim.Remove(s.ctx, logins...)
}

// quiet is for how long nothing may happen until the pipeline counts as idle.
const quiet = time.Second

// Idle waits until nothing is left to do: the input directory is empty, the broker has nothing that was not
// acknowledged, and AtHoc was not called for a while.
func (s *Stack) Idle(within time.Duration) error {
	s.In.writers.Wait()
	var since time.Time
	calls, run := -1, int64(0)
	return s.eventually(within, "the input directory is empty and all is quiet", func() (bool, error) {
		busy := func(format string, args ...any) (bool, error) {
			since = time.Time{}
			return false, fmt.Errorf(format, args...)
		}
		names, err := s.In.Names()
		if err != nil || len(names) > 0 {
			return busy("%d files in the input directory, such as %s (%v)", len(names), strings.Join(names[:min(3, len(names))], ", "), err)
		}
		st, err := s.Sim.Stats(s.ctx)
		if err != nil {
			return busy("%w", err)
		}
		// Only updates count: the janitor always looks at something.
		updates := st.Endpoints[sim.EndpointUpdate]
		if n := updates.Calls; n != calls || st.Run != run || updates.InFlight > 0 {
			calls, run = n, st.Run
			return busy("AtHoc is being called")
		}
		if pending, err := s.pending(); err != nil || pending != "" {
			return busy("consumers wait: %s (%v)", pending, err)
		}
		if since.IsZero() {
			if stale, err := s.stale(); err != nil || stale > 0 {
				return busy("%d users have a stale duty status (%v)", stale, err)
			}
			since = time.Now()
		}
		return time.Since(since) >= quiet, nil
	})
}

// stale counts the users whose duty status the janitor has still to find. One whom AtHoc refused to change keeps it: he is
// not tried again before a day has passed.
func (s *Stack) stale() (int, error) {
	rules := s.rules()
	if !rules.Cleans {
		return 0, nil
	}
	final, err := s.Sim.Users(s.ctx)
	if err != nil {
		return 0, err
	}
	stale := map[string]bool{}
	for login, attributes := range final {
		since, err := time.ParseInLocation(sim.DateLayout, attributes[rules.Duty], rules.AtHocZone)
		if err == nil && time.Since(since) > rules.Lifetime {
			stale[strings.ToLower(login)] = true
		}
	}
	if len(stale) == 0 {
		return 0, nil
	}
	calls, err := sim.ReadCallLog(s.Path(callLog))
	for _, c := range calls {
		for _, u := range c.Users {
			if u.Outcome == sim.OutcomeDenied {
				delete(stale, strings.ToLower(u.LoginID))
			}
		}
	}
	return len(stale), err
}

// connection returns one connection to the broker for all who ask about it; it is made anew when the broker was away.
func (s *Stack) connection() (*nats.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.IsConnected() {
		return s.conn, nil
	}
	if s.conn != nil {
		s.conn.Close()
	}
	var err error
	s.conn, err = nats.Connect(s.BrokerURL(), nats.Timeout(time.Second), nats.NoReconnect())
	return s.conn, err
}

// pending names consumers of the broker that have something left to do. The broker inside the all-in-one program cannot
// be asked.
func (s *Stack) pending() (string, error) {
	if s.cfg.AllInOne {
		return "", nil
	}
	conn, err := s.connection()
	if err != nil {
		return "", err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	var waiting []string
	names := js.StreamNames(ctx)
	for stream := range names.Name() {
		st, err := js.Stream(ctx, stream)
		if err != nil {
			return "", err
		}
		consumers := st.ListConsumers(ctx)
		for c := range consumers.Info() {
			if c.Config.Durable != "" && (c.NumPending > 0 || c.NumAckPending > 0) {
				waiting = append(waiting, fmt.Sprintf("%s (%d to deliver, %d to acknowledge)", c.Name, c.NumPending, c.NumAckPending))
			}
		}
		if err := consumers.Err(); err != nil {
			return "", err
		}
	}
	return strings.Join(waiting, ", "), names.Err()
}

// Evidence gathers what the auditor needs. The pipeline should be idle.
func (s *Stack) Evidence() (audit.Input, error) {
	files, departures, slow := s.In.Record()
	left, err1 := s.In.Names()
	final, err2 := s.Sim.Users(s.ctx)
	calls, err3 := sim.ReadCallLog(s.Path(callLog))
	done, err4 := kept(s.Path(doneDir), false)
	failed, err5 := kept(s.Path(failedDir), true)
	s.mu.Lock()
	defer s.mu.Unlock()
	in := audit.Input{
		Rules: s.rules(), Users: s.users(), Files: files, Departures: departures, Kept: append(done, failed...), Left: left,
		Calls: calls, Final: final, Started: s.started, Ended: time.Now(), MappingLost: slices.Clone(s.lost),
		Loose: s.In.looseIDs(), Frozen: slices.Clone(s.frozen), Halted: slices.Clone(s.halted), Calm: s.calm, Forgotten: slices.Clone(s.forgotten),
	}
	s.orders.evidence(&in)
	return in, errors.Join(slow, err1, err2, err3, err4, err5)
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
