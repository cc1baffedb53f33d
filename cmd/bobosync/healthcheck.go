//go:build !operator

package main

import (
	"github.com/spf13/cobra"

	"bobosync/shared/program"
)

// healthcheckCommand asks a running program whether it is alive.
func healthcheckCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the program that runs with these settings whether it is alive",
		Long: `Ask /healthz at HTTP_ADDR on this machine. The exit status is 0 if the program is alive and 1 if not: made for containers
that have no other program to ask with.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if status := program.CheckHealth(cmd.Context(), "bobosync healthcheck", *envFile); status != 0 {
				return exitStatus(status)
			}
			return nil
		},
	}
}
