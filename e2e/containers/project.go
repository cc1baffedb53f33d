//go:build linux

package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/boborow"
	"bobosync/shared/bustest/freeport"
	"bobosync/shared/pause"
)

// The settings of the containers, which the auditor gets as well.
const (
	settleTime  = 250 * time.Millisecond
	callTimeout = 2 * time.Second
	rateLimit   = 8
	// jitter is what a busy machine and the containers' network may add to the arrival of a call.
	jitter = 500 * time.Millisecond
	// quiet is how long AtHoc must not be called before the pipeline counts as idle: a call that was given up is
	// followed by another after twice the longest time that a call may take.
	quiet = 2*callTimeout + 4*time.Second
)

// Config says what to run.
type Config struct {
	Engine *Engine
	// Dir is an empty directory, Root the root of the source tree.
	Dir, Root string
	// Compose is the command that runs compose files, such as ["docker", "compose"].
	Compose []string
	// Version is the tag of the images.
	Version string
	// Files are compose files to use in addition to deploy/compose.yaml, relative to Root.
	Files []string
	Plan  workload.Plan
}

// Project is the pipeline in containers.
type Project struct {
	Sim *harness.Simulator
	In  *harness.Folder

	cfg     Config
	name    string
	env     []string
	unwatch func()
	started time.Time
	lost    []audit.Window
}

// probe is the worker with whose bookings the test checks that the pipeline works from end to end.
var probe = workload.Worker{Employee: "90909", Login: "probe@example.org"}

// Start makes keys and certificates, brings all containers up and waits until a booking gets through. The caller must
// call Close, even after an error.
func Start(ctx context.Context, cfg Config) (*Project, error) {
	p := &Project{cfg: cfg, name: "bobosync-test-" + strings.ToLower(filepath.Base(cfg.Dir)), unwatch: func() {}}
	// AtHoc refuses no user and loses none: the faults here are those of containers.
	p.cfg.Plan.Workers = append(slices.Clone(cfg.Plan.Workers), probe)
	for i, w := range p.cfg.Plan.Workers {
		if w.Role == workload.Forbidden || w.Role == workload.Removed {
			p.cfg.Plan.Workers[i].Role = workload.Plain
		}
	}

	if err := p.prepare(ctx); err != nil {
		return p, err
	}

	p.In, p.unwatch = harness.WatchFolder(p.path("files", "in"), p.path("files"), settleTime)
	p.started = time.Now()
	p.lost = []audit.Window{{From: p.started}}
	if _, err := p.Compose(ctx, "up", "--detach"); err != nil {
		return p, err
	}

	err := p.ready(ctx)
	p.lost[0].To = time.Now()

	return p, err
}

func (p *Project) path(parts ...string) string {
	return filepath.Join(append([]string{p.cfg.Dir}, parts...)...)
}

// prepare writes everything that compose.yaml needs.
func (p *Project) prepare(ctx context.Context) error {
	// The programs run as a different user, who must be able to write here.
	for _, dir := range []string{"files/in", "files/processed", "files/failed", "sim", "secrets"} {
		if err := os.MkdirAll(p.path(dir), 0o777); err != nil {
			return fmt.Errorf("make the directories of the test: %w", err)
		}

		if err := os.Chmod(p.path(dir), 0o777); err != nil {
			return fmt.Errorf("open the directories of the test: %w", err)
		}
	}

	port, err := freeport.Find()
	if err != nil {
		return err
	}

	p.Sim = harness.NewSimulator(fmt.Sprintf("127.0.0.1:%d", port))

	users, err := json.Marshal(p.simUsers())
	if err != nil {
		return err
	}

	for name, content := range map[string]string{
		"secrets/client_secret": "a-client's-secret", "secrets/password": "a-password$with#signs", "sim/users.json": string(users),
		"settings.env": p.settings(),
	} {
		if err := os.WriteFile(p.path(name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write what the containers read: %w", err)
		}
	}

	p.env = append(slices.Clone(p.cfg.Engine.env), "BOBOSYNC_VERSION="+p.cfg.Version, "BOBOSYNC_ENV="+p.path("settings.env"),
		"BOBOSYNC_FILES="+p.path("files"), "BOBOSYNC_SECRETS="+p.path("secrets"), "NATS_KEYS="+p.path("nats", "keys.conf"), "NATS_ACCOUNTS="+p.path("nats", "accounts.conf"),
		"TEST_SIM_DIRECTORY="+p.path("sim"), fmt.Sprint("ATHOCSIM_PORT=", port), "PUBLISHER_STOP_TIME=10s")

	return p.keys(ctx)
}

// keys makes keys, certificates and permissions, and leaves existing ones alone.
func (p *Project) keys(ctx context.Context) error { return p.make(ctx, "secrets", "nats-conf") }

// make runs a target of the Makefile that has to do with keys.
func (p *Project) make(ctx context.Context, args ...string) error {
	_, err := p.cfg.Engine.run(ctx, "make", append([]string{"-C", p.cfg.Root, "NATS_OUT=" + p.path("nats"), "SECRETS=" + p.path("secrets")}, args...)...)
	return err
}

// settings returns the settings of the services; compose.yaml adds its own.
func (p *Project) settings() string {
	settings := map[string]string{
		"BOBO_TIMEZONE": harness.BoboZone, "ATHOC_TIMEZONE": harness.AtHocZone, "ATHOC_SERVER_URL": "http://athocsim:8480", "ATHOC_ALLOW_HTTP": "true",
		"CLIENT_ID": "test-client", "APIUSER": "test-operator", "ORG_CODE": "TEST", "POLL_INTERVAL": "500ms", "SETTLE_TIME": settleTime.String(),
		"ATHOC_TIMEOUT": callTimeout.String(), "ATHOC_RATE_LIMIT": fmt.Sprint(rateLimit), "BATCH_SIZE": "4", "BATCH_WAIT": "30ms",
		"AUTO_CLEANUP_HOURS": fmt.Sprint(int(harness.Lifetime.Hours())), "LOG_LEVEL": "DEBUG", "ENTRIES_MAX_BYTES": fmt.Sprint(64 << 20),
	}

	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", k, settings[k])
	}

	return text.String()
}

// Compose runs the compose command on the project.
func (p *Project) Compose(ctx context.Context, args ...string) (string, error) {
	all := append(slices.Clone(p.cfg.Compose[1:]), "--project-name", p.name, "--env-file", p.path("settings.env"), "--progress", "quiet",
		"-f", filepath.Join(p.cfg.Root, "deploy", "compose.yaml"))
	for _, f := range p.cfg.Files {
		all = append(all, "-f", filepath.Join(p.cfg.Root, f))
	}

	e := Engine{env: p.env}

	return e.run(ctx, p.cfg.Compose[0], append(all, args...)...)
}

// Containers returns the ids of the containers of some services, or of all.
func (p *Project) Containers(ctx context.Context, services ...string) ([]string, error) {
	ids, err := p.Compose(ctx, append([]string{"ps", "--quiet"}, services...)...)
	return strings.Fields(ids), err
}

// Kill ends a service's containers at once, and waits until the engine has started them again. It kills the process
// and not the container, because the engine does not restart a container that an operator ends.
func (p *Project) Kill(ctx context.Context, service string) error {
	ids, err := p.Containers(ctx, service)
	if err == nil && len(ids) == 0 {
		err = errors.New("it does not run")
	}

	for _, id := range ids {
		if err == nil {
			err = p.killOne(ctx, id)
		}
	}

	if err != nil {
		return fmt.Errorf("kill %s: %w", service, err)
	}

	return nil
}

type state struct {
	Path  string
	State struct {
		Pid     int
		Running bool
		Health  *struct{ Status string }
	}
	RestartCount int
}

func (p *Project) inspect(ctx context.Context, id string) (state, error) {
	var s state

	text, err := p.cfg.Engine.Docker(ctx, "inspect", "--format", "{{json .}}", id)
	if err != nil {
		return s, err
	}

	return s, json.Unmarshal([]byte(text), &s)
}

func (p *Project) killOne(ctx context.Context, id string) error {
	before, err := p.inspect(ctx, id)
	if err != nil {
		return err
	}

	// The engine may run in a machine of its own, where this number belongs to another process.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", before.State.Pid))
	if err == nil && strings.HasPrefix(string(cmdline), before.Path+"\x00") && syscall.Kill(before.State.Pid, syscall.SIGKILL) == nil {
		return eventually(ctx, time.Minute, "the container is started again", func() (bool, error) {
			now, err := p.inspect(ctx, id)
			return err == nil && now.State.Running && now.RestartCount > before.RestartCount, err
		})
	}

	if _, err := p.cfg.Engine.Docker(ctx, "kill", id); err != nil {
		return err
	}

	_, err = p.cfg.Engine.Docker(ctx, "start", id)

	return err
}

// Cut disconnects a service's containers from a network, waits, and connects them again.
func (p *Project) Cut(ctx context.Context, service, network string, for_ time.Duration) error {
	ids, err := p.Containers(ctx, service)
	if err != nil {
		return err
	}

	for _, id := range ids {
		if _, err := p.cfg.Engine.Docker(ctx, "network", "disconnect", p.name+"_"+network, id); err != nil {
			return err
		}
	}

	_ = pause.For(ctx, for_)
	for _, id := range ids {
		if _, err := p.cfg.Engine.Docker(ctx, "network", "connect", "--alias", service, p.name+"_"+network, id); err != nil {
			return err
		}
	}

	return nil
}

// LoseStore ends a broker, deletes its volume, and brings it up again.
func (p *Project) LoseStore(ctx context.Context, service, volume string) error {
	if _, err := p.Compose(ctx, "rm", "--stop", "--force", service); err != nil {
		return err
	}

	if _, err := p.cfg.Engine.Docker(ctx, "volume", "rm", p.name+"_"+volume); err != nil {
		return err
	}

	_, err := p.Compose(ctx, "up", "--detach", "--no-recreate")

	return err
}

// Scale sets how many containers a service has.
func (p *Project) Scale(ctx context.Context, service string, n int) error {
	_, err := p.Compose(ctx, "up", "--detach", "--no-recreate", "--no-deps", "--scale", fmt.Sprintf("%s=%d", service, n), service)
	return err
}

// DropAll drops each file at its time.
func (p *Project) DropAll(ctx context.Context, files []workload.File) error {
	begin := time.Now()
	for _, f := range files {
		_ = pause.For(ctx, f.At-time.Since(begin))
		if err := p.In.Drop(f); err != nil {
			return err
		}
	}

	return ctx.Err()
}

// readyWithin is how long it may take until everything works.
const readyWithin = 90 * time.Second

// ready drops a booking and waits until it shows in AtHoc.
func (p *Project) ready(ctx context.Context) error {
	bobo, athoc := zones()
	at := p.started.Add(-time.Hour)
	if err := p.In.Drop(workload.File{Name: "probe.csv", Content: []byte(boborow.New(true, probe.Employee, at.In(bobo)).String())}); err != nil {
		return err
	}

	return eventually(ctx, readyWithin, "a booking shows in AtHoc", func() (bool, error) {
		value, err := p.Sim.Value(ctx, probe.Login, sim.DefaultDutyAttribute)
		return value == at.In(athoc).Format(sim.DateLayout), err
	})
}

// Idle waits until the input directory is empty and AtHoc has not been called for a while.
func (p *Project) Idle(ctx context.Context, within time.Duration) error {
	calls, since := -1, time.Now()

	return eventually(ctx, within, "the input directory is empty and AtHoc is not called", func() (bool, error) {
		names, err := p.In.Names()
		if err != nil {
			return false, err
		}

		st, err := p.Sim.Stats(ctx)
		if err != nil {
			return false, err
		}

		if n := st.Endpoints[sim.EndpointUpdate].Calls; n != calls || len(names) > 0 || st.InFlight > 0 {
			calls, since = n, time.Now()
			return false, fmt.Errorf("%d files in the input directory, %d calls so far", len(names), n)
		}

		return time.Since(since) >= quiet, nil
	})
}

// AwaitCalls waits until AtHoc has received more than the given number of updates.
func (p *Project) AwaitCalls(ctx context.Context, more int, within time.Duration) error {
	return eventually(ctx, within, "AtHoc is called", func() (bool, error) {
		n, err := p.Calls(ctx)
		return n > more, err
	})
}

// Calls returns the number of update calls that AtHoc has received.
func (p *Project) Calls(ctx context.Context) (int, error) {
	st, err := p.Sim.Stats(ctx)
	return st.Endpoints[sim.EndpointUpdate].Calls, err
}

// Healthy waits until every container that has a health check is healthy.
func (p *Project) Healthy(ctx context.Context, within time.Duration) error {
	return eventually(ctx, within, "all containers are healthy", func() (bool, error) {
		ids, err := p.Containers(ctx)
		if err != nil {
			return false, err
		}

		for _, id := range ids {
			s, err := p.inspect(ctx, id)
			if err != nil || s.State.Health != nil && s.State.Health.Status != "healthy" {
				return false, fmt.Errorf("%s is not healthy: %w", s.Path, err)
			}
		}

		return len(ids) > 0, nil
	})
}

// Judge lets the auditor judge what has happened so far.
func (p *Project) Judge(ctx context.Context) (audit.Report, error) {
	files, departures, slow := p.In.Record()
	left, err1 := p.In.Names()
	final, err2 := p.Sim.Users(ctx)
	calls, err3 := sim.ReadCallLog(p.path("sim", "calls.jsonl"))
	done, err4 := harness.Kept(p.path("files", "processed"), false)
	failed, err5 := harness.Kept(p.path("files", "failed"), true)
	bobo, athoc := zones()
	report := audit.Audit(audit.Input{
		Rules: audit.Rules{
			BoboZone: bobo, AtHocZone: athoc, Lifetime: harness.Lifetime, MaxSkew: 15 * time.Minute, Duty: sim.DefaultDutyAttribute,
			Rate: rateLimit, Burst: 1, Jitter: jitter, CallTimeout: callTimeout,
		},
		Users: p.users(athoc), Files: files, Departures: departures, Kept: append(done, failed...), Left: left,
		Calls: calls, Final: final, Started: p.started, Ended: time.Now(), MappingLost: p.lost,
	})

	return report, errors.Join(slow, err1, err2, err3, err4, err5)
}

// users returns AtHoc's users at the start.
func (p *Project) users(zone *time.Location) []audit.User {
	var users []audit.User
	for _, w := range p.cfg.Plan.Workers {
		if w.Login == "" {
			continue
		}

		u := audit.User{Login: w.Login, Collar: w.Employee, Attributes: map[string]string{sim.DefaultCollar: w.Employee}}
		if !w.Duty.IsZero() {
			u.Attributes[sim.DefaultDutyAttribute] = w.Duty.In(zone).Format(sim.DateLayout)
		}

		users = append(users, u)
	}

	return users
}

func (p *Project) simUsers() []map[string]string {
	_, athoc := zones()
	var users []map[string]string
	for _, u := range p.users(athoc) {
		attributes := maps.Clone(u.Attributes)
		attributes[sim.LoginID] = u.Login
		users = append(users, attributes)
	}

	return users
}

// Close writes the containers' logs into the directory and takes everything down.
func (p *Project) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	p.unwatch()

	if p.env == nil {
		return nil
	}

	log, _ := p.Compose(ctx, "logs", "--no-color", "--timestamps") // without the log the test explains less, but judges the same
	_ = os.WriteFile(p.path("containers.log"), []byte(log), 0o600)
	_, err := p.Compose(ctx, "down", "--volumes", "--remove-orphans")

	return err
}

func zones() (bobo, athoc *time.Location) {
	bobo, err1 := time.LoadLocation(harness.BoboZone)
	athoc, err2 := time.LoadLocation(harness.AtHocZone)
	if err := errors.Join(err1, err2); err != nil {
		panic(fmt.Sprintf("the machine has no time zones: %v", err))
	}

	return bobo, athoc
}

// eventually polls until a condition holds.
func eventually(ctx context.Context, within time.Duration, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()

	tick := time.NewTicker(lookAgain)
	defer tick.Stop()

	for {
		ok, err := holds()
		if ok {
			return nil
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s it does not hold that %s: %w", within, what, err)
		case <-tick.C:
		}
	}
}
