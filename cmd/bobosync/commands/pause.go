package commands

// Pausing what is sent to AtHoc, and resuming it.

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func pauseCommand(envFile *string) *cobra.Command {
	var lasts time.Duration
	var req control.PauseRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pause --for 1h --reason TEXT",
		Short: "Send nothing to AtHoc for a while",
		Long: `Send nothing to AtHoc for a while: it always has an end, at most 24 hours away, and ends by itself. Calls under way end.
Files are read all the while, and what AtHoc should hold is kept up to date, so that afterwards each worker is sent once, with
the latest status. Replays wait. The janitor goes on reading users in AtHoc, unless --all holds that back as well.

Another pause replaces the one in force. Everybody who asks for the status reads who ordered it, until when, and why;
bobosync status calls it a PROBLEM when workers have waited for 10 minutes. The journal notes it.`,
		Example: `  bobosync pause --for 1h --reason "AtHoc is upgraded, ticket 4711"
  bobosync pause --for 30m --reason "AtHoc's database is restored" --all
  bobosync resume`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			req.Seconds = int(lasts.Seconds())

			paused, err := client.Pause(ctx, conn, orderOf(cmd), req)
			if err != nil {
				return err
			}

			waiting, known := waitingWorkers(ctx, conn)
			if asJSON {
				return outOf(cmd).JSON(struct {
					breaker.Pause
					Waiting *int `json:"waiting,omitempty"`
				}{paused, known})
			}

			out := outOf(cmd)
			out.Printf("PAUSED until %s: nothing is sent to AtHoc, and calls under way end. %s\n", text.When(paused.Until), waiting)
			out.Printf("It ends by itself; bobosync resume ends it now.\n")

			return out.Err()
		}),
	}
	flags := cmd.Flags()
	flags.DurationVar(&lasts, "for", 0, "how `long`: 30m, 1h, at most 24h")
	flags.StringVar(&req.Reason, "reason", "", "why, for everybody who asks for the status: a `text` without personal data")
	flags.BoolVar(&req.All, "all", false, "hold back the janitor's reads in AtHoc as well")
	flags.BoolVar(&asJSON, "json", false, "answer in JSON")

	for _, needed := range []string{"for", "reason"} {
		_ = cmd.MarkFlagRequired(needed) // both flags exist
	}

	completeFlag(cmd, "for", cobra.FixedCompletions([]string{"15m", "30m", "1h", "2h", "4h", "8h", "24h"}, noNames))
	completeFlag(cmd, "reason", cobra.NoFileCompletions)

	return cmd
}

// waitingWorkers describes how many workers wait for AtHoc, and returns their number, which is nil if it is not known.
func waitingWorkers(ctx context.Context, conn *bus.Conn) (string, *int) {
	states, err := control.AskAll[control.ResolverState](ctx, conn.NC, topology.Resolver, control.State, control.Nothing{})
	if err != nil || len(states) == 0 {
		return "No resolver says how many workers wait.", nil
	}

	n := verdict.Waiting(verdict.Facts{Resolver: states})
	if n == 1 {
		return "1 worker waits.", &n
	}

	return fmt.Sprintf("%d workers wait.", n), &n
}

func resumeCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "End a pause: go on sending to AtHoc",
		Long: `End a pause: go on sending to AtHoc. Each worker who waits is sent once, with the latest status. The journal notes it. If there is
no pause, nothing is changed.`,
		Example:           "  bobosync resume",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			answer, err := client.Resume(ctx, conn, orderOf(cmd))
			if err != nil {
				return err
			}

			out, ended := outOf(cmd), answer.Ended
			switch {
			case asJSON:
				return out.JSON(answer)
			case ended == nil:
				out.Printf("There is no pause, and nothing is changed.\n")
			default:
				waiting, _ := waitingWorkers(ctx, conn)
				out.Printf("AtHoc is called again: the pause by %s has ended after %s. %s\n", ended.By, text.Ago(ended.Resumed.Sub(ended.At)), waiting)
			}

			return out.Err()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}
