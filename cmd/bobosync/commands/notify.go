package commands

// Notices: whom they reach, and a test of the ways to them.

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
)

func notifyCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Try whether notices arrive: mail, webhook, Teams",
		Long: `Try whether notices arrive. The janitor notifies people by mail, by a webhook and in Teams when the status gets worse, when a decision is needed,
when files failed or rows were rejected, when all is well again, and once a day with a digest. Its settings begin with NOTIFY_.`,
		Example: "  bobosync notify test",
	}
	cmd.AddCommand(notifyTestCommand(envFile))

	return cmd
}

func notifyTestCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Send a test to each place that notices go to, and say how that went",
		Long: `Send a test to each place that notices go to, and say how that went: past what waits for a place that is down, and uncounted.

Exit status: 0 all have taken it, 1 one has not, or there is none.`,
		Example:           "  bobosync notify test\n  bobosync notify test --json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			answer, err := client.TryNotices(ctx, conn, orderOf(cmd))
			if err != nil {
				return err
			}

			out, failed := outOf(cmd), false
			for _, r := range answer.Results {
				failed = failed || r.Error != ""
			}

			if asJSON {
				err = out.JSON(answer)
			} else {
				for _, r := range answer.Results {
					words := "has taken it"
					if r.Error != "" {
						words = "has NOT taken it: " + r.Error
					}

					out.Line(fmt.Sprintf("%-8s %s", r.Sink, words))
				}

				err = out.Err()
			}

			if err == nil && failed {
				err = ExitStatus(exitFailed)
			}

			return err
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}
