// Command demo shows the whole pipeline working, for real, on one machine: it makes up workers and BOBO files with all that
// goes wrong with such files, drops them over some seconds into a directory that the services watch, lets a simulated
// AtHoc fail for a while, and in the end judges whether AtHoc holds the right status of everybody.
//
// Only the loopback interface is used, and everything lies in a temporary directory.
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

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is that of a program which Ctrl-C ended, by custom.
	exitInterrupted = 130
)

func main() { os.Exit(run()) }

func run() int {
	// A closed terminal and a closed pipe must not leave the temporary directory behind.
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
		return exitFailed // its report has said so
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted")
		return exitInterrupted
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		return exitFailed
	}
}

// command reads the options from the command line.
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

// serve runs all services with the given settings and no others.
func serve(ctx context.Context, vars map[string]string, log *slog.Logger) error {
	var s settings.All
	if err := config.Load(ctx, config.Map(vars), &s); err != nil {
		return fmt.Errorf("settings of the demo: %w", err)
	}

	return allinone.Run(ctx, s, log)
}
