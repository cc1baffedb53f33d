package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/config"
	"bobosync/shared/logging"
	"bobosync/shared/login"
)

// The bounds of the options.
const (
	minWorkers = 30
	maxWorkers = 20_000
	minFiles   = 15
	maxFiles   = 5_000
)

const (
	// startTimeout is how long the services may take to start and ask AtHoc for its users.
	startTimeout = 30 * time.Second
	// stopTimeout is how long the services may take to end.
	stopTimeout = 30 * time.Second
	// confirmTimeout is how long after the last drop the demo waits for all files to be confirmed.
	confirmTimeout = 60 * time.Second
	// drawInterval is the time between two draws of the progress.
	drawInterval = 100 * time.Millisecond
	// tailLines is how many lines of the log are shown after a failure.
	tailLines = 15
)

// errWrong means that the demo ran to its end, but the end state is wrong.
var errWrong = errors.New("the end state is not the right one")

// options say what the demo shows, and how.
type options struct {
	// Workers and Files are the numbers of workers and files; see minWorkers and the other bounds.
	Workers, Files int
	// Seed makes the plan repeatable: the same seed gives the same workers and files, but their times depend on the
	// clock.
	Seed uint64
	// Keep means that the temporary directory is not removed.
	Keep bool
	// Verbose copies the services' log to Err, instead of the live view.
	Verbose bool
	// Out gets the progress and the result: a live view on a terminal, lines elsewhere. Err gets the log if Verbose is
	// set, and its end after a failure.
	Out, Err io.Writer
	// Serve runs all services with the given settings until ctx ends, and returns when all of them have ended.
	Serve func(ctx context.Context, vars map[string]string, log *slog.Logger) error

	// Span is the time over which the files are dropped (0 means 18 s). Outage is how long AtHoc fails meanwhile (0
	// means 4 s).
	Span, Outage time.Duration
}

// The durations that 0 means.
const (
	defaultSpan   = 18 * time.Second
	defaultOutage = 4 * time.Second
)

// Validate reports options that the demo cannot work with.
func (o *options) Validate() error {
	var errs []error
	if o.Workers < minWorkers || o.Workers > maxWorkers {
		errs = append(errs, fmt.Errorf("--workers: must be from %d to %d", minWorkers, maxWorkers))
	}

	if o.Files < minFiles || o.Files > maxFiles {
		errs = append(errs, fmt.Errorf("--files: must be from %d to %d", minFiles, maxFiles))
	}

	return errors.Join(errs...)
}

// demo is one run. Everything but the tally is used by one goroutine only.
type demo struct {
	opts   options
	plan   plan
	dirs   directories
	screen *screen
	log    *slog.Logger
	sim    *sim.Simulator
	tally  *tally
	watch  *watch
	judge  *judge
	outage *outage // nil except during AtHoc's outage
}

// play shows the demo. It returns nil if the end state is right, errWrong if it is not, the context's error if ctx
// ended before the end, and otherwise whatever went wrong. It leaves nothing behind, unless options.Keep is set or it
// failed: then the directory, whose path it prints, holds the files and the log.
func play(ctx context.Context, o options) (err error) {
	if err := o.Validate(); err != nil {
		return err
	}

	o.Span, o.Outage = cmp.Or(o.Span, defaultSpan), cmp.Or(o.Outage, defaultOutage)

	d := &demo{opts: o, screen: newScreen(o.Out, !o.Verbose), tally: &tally{}}
	if d.dirs, err = newDirectories(); err != nil {
		return err
	}

	// The caller's context decides whether this is an interruption: contexts made in here end for other reasons, too.
	defer func() { err = errors.Join(err, d.cleanUp(err, ctx.Err() != nil)) }()
	defer d.screen.close()

	logFile, err := os.OpenFile(d.dirs.log(), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	defer logFile.Close()

	if d.log, err = o.logger(logFile); err != nil {
		return err
	}

	return d.run(ctx)
}

// logger returns a logger that writes to the file, and also to Err if Verbose is set.
func (o *options) logger(file io.Writer) (*slog.Logger, error) {
	if o.Verbose {
		file = io.MultiWriter(file, o.Err)
	}

	log, _, err := logging.New(file, "bobosync", config.Log{Level: "INFO", Format: "text"})

	return log, err
}

func (d *demo) run(ctx context.Context) (err error) {
	now := time.Now()

	d.plan = newPlan(planOptions{
		seed: d.opts.Seed, now: now, workers: d.opts.Workers, files: d.opts.Files, span: d.opts.Span, outage: d.opts.Outage,
	})
	d.judge = newJudge(now)
	if err := d.startAtHoc(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.sim.Close()) }()

	services, err := d.startServices(ctx)
	if err != nil {
		return err
	}
	defer services.cancel()

	if err := d.openConsole(ctx, services); err != nil {
		return errors.Join(err, d.stop(services))
	}

	d.say("all services start, with a broker and a simulated AtHoc of %s users", thousands(d.sim.Stats().Users))

	began, err := d.perform(ctx, services)
	if err != nil {
		return errors.Join(err, d.stop(services))
	}

	took := time.Since(began)

	if err := d.stop(services); err != nil {
		return err
	}

	r, err := d.report(ctx)
	if err != nil {
		return err
	}

	r.took = took
	d.screen.print(r.lines(d.screen.color)...)

	if !r.right() {
		return errWrong
	}

	return nil
}

// startAtHoc starts the simulator with the plan's users.
func (d *demo) startAtHoc(ctx context.Context) (err error) {
	d.sim, err = sim.New(sim.Options{
		Users: d.plan.users(), Seed: d.opts.Seed, OnCall: d.tally.note,
		Settings: sim.Settings{
			Latency:  sim.Latency{Fixed: sim.Duration(30 * time.Millisecond), PerUser: sim.Duration(50 * time.Microsecond), Jitter: sim.Duration(20 * time.Millisecond)},
			EchoCase: "random",
		},
	})
	if err != nil {
		return fmt.Errorf("make the simulated AtHoc: %w", err)
	}

	// The simulator must outlive the services, which may still have a call under way when ctx ends. Close ends it.
	if err := d.sim.Start(context.WithoutCancel(ctx), "127.0.0.1:0"); err != nil {
		return errors.Join(fmt.Errorf("start the simulated AtHoc: %w", err), d.sim.Close())
	}

	return nil
}

// services represents the running services.
type services struct {
	cancel context.CancelFunc
	// ended is closed when all services have ended; err is set before that.
	ended chan struct{}
	err   error
}

func (d *demo) startServices(ctx context.Context) (*services, error) {
	vars := d.dirs.settings(d.sim)

	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err == nil {
		vars["CONSOLE_ADDR"] = free.Addr().String()
		err = free.Close()
	}

	if err != nil {
		return nil, fmt.Errorf("find a port for the console: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	s := &services{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)

		s.err = d.opts.Serve(ctx, vars, d.log)
	}()

	return s, nil
}

// openConsole shows a link to the console as soon as the console is there.
func (d *demo) openConsole(ctx context.Context, s *services) error {
	ticker := time.NewTicker(drawInterval)
	defer ticker.Stop()

	for began := time.Now(); ; {
		link, err := login.NewLink(d.dirs.data(), "the demo's visitor", time.Now())
		if err == nil {
			d.say("look at it in a browser, within a minute: %s", link)
			return nil
		}

		if time.Since(began) > startTimeout {
			return err
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return s.failed()
		case <-ticker.C:
		}
	}
}

// failed returns the error for services that ended too early.
func (s *services) failed() error {
	if s.err != nil {
		return fmt.Errorf("the services ended too early: %w", s.err)
	}
	return errors.New("the services ended too early")
}

// stop ends the services and waits for them.
func (d *demo) stop(s *services) error {
	s.cancel()

	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()

	select {
	case <-s.ended:
	case <-timer.C:
		return fmt.Errorf("the services have not ended %s after they were told to", stopTimeout)
	}

	if s.err != nil && !errors.Is(s.err, context.Canceled) {
		return fmt.Errorf("stop the services: %w", s.err)
	}

	return nil
}

// cleanUp removes the directory, or says where it is if it is kept. After a failure it shows the end of the log.
func (d *demo) cleanUp(err error, interrupted bool) error {
	failed := err != nil && !interrupted
	if failed {
		if tail := lastLines(d.dirs.log(), tailLines); tail != "" {
			fmt.Fprintf(d.opts.Err, "\nThe log ends with:\n%s", tail)
		}

		fmt.Fprintf(d.opts.Err, "\nThe whole log is %s\n", d.dirs.log())
	}

	if d.opts.Keep || failed {
		fmt.Fprintf(d.opts.Out, "\nFiles, ledgers and log are kept in %s\n", d.dirs.home)
		return nil
	}

	if err := os.RemoveAll(d.dirs.home); err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}

	return nil
}

// directories gives the paths below the demo's directory.
type directories struct{ home string }

func newDirectories() (directories, error) {
	home, err := os.MkdirTemp("", "bobosync-demo-")
	if err != nil {
		return directories{}, fmt.Errorf("make a temporary directory: %w", err)
	}

	p := directories{home}
	for _, dir := range []string{p.input(), p.staging(), p.data()} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			return p, errors.Join(fmt.Errorf("make the demo's directories: %w", err), os.RemoveAll(home))
		}
	}

	return p, nil
}

func (p directories) input() string     { return filepath.Join(p.home, "bobo") }
func (p directories) staging() string   { return filepath.Join(p.home, "staging") }
func (p directories) processed() string { return filepath.Join(p.home, "processed") }
func (p directories) failed() string    { return filepath.Join(p.home, "failed") }
func (p directories) data() string      { return filepath.Join(p.home, "data") }
func (p directories) log() string       { return filepath.Join(p.home, "bobosync.log") }

// settings returns the settings of all services. None is taken from the environment, which may be that of a real
// installation.
func (p directories) settings(s *sim.Simulator) map[string]string {
	vars := map[string]string{
		"CSV_DIRECTORY": p.input(), "PROCESSED_DIRECTORY": p.processed(), "FAILED_FILES_DIRECTORY": p.failed(),
		"DATA_DIRECTORY": p.data(),
		"SETTLE_TIME":    "300ms", "POLL_INTERVAL": "1s",
		"ATHOC_RATE_LIMIT": "20",
		// These clocks never jump: a repeated hour would allow two right end states.
		"BOBO_TIMEZONE": "UTC", "ATHOC_TIMEZONE": "UTC",
		"AUTO_CLEANUP_HOURS": fmt.Sprint(int(lifetime.Hours())),
	}
	for _, f := range s.Env() {
		vars[f.Name] = f.Value
	}

	return vars
}
