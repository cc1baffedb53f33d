// Package allinone runs all services in one process, with an embedded broker unless the settings name another.
package allinone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"bobosync/cmd/bobosync/settings"
	"bobosync/services/console"
	"bobosync/services/ingest"
	"bobosync/services/janitor"
	"bobosync/services/publisher"
	"bobosync/services/resolver"
	"bobosync/shared/broker"
	"bobosync/shared/broker/guests"
	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/disk"
	"bobosync/shared/pause"
	"bobosync/shared/program"
	"bobosync/shared/scrub"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

const (
	// healthPollInterval is how often the embedded broker is checked.
	healthPollInterval = 2 * time.Second
	// restartPause is the wait before everything is started again after the embedded broker has failed, or a disk was
	// full.
	restartPause = 10 * time.Second
	drainTimeout = 5 * time.Second
	// softMemory is the soft memory limit of the whole process; see program.SetMemoryLimits.
	softMemory = 160 << 20
)

// Run runs everything until ctx ends, and serves metrics and health if the settings say so.
func Run(ctx context.Context, s settings.All, log *slog.Logger) (err error) {
	tel, stop, err := program.StartTelemetry(ctx, "bobosync", s.Telemetry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return runAll(ctx, s, log, tel) })

	if s.Console.Addr != "" { // apart from the rest, so that it can report a broker that does not start
		group.Go(func() error { return runConsole(ctx, s.Console, log, tel) })
	}

	return group.Wait()
}

// runConsole runs the console until ctx ends. If the console cannot start, because its port is taken or its
// certificate cannot be read, it is tried again while everything else goes on: a console that fails must not keep duty
// statuses from AtHoc.
func runConsole(ctx context.Context, cfg console.Config, log *slog.Logger, tel *telemetry.Telemetry) error {
	for {
		err := console.Run(ctx, cfg, program.Deps{Log: log, Version: program.Version, Telemetry: tel})
		if ctx.Err() != nil {
			return err
		}

		log.Error("the console cannot run; everything else goes on without it", "error", err, "retry_in", restartPause.String())

		if pause.For(ctx, restartPause) != nil {
			return nil //nolint:nilerr // it is to stop
		}
	}
}

// runAll runs everything until ctx ends. If the embedded broker fails, or if a full disk keeps it or a service from
// starting, everything is stopped and started again until it works.
func runAll(ctx context.Context, s settings.All, log *slog.Logger, tel *telemetry.Telemetry) error {
	program.SetMemoryLimits(softMemory)
	log.Info("bobosync starts", "version", program.Version, "inputs", s.Ingest.InputDirectories())

	for {
		err := once(ctx, s, log, tel)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to stop, and what ends then is no failure
		case errors.Is(err, errScrub):
			log.Info("a worker was erased: everything starts again, so that what the broker inside has deleted is overwritten")
			continue
		case errors.Is(err, errBrokerFailed), errors.Is(err, broker.ErrDiskFull), disk.IsFull(err):
			log.Error("the broker inside or a service has failed; everything starts again", "error", err, "retry_in", restartPause.String())
		default:
			return err
		}

		if pause.For(ctx, restartPause) != nil {
			return nil //nolint:nilerr // it is to stop
		}
	}
}

// errScrub means that something should be overwritten in the broker's store, for which the broker must be stopped.
var errScrub = errors.New("a worker was erased")

var errBrokerFailed = errors.New("the broker inside cannot store messages")

// once starts the services, and the embedded broker if no other is set. It returns when all of them have ended. tel
// may be nil.
func once(ctx context.Context, s settings.All, log *slog.Logger, tel *telemetry.Telemetry) (err error) {
	connect := func(ctx context.Context, name string) (*bus.Conn, error) {
		return bus.Connect(ctx, program.BusConfig(name, s.Broker, log))
	}
	group, ctx := errgroup.WithContext(ctx)
	if s.Broker.URL == "" {
		token, over := rand.Text(), guests.Of(rand.Text(), topology.Guest())
		store := client.StoreDir(s.Data.Directory)

		inside, err := broker.Start(ctx, broker.Options{
			StoreDir: store, Port: broker.RandomPort, Token: token, Guests: over, Logger: log,
		})
		if err != nil {
			return fmt.Errorf("start the broker inside (DATA_DIRECTORY): %w", err)
		}

		defer func() { err = errors.Join(err, shutDown(inside)) }()

		if err := client.WriteAddress(s.Data.Directory, inside.ClientURL(), over.Token); err != nil {
			return err
		}

		connect = func(ctx context.Context, name string) (*bus.Conn, error) {
			return bus.Connect(ctx, bus.Config{InProcess: inside, Token: token, Name: "bobosync " + name, Logger: log})
		}
		failed := scrub.Waits(store) // this start could not do it; the next one tries again
		group.Go(func() error {
			err := watchBroker(ctx, inside, func() bool { return !failed && scrub.Waits(store) })
			// Shut down at once: otherwise the restart would wait for whatever publishes to a frozen stream. By then there may
			// be room on the disk.
			if errors.Is(err, errBrokerFailed) {
				err = errors.Join(err, shutDown(inside))
			}

			return err
		})
	}

	serve := func(name string, service program.Service) {
		group.Go(func() error {
			conn, err := connect(ctx, name)
			if err != nil {
				return err
			}

			err = service(ctx, program.Deps{
				Conn: conn, Log: log, Version: program.Version, Telemetry: tel, InsideAddress: filepath.Join(s.Data.Directory, client.AddressFile),
			})

			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()

			return errors.Join(err, conn.Drain(drain))
		})
	}
	serve("ingest", func(ctx context.Context, deps program.Deps) error { return ingest.Run(ctx, s.Ingest, deps) })
	serve("resolver", func(ctx context.Context, deps program.Deps) error { return resolver.Run(ctx, s.Resolver, deps) })
	serve("publisher", func(ctx context.Context, deps program.Deps) error { return publisher.Run(ctx, s.Publisher, deps) })
	serve("janitor", func(ctx context.Context, deps program.Deps) error { return janitor.Run(ctx, s.Janitor, deps) })

	return group.Wait()
}

func shutDown(inside *broker.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*drainTimeout)
	defer cancel()
	return inside.Shutdown(ctx)
}

// watchBroker returns an error when the embedded broker can no longer store messages, or when it should be stopped for
// a scrub. A failure that is seen only once may be a stream that is just being created or deleted.
func watchBroker(ctx context.Context, inside *broker.Server, scrubWaits func() bool) error {
	failures := 0

	return pause.Every(ctx, healthPollInterval, func() error {
		if scrubWaits() {
			return errScrub
		}

		err := inside.Health()
		if err == nil {
			failures = 0
			return nil
		}

		if failures++; failures == 2 {
			return fmt.Errorf("%w: %w", errBrokerFailed, err)
		}

		return nil
	})
}
