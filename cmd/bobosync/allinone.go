//go:build !operator

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"bobosync/services/ingest"
	"bobosync/services/janitor"
	"bobosync/services/publisher"
	"bobosync/services/resolver"
	"bobosync/shared/broker"
	"bobosync/shared/bus"
	"bobosync/shared/logging"
	"bobosync/shared/program"
	"bobosync/shared/telemetry"
)

const (
	// healthLook is how often the broker inside is looked at.
	healthLook = 2 * time.Second
	// againWait is how long to wait before everything is started again after the broker inside has failed.
	againWait = 10 * time.Second
	drainWait = 5 * time.Second
	// softMemory is how much memory everything together uses before its garbage is collected ever more often.
	softMemory = 160 << 20
)

// addPrograms adds what runs something, or belongs to what runs.
func addPrograms(root *cobra.Command, envFile *string) {
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run:"})
	root.AddCommand(inGroup(groupRun, runCommand(envFile), demoCommand(), healthcheckCommand(envFile))...)
}

func runCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run all services in this process, with a broker inside",
		Long: `Run ingest, resolver, publisher and janitor in this process. If NATS_URL is not set, a NATS broker runs inside,
with its store in DATA_DIRECTORY, and syncs to disk before it acknowledges. Stop it with Ctrl-C: what is in work is
finished or goes on at the next start.`,
		Example: "  bobosync run\n  bobosync run --env /etc/bobosync/production.env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s settings
			if err := program.Load(cmd.Context(), *envFile, &s); err != nil {
				program.Complain(os.Stderr, "bobosync run", err)
				return exitStatus(2)
			}
			log, closeLog, err := logging.New(os.Stderr, "bobosync", s.Log)
			if err != nil {
				return err
			}
			defer func() { _ = closeLog() }() // nothing is left to be told about it
			if err := runAndTell(cmd.Context(), s, log); err != nil {
				log.Error("bobosync cannot go on", "error", err)
				return exitStatus(1)
			}
			log.Info("bobosync has stopped")
			return nil
		},
	}
}

// runAndTell serves metrics and health, if the settings say so, and runs everything until ctx ends.
func runAndTell(ctx context.Context, s settings, log *slog.Logger) (err error) {
	seen, stop, err := program.Tell(ctx, "bobosync", s.Telemetry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return runAll(ctx, s, log, seen)
}

// runAll runs everything until ctx ends. When the broker inside fails, as it does when the disk is full, everything is
// stopped and started again until it works.
func runAll(ctx context.Context, s settings, log *slog.Logger, seen *telemetry.Telemetry) error {
	program.SpareMemory(softMemory)
	log.Info("bobosync starts", "version", program.Version, "csv_directory", s.Ingest.CSVDirectory)
	for first := true; ; first = false {
		err := runOnce(ctx, s, log, seen)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to stop, and what ends then is no failure
		case errors.Is(err, errBrokerFailed), !first && errors.Is(err, broker.ErrDiskFull):
			log.Error("the broker inside has failed; everything starts again", "error", err, "retry_in", againWait.String())
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(againWait):
		}
	}
}

var errBrokerFailed = errors.New("the broker inside cannot store messages")

// runOnce starts the broker, if it is to be inside, and the services, and returns when all of them have ended.
func runOnce(ctx context.Context, s settings, log *slog.Logger, seen *telemetry.Telemetry) (err error) {
	connect := func(ctx context.Context, name string) (*bus.Conn, error) {
		return bus.Connect(ctx, program.BusConfig(name, s.Broker, log))
	}
	group, ctx := errgroup.WithContext(ctx)
	if s.Broker.URL == "" {
		token := rand.Text()
		inside, err := broker.Start(ctx, broker.Options{
			StoreDir: filepath.Join(s.Data.Directory, "jetstream"), Port: broker.RandomPort, Token: token, Logger: log,
		})
		if err != nil {
			return fmt.Errorf("start the broker inside (DATA_DIRECTORY): %w", err)
		}
		defer func() { err = errors.Join(err, shutDown(inside)) }()
		if err := tellAddress(s.Data.Directory, inside.ClientURL(), token); err != nil {
			return err
		}
		connect = func(ctx context.Context, name string) (*bus.Conn, error) {
			return bus.Connect(ctx, bus.Config{InProcess: inside, Token: token, Name: "bobosync " + name, Logger: log})
		}
		group.Go(func() error { return watchBroker(ctx, inside) })
	}
	serve := func(name string, service program.Service) {
		group.Go(func() error {
			conn, err := connect(ctx, name)
			if err != nil {
				return err
			}
			err = service(ctx, program.Deps{Conn: conn, Log: log, Version: program.Version, Telemetry: seen})
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWait)
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
	ctx, cancel := context.WithTimeout(context.Background(), 4*drainWait)
	defer cancel()
	return inside.Shutdown(ctx)
}

// watchBroker returns an error when the broker inside can no longer store messages.
func watchBroker(ctx context.Context, inside *broker.Server) error {
	ticker := time.NewTicker(healthLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := inside.Health(); err != nil {
				return fmt.Errorf("%w: %w", errBrokerFailed, err)
			}
		}
	}
}
