// Command bobosync runs all services in one process with the broker inside, and holds the operators' commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bobosync/shared/program"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := rootCommand().ExecuteContext(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	default:
		fmt.Fprintln(os.Stderr, "bobosync:", err)
		return 1
	}
}

// exitStatus ends the program with a status of its own; what is wrong has been said already.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "bobosync",
		Short: "Carry duty statuses from BOBO's CSV files to BlackBerry AtHoc",
		Long: `bobosync carries duty statuses from BOBO's CSV files to BlackBerry AtHoc.

Settings come from the environment and from a .env file; .env.example explains them all.`,
		Version:       program.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var envFile string
	root.PersistentFlags().StringVar(&envFile, "env", "", "read settings from this file (default .env, if it is there)")
	root.AddCommand(runCommand(&envFile), replayCommand(&envFile), deadCommand(&envFile), filesCommand(&envFile), demoCommand(), healthcheckCommand(&envFile))
	return root
}
