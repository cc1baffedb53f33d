//go:build !operator

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bobosync/cmd/bobosync/demo"
	"bobosync/shared/config"
)

func demoCommand() *cobra.Command {
	o := demo.Options{Out: os.Stdout, Err: os.Stderr, Serve: serveDemo}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything at work against a simulated AtHoc, in half a minute",
		Long: `Run all services with a broker inside and a simulated AtHoc, on this machine alone, and let files come with all that goes
wrong with such files, and an outage of AtHoc. In the end AtHoc's state is compared with what the files say.

The exit status is 0 if it is right, and 1 if it is not. No settings are needed, and none are read.`,
		Example: "  bobosync demo\n  bobosync demo --workers 5000 --files 1000 --seed 7",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A closed terminal and a closed pipe must not leave the temporary directory behind.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			err := demo.Run(ctx, o)
			switch {
			case errors.Is(err, demo.ErrWrong):
				return exitStatus(1)
			case err != nil && ctx.Err() != nil:
				fmt.Fprintln(os.Stderr, "bobosync demo: interrupted")
				return exitStatus(exitInterrupted)
			default:
				return err
			}
		},
	}
	cmd.Flags().IntVar(&o.Workers, "workers", 400, "how many workers there are")
	cmd.Flags().IntVar(&o.Files, "files", 120, "how many files are dropped")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "makes the same workers and files again")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "keep the temporary directory with files, ledgers and log")
	cmd.Flags().BoolVar(&o.Verbose, "verbose", false, "show the services' log, on the standard error")
	return cmd
}

// serveDemo runs all services with the given settings and no others.
func serveDemo(ctx context.Context, vars map[string]string, log *slog.Logger) error {
	var s settings
	if err := config.Load(ctx, config.Map(vars), &s); err != nil {
		return fmt.Errorf("settings of the demo: %w", err)
	}
	return runOnce(ctx, s, log, nil)
}
