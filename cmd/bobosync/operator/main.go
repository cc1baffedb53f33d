// Command operator is bobosync as its image contains it: only the operators' commands. With images, each service has
// its own; running everything in one process is for machines without containers.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bobosync/cmd/bobosync/commands"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return commands.Execute(ctx, commands.Root(absent))
}

// absent returns commands that explain that this program does not run services.
func absent(*string) (all []*cobra.Command) {
	for _, name := range []string{"run", "healthcheck"} {
		all = append(all, &cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return fmt.Errorf("%s is not in this image: each service has one of its own, and everything in one process is for machines without containers", name)
			},
		})
	}

	return all
}
