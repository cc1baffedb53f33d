// Package program holds what the main functions of the services share: settings, logger, signals and the connection to
// the broker. A main function only names its service.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/logging"
	"bobosync/shared/telemetry"
	"bobosync/shared/text"
)

// Version is the version of the build; the Makefile sets it.
var Version = "dev"

// Exit statuses.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// drainTimeout is how long pending messages to the broker may take at the end.
const drainTimeout = 5 * time.Second

// Settings is implemented by a pointer to a service's Config.
type Settings interface {
	config.Validator
	// Common returns the settings that every program needs.
	Common() (config.Broker, config.Log)
}

// Service runs a service until ctx ends.
type Service func(ctx context.Context, deps Deps) error

// Deps are what a service needs besides its settings. The process that it runs in provides them.
type Deps struct {
	// Conn is the connection to the broker; the process closes it after the service has ended.
	Conn *bus.Conn
	Log  *slog.Logger
	// Version is the program's version, as shown to operators and AtHoc; it may be empty.
	Version string
	// Telemetry records metrics and traces of the process; nil means off.
	Telemetry *telemetry.Telemetry
	// Now is the clock for duty and schedules; nil means time.Now.
	Now func() time.Time
	// InsideAddress is a file with the address of the broker inside the process; empty if it is outside.
	InsideAddress string
}

// Clock returns Now, or time.Now if it is not set.
func (d Deps) Clock() func() time.Time {
	if d.Now == nil {
		return time.Now
	}
	return d.Now
}

// Main runs the named service and returns the exit status: 0 after a signal stopped it, 1 if it failed, 2 if the
// command line or the settings are wrong. It reads the settings into target before it calls service.
func Main(name string, target Settings, service Service) int {
	return start(name, target, service, serve)
}

// MainUnconnected is Main for a service that has work to do even without a broker, and so connects by itself: Deps.Conn
// is nil.
func MainUnconnected(name string, target Settings, service Service) int {
	return start(name, target, service, func(ctx context.Context, name string, _ config.Broker, cfg telemetry.Config, log *slog.Logger, service Service) error {
		return observed(ctx, name, cfg, log, func(tel *telemetry.Telemetry) error {
			tel.Alone()
			return service(ctx, Deps{Log: log, Version: Version, Telemetry: tel})
		})
	})
}

// start reads the settings, and calls runs to run the service with them.
func start(name string, target Settings, service Service, runs func(context.Context, string, config.Broker, telemetry.Config, *slog.Logger, Service) error) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	envFile := flags.String("env", "", "read settings from this `file` (default .env, if it is there)")
	version := flags.Bool("version", false, "print the version and exit")
	health := flags.Bool("healthcheck", false, "ask the "+name+" that runs with these settings whether it is alive, and exit: 0 if it is, 1 if not")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}

	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%s takes no arguments, only flags: %q\n", name, flags.Args())
		return exitUsage
	}

	if *version {
		fmt.Println(name, Version)
		return exitOK
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if *health {
		return CheckHealth(ctx, name, *envFile)
	}

	var cfg telemetry.Config
	if err := errors.Join(Load(ctx, *envFile, target), Load(ctx, *envFile, &cfg)); err != nil {
		PrintSettingsError(os.Stderr, name, err)
		return exitUsage
	}

	broker, logs := target.Common()
	if broker.URL == "" {
		PrintSettingsError(os.Stderr, name, errors.New("NATS_URL: not set; a service of its own needs the address of a broker, such as nats://localhost:4222 (bobosync run brings one along)"))
		return exitUsage
	}

	log, closeLog, err := logging.New(os.Stderr, name, logs)
	if err != nil {
		PrintSettingsError(os.Stderr, name, err)
		return exitFailed // a full disk or a missing share recovers: the program should be started again
	}

	defer func() { _ = closeLog() }() // there is nowhere left to report it

	if err := runs(ctx, name, broker, cfg, log, service); err != nil && ctx.Err() == nil {
		log.Error(name+" cannot go on", "error", err)
		return exitFailed
	}

	log.Info(name + " has stopped")

	return exitOK
}

// softMemory is the soft memory limit of a service; see SetMemoryLimits.
const softMemory = 64 << 20

// serve runs a service with a connection to the broker.
func serve(ctx context.Context, name string, broker config.Broker, cfg telemetry.Config, log *slog.Logger, service Service) error {
	return observed(ctx, name, cfg, log, func(tel *telemetry.Telemetry) error {
		conn, err := bus.Connect(ctx, BusConfig(name, broker, log))
		if err != nil {
			return err
		}

		err = service(ctx, Deps{Conn: conn, Log: log, Version: Version, Telemetry: tel})

		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()

		return errors.Join(err, conn.Drain(drain))
	})
}

// observed runs a process with its telemetry.
func observed(ctx context.Context, name string, cfg telemetry.Config, log *slog.Logger, run func(*telemetry.Telemetry) error) (err error) {
	SetMemoryLimits(softMemory)
	log.Info(name+" starts", "version", Version)

	tel, stop, err := StartTelemetry(ctx, "bobosync-"+name, cfg, log)
	if err != nil {
		return err
	}

	defer func() { err = errors.Join(err, stop()) }()

	return run(tel)
}

// StartTelemetry starts the telemetry of the named program. It serves and sends as the settings say until stop is
// called.
func StartTelemetry(ctx context.Context, name string, cfg telemetry.Config, log *slog.Logger) (t *telemetry.Telemetry, stop func() error, err error) {
	t = telemetry.New(Version)

	flush, err := t.Trace(ctx, cfg, name, Version, log)
	if err != nil {
		return nil, nil, err
	}

	server, err := t.Serve(ctx, cfg.Addr, log)
	if err != nil {
		return nil, nil, errors.Join(err, flush())
	}

	return t, func() error { return errors.Join(server.Close(), flush()) }, nil
}

// CheckHealth asks the process that runs with the same settings whether it is alive, and returns the exit status: 0 if
// it is.
func CheckHealth(ctx context.Context, name, envFile string) int {
	var cfg telemetry.Config
	if err := Load(ctx, envFile, &cfg); err != nil {
		PrintSettingsError(os.Stderr, name, err)
		return exitUsage
	}

	if err := telemetry.CheckHealth(ctx, cfg.Addr); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return exitFailed
	}

	return exitOK
}

// BusConfig converts the settings of the broker to those of a connection.
func BusConfig(name string, b config.Broker, log *slog.Logger) bus.Config {
	return bus.Config{URL: b.URL, CredsFile: b.Creds, CAFile: b.CA, Name: "bobosync " + name, Logger: log}
}

// Load reads settings from the environment and from a .env file. If envFile names another file, that must exist.
func Load(ctx context.Context, envFile string, target any) error {
	explicit := envFile != ""
	if !explicit {
		envFile = ".env"
	}

	source, err := config.Environment(envFile, explicit)
	if err != nil {
		return err
	}

	return config.Load(ctx, source, target)
}

// PrintSettingsError reports what is wrong with the settings, one line each.
func PrintSettingsError(w io.Writer, name string, err error) {
	out := text.To(w)
	out.Printf("%s cannot start; correct these settings (environment or .env):\n", name)

	for line := range strings.SplitSeq(err.Error(), "\n") {
		out.Printf("  %s\n", line)
	}
}
