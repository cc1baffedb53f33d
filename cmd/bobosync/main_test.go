package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/natsext"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// asProgram is the variable that makes the test's binary run as the program itself, so that the program under test is
// built as the test is.
const asProgram = "BOBOSYNC_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}

	os.Exit(m.Run())
}

const timeout = time.Minute

// site is a directory with everything of one installation, and the simulated AtHoc that the installation writes to.
type site struct {
	t     *testing.T
	root  string
	athoc *sim.Simulator
	vars  map[string]string
}

// newSite returns an installation whose AtHoc has the given number of users, for a test that runs in parallel with
// others.
func newSite(t *testing.T, users int) *site {
	t.Helper()

	if testing.Short() {
		t.Skip("runs the whole program, and takes seconds")
	}

	t.Parallel()

	athoc, err := sim.New(sim.Options{Users: sim.GenerateUsers(users, sim.DefaultCollar)})
	if err != nil {
		t.Fatal(err)
	}

	if err := athoc.Start(context.Background(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = athoc.Close() }) // its error no longer matters

	s := &site{t: t, root: t.TempDir(), athoc: athoc}
	if err := os.Mkdir(s.path("in"), 0o700); err != nil {
		t.Fatal(err)
	}

	s.vars = map[string]string{
		"CSV_DIRECTORY": s.path("in"), "PROCESSED_DIRECTORY": s.path("done"), "FAILED_FILES_DIRECTORY": s.path("failed"),
		"DATA_DIRECTORY": s.path("data"), "POLL_INTERVAL": "100ms", "SETTLE_TIME": "50ms", "BATCH_WAIT": "10ms",
		"ATHOC_RATE_LIMIT": "1000", "ATHOC_TIMEOUT": "5s", "BOBO_TIMEZONE": "UTC", "ATHOC_TIMEZONE": "UTC", "LOG_FORMAT": "json",
	}
	for _, f := range athoc.Env() {
		s.vars[f.Name] = f.Value
	}

	return s
}

func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// command returns a call of the program with only the site's settings.
func (s *site) command(args ...string) *exec.Cmd { return command(s.t, s.root, s.vars, args...) }

func command(t *testing.T, dir string, vars map[string]string, args ...string) *exec.Cmd {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), 5*timeout)
	t.Cleanup(cancel)

	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = []string{asProgram + "=yes", "HOME=" + dir, "GOCOVERDIR=" + dir, "GORACE=atexit_sleep_ms=0"}
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}

	return cmd
}

// start runs everything until the returned function is called, or until the end of the test.
func (s *site) start() (stop func()) {
	s.t.Helper()
	_ = os.Remove(s.path("data", client.AddressFile)) // of the previous run
	cmd := s.command("run")
	var log bytes.Buffer

	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	stopped := false
	stop = func() {
		s.t.Helper()

		if stopped {
			return
		}

		stopped = true

		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			s.t.Errorf("stop bobosync run: %v", err)
		}

		if err := <-ended; err != nil {
			s.t.Errorf("bobosync run ended with %v, a stop is no failure", err)
		}

		if s.t.Failed() {
			s.t.Logf("log of bobosync run:\n%s", &log)
		}
	}
	s.t.Cleanup(stop)
	s.until("the broker can be found", func() bool { return s.vars["NATS_URL"] != "" || exists(s.path("data", client.AddressFile)) })

	conn := s.broker()
	defer conn.Close()

	s.until("the services serve operators", func() bool {
		for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor} {
			if !s.serves(conn, service) {
				return false
			}
		}

		return true
	})

	return stop
}

// serves reports whether a service answers everything that it can be asked. The check is the endpoint that each
// service offers last. The janitor offers it when it leads, and its state before that.
func (s *site) serves(conn *bus.Conn, service topology.Service) bool {
	s.t.Helper()

	answers, err := natsext.RequestMany(s.t.Context(), conn.NC, "$SRV.INFO.bobosync-"+string(service), nil, natsext.RequestManyStall(time.Second))
	if err != nil {
		return false
	}

	for m, err := range answers {
		var info micro.Info
		if err != nil || json.Unmarshal(m.Data, &info) != nil {
			return false
		}

		if slices.ContainsFunc(info.Endpoints, func(e micro.EndpointInfo) bool { return e.Name == control.Check }) {
			return true
		}
	}

	return false
}

// until polls until a condition holds.
func (s *site) until(what string, holds func() bool) {
	s.t.Helper()

	deadline := time.NewTimer(timeout)

	defer deadline.Stop()

	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()

	for !holds() {
		select {
		case <-deadline.C:
			s.t.Fatalf("in vain waited until %s", what)
		case <-look.C:
		}
	}
}

// call runs one command, and returns its standard output, its standard error and its exit status.
func (s *site) call(args ...string) (out, text string, status int) {
	s.t.Helper()
	return call(s.t, s.command(args...))
}

func call(t *testing.T, cmd *exec.Cmd) (out, text string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}

	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// succeeds runs a command that must exit with 0.
func (s *site) succeeds(args ...string) (out string) {
	s.t.Helper()

	out, text, status := s.call(args...)
	if status != 0 || text != "" {
		s.t.Fatalf("bobosync %s ended with %d: %s", strings.Join(args, " "), status, text)
	}

	return out
}

// fails runs a command that must exit with this status and print this text.
func (s *site) fails(status int, says string, args ...string) {
	s.t.Helper()

	out, text, got := s.call(args...)
	if got != status || !strings.Contains(text+out, says) {
		s.t.Errorf("bobosync %s ended with %d, wanted %d and %q: %s%s", strings.Join(args, " "), got, status, says, out, text)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// booking returns a row of an export: this worker booked on or off some minutes ago.
func booking(worker, minutesAgo int, on bool) string {
	at, kind := time.Now().UTC().Add(-time.Duration(minutesAgo)*time.Minute), "BOF"
	if on {
		kind = "BON"
	}

	return fmt.Sprintf("%s,%05d,PAY,%s,%s,%s,1,2,3,4\n", kind, worker, at.Format("20060102"), at.Format("150405"), at.Format("20060102150405"))
}

func (s *site) drop(name string, rows ...string) {
	s.t.Helper()

	if err := os.WriteFile(s.path("in", name), []byte(strings.Join(rows, "")), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) arrives(directory, name string) {
	s.t.Helper()
	s.until(name+" lies in "+directory, func() bool { return exists(s.path(directory, name)) && !exists(s.path("in", name)) })
}

// onDuty returns what AtHoc shows: the value of each user who is on duty.
func (s *site) onDuty() map[string]string {
	on := map[string]string{}
	for user, value := range s.athoc.DutyState() {
		if value != "" {
			on[user] = value
		}
	}

	return on
}

func username(worker int) string { return fmt.Sprintf("w%05d@example.org", worker) }

// open makes everything use a broker without access control, instead of the embedded one.
func (s *site) open() { s.vars["NATS_URL"] = bustest.Start(s.t).ClientURL() }

// broker connects to the broker, as the operators' commands do.
func (s *site) broker() *bus.Conn {
	s.t.Helper()

	address := s.vars["NATS_URL"]
	if address == "" {
		content, err := os.ReadFile(s.path("data", client.AddressFile))
		if err != nil {
			s.t.Fatal(err)
		}

		address = strings.TrimSpace(string(content))
	}

	conn, err := bus.Connect(s.t.Context(), bus.Config{URL: address, Logger: bustest.Logger()})
	if err != nil {
		s.t.Fatal(err)
	}

	s.t.Cleanup(conn.Close)

	return conn
}

func TestSettingsErrorsAreToldAllAtOnce(t *testing.T) {
	_, text, status := call(t, command(t, t.TempDir(), map[string]string{
		"STREAM_REPLICAS": "9", "BATCH_SIZE": "0", "LOG_LEVEL": "LOUD", "ATHOC_RATE_LIMIT": "-1", "SYNC_HOUR": "25",
	}, "run"))
	if status != 2 {
		t.Errorf("status %d", status)
	}

	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, name := range []string{
		"ATHOC_SERVER_URL", "CLIENT_ID", "CLIENT_SECRET", "APIUSER", "PASSWORD", "ORG_CODE", "CSV_DIRECTORY", "STREAM_REPLICAS",
		"BATCH_SIZE", "LOG_LEVEL", "ATHOC_RATE_LIMIT", "SYNC_HOUR",
	} {
		times := 0
		for _, line := range lines {
			if strings.HasPrefix(strings.TrimSpace(line), name) {
				times++
			}
		}

		if times != 1 {
			t.Errorf("%s is named %d times", name, times)
		}
	}

	if t.Failed() {
		t.Log(text)
	}
}

func TestAValueThatIsNoNumberIsNamed(t *testing.T) {
	_, text, status := call(t, command(t, t.TempDir(), map[string]string{"BATCH_SIZE": "many"}, "run"))
	if status != 2 || !strings.Contains(text, "BATCH_SIZE") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestNoBrokerToAsk(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"replay", "list"}, {"replay", "--all"}, {"replay", "stop", "0195d3"}, {"dead", "list"}, {"dead", "show", "1"}} {
		_, text, status := call(t, command(t, dir, map[string]string{"DATA_DIRECTORY": dir}, args...))
		if status != 1 || !strings.Contains(text, "NATS_URL is not set") {
			t.Errorf("%v: status %d: %s", args, status, text)
		}
	}

	_, text, status := call(t, command(t, dir, map[string]string{"STREAM_REPLICAS": "0"}, "dead", "list"))
	if status != 2 || !strings.Contains(text, "STREAM_REPLICAS") {
		t.Errorf("bad settings: status %d: %s", status, text)
	}
}

func TestABrokerThatIsGone(t *testing.T) {
	if testing.Short() {
		t.Skip("tries for seconds")
	}

	dir := t.TempDir()
	if err := client.WriteAddress(dir, "nats://"+bustest.FreeAddr(t), "hunter2"); err != nil {
		t.Fatal(err)
	}

	_, text, status := call(t, command(t, dir, map[string]string{"DATA_DIRECTORY": dir}, "dead", "list"))
	if status != 1 || !strings.Contains(text, "cannot be reached: is bobosync running") || strings.Contains(text, "hunter2") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestWrongUse(t *testing.T) {
	for says, args := range map[string][]string{
		"at least one of the flags":       {"replay"},
		"none of the others can be":       {"replay", "--all", "--worker", "1"},
		"[json watch]":                    {"replay", "--all", "--json", "--watch"},
		"unknown command \"sned\"":        {"sned"},
		"accepts 1 arg(s), received 0":    {"replay", "stop"},
		"unknown flag: --everyone":        {"dead", "drop", "--everyone"},
		"accepts 1 arg(s), received 2":    {"dead", "show", "1", "2"},
		"unknown command \"all\" for \"b": {"replay", "all"},
	} {
		out, text, status := call(t, command(t, t.TempDir(), nil, args...))
		if status == 0 || !strings.Contains(text, says) {
			t.Errorf("bobosync %s: status %d, wanted %q: %s%s", strings.Join(args, " "), status, says, out, text)
		}
	}
}

// TestTheBrokerInsideIsNotOpen checks that only someone who can read the data directory may give orders.
func TestTheBrokerInsideIsNotOpen(t *testing.T) {
	s := newSite(t, 1)
	s.start()
	path := s.path("data", client.AddressFile)

	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	address, err := url.Parse(strings.TrimSpace(string(content)))
	if err != nil || address.User.Username() == "" {
		t.Fatalf("no token in the address, error %v", err)
	}

	if address.Hostname() != "127.0.0.1" {
		t.Errorf("the broker listens on %s", address.Hostname())
	}

	for name, user := range map[string]*url.Userinfo{"none": nil, "wrong": url.User("wrong")} {
		other := *address
		other.User = user

		conn, err := bus.Connect(t.Context(), bus.Config{URL: other.String(), Logger: bustest.Logger()})
		if err == nil {
			conn.Close()
			t.Errorf("token %s: connected", name)
		} else if !strings.Contains(strings.ToLower(err.Error()), "authorization") {
			t.Errorf("token %s: %v", name, err)
		}
	}

	if _, err := s.broker().JS.Publish(t.Context(), topology.UpdatesSubject("john"), []byte("{}")); err == nil {
		t.Error("who comes over the port has published an update")
	}

	s.vars["NATS_URL"] = "nats://wrong@" + address.Host
	s.fails(1, "uthorization", "replay", "list")
}
