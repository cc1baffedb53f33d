// Command demo shows the whole pipeline really working on one machine. It invents workers, and BOBO files with
// everything that goes wrong with such files. It drops the files over some seconds into a directory that the services
// watch, makes a simulated AtHoc fail for a while, and in the end judges whether AtHoc holds the right status for
// everybody.
//
// It uses only the loopback interface, and keeps everything in a temporary directory.
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

	"bobosync/cmd/bobosync/allinone"
	"bobosync/cmd/bobosync/settings"
	"bobosync/shared/config"
	"bobosync/shared/program"
)

// The exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is the customary status of a program that Ctrl-C ended.
	exitInterrupted = 130
)

func main() { os.Exit(run()) }

func run() int {
	// When the terminal or a pipe is closed, the temporary directory must still be removed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()

	o := options{Out: os.Stdout, Err: os.Stderr, Serve: serve}
	cmd := command(&o)
	called := false
	cmd.RunE = func(*cobra.Command, []string) error {
		called = true
		return play(ctx, o)
	}

	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !called:
		fmt.Fprintf(os.Stderr, "demo: %v\nHow it is used: demo --help\n", err)
		return exitUsage
	case errors.Is(err, errWrong):
		return exitFailed // the report has said so
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted")
		return exitInterrupted
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		return exitFailed
	}
}

// command returns the command line, which sets the options.
func command(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything working against a simulated AtHoc, in half a minute",
		Long: `Run all services with a broker inside and a simulated AtHoc, on this machine alone, and let files come with all that goes
wrong with such files, and an outage of AtHoc. In the end AtHoc's state is compared with what the files say.

The exit status is 0 if it is right, and 1 if it is not. No settings are needed, and none are read.`,
		Example: "  demo\n  demo --workers 5000 --files 1000 --seed 7",
		Args:    cobra.NoArgs, Version: program.Version, SilenceUsage: true, SilenceErrors: true,
	}
	cmd.Flags().IntVar(&o.Workers, "workers", 400, "how many workers there are")
	cmd.Flags().IntVar(&o.Files, "files", 120, "how many files are dropped")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "makes the same workers and files again")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "keep the temporary directory with files, ledgers and log")
	cmd.Flags().BoolVar(&o.Verbose, "verbose", false, "show the services' log, on the standard error")

	return cmd
}

// serve runs all services with the given settings, and with none from the environment.
func serve(ctx context.Context, vars map[string]string, log *slog.Logger) error {
	var s settings.All
	if err := config.Load(ctx, config.Map(vars), &s); err != nil {
		return fmt.Errorf("settings of the demo: %w", err)
	}

	return allinone.Run(ctx, s, log)
}
