// Command bobosync runs all services in one process with an embedded broker, and contains the operators' commands.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bobosync/cmd/bobosync/allinone"
	"bobosync/cmd/bobosync/commands"
	"bobosync/cmd/bobosync/settings"
	"bobosync/shared/logging"
	"bobosync/shared/program"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return commands.Execute(ctx, rootCommand())
}

func rootCommand() *cobra.Command {
	return commands.Root(func(envFile *string) []*cobra.Command {
		return []*cobra.Command{runCommand(envFile), healthcheckCommand(envFile), demoCommand()}
	})
}

func runCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run all services in this process, with a broker inside",
		Long: `Run ingest, resolver, publisher and janitor in this process. If NATS_URL is not set, a NATS broker runs inside,
with its store in DATA_DIRECTORY, and syncs to disk before it acknowledges. Stop it with Ctrl-C: what is in work is
finished or goes on at the next start.`,
		Example: "  bobosync run\n  bobosync run --env /etc/bobosync/production.env",
		GroupID: commands.GroupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s settings.All
			if err := program.Load(cmd.Context(), *envFile, &s); err != nil {
				program.PrintSettingsError(os.Stderr, "bobosync run", err)
				return commands.ExitStatus(2)
			}

			log, closeLog, err := logging.New(os.Stderr, "bobosync", s.Log)
			if err != nil {
				return err
			}

			defer func() { _ = closeLog() }() // a failure can no longer be reported

			if err := allinone.Run(cmd.Context(), s, log); err != nil {
				log.Error("bobosync cannot go on", "error", err)
				return commands.ExitStatus(1)
			}

			log.Info("bobosync has stopped")

			return nil
		},
	}
}

// healthcheckCommand returns the command that asks a running program whether it is alive.
func healthcheckCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the program that runs with these settings whether it is alive",
		Long: `Ask /healthz at HTTP_ADDR on this machine. The exit status is 0 if the program is alive and 1 if not: made for containers
that have no other program to ask with.`,
		GroupID: commands.GroupRun,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if status := program.CheckHealth(cmd.Context(), "bobosync healthcheck", *envFile); status != 0 {
				return commands.ExitStatus(status)
			}
			return nil
		},
	}
}

// demoCommand returns a command that says where the demo is, for users of earlier versions: it is a program of its
// own.
func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo", Short: "Say where the demo is now", Example: "  bobosync demo", Hidden: true, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the demo is a program of its own: make demo, or bin/demo with the same flags")
		},
	}
}
