package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/pause"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// watchPollInterval is how often the progress of a replay is checked.
const watchPollInterval = time.Second

// replayFlags are the flags by which an operator chooses the workers whose status is sent again.
type replayFlags struct {
	all                 bool
	since, entriesSince string
	workers, users      []string
	file                string
	dryRun, watch, json bool
}

func replayCommand(envFile *string) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay (--all | --since T | --worker ID | --user NAME | --file NAME | --entries-since T)",
		Short: "Send the current duty status of workers to AtHoc again",
		Long: `Send the current duty status of workers to AtHoc again, after AtHoc has lost data: a restored backup, say.

Only the latest status of each worker is ever sent, and events that come in meanwhile win. A replay keeps to the rate limit
and lets new events go first. It goes on over restarts until it is done or stopped. The journal notes it.

--entries-since reads the entries of that time again, as far as the broker still keeps them, and sends the workers in them:
for when the mapping was wrong.`,
		Example: `  bobosync replay --all --dry-run          # how many users, how many calls, how long
  bobosync replay --all --watch
  bobosync replay --since "2024-06-17 14:00"
  bobosync replay --worker 12345 --worker 67890
  bobosync replay --file monday.csv
  bobosync replay list
  bobosync replay stop 0195d3`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			return replay(ctx, conn, cmd, f)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "everyone")
	flags.StringVar(&f.since, "since", "", "workers whose status changed or was confirmed since this `time`")
	flags.StringSliceVar(&f.workers, "worker", nil, "these employee `ids`")
	flags.StringSliceVar(&f.users, "user", nil, "these AtHoc `usernames`")
	flags.StringVar(&f.file, "file", "", "workers in this file, by `name` or id")
	completeFlag(cmd, "file", completing(envFile, fileNames))
	flags.StringVar(&f.entriesSince, "entries-since", "", "workers with an entry that was read since this `time`")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say what it would be")
	flags.BoolVar(&f.watch, "watch", false, "stay until all of it is published")
	flags.BoolVar(&f.json, "json", false, "answer in JSON")
	cmd.MarkFlagsOneRequired("all", "since", "worker", "user", "file", "entries-since")
	cmd.MarkFlagsMutuallyExclusive("json", "watch")
	cmd.MarkFlagsMutuallyExclusive("all", "since", "worker", "user", "file", "entries-since")
	cmd.AddCommand(replayListCommand(envFile), replayStopCommand(envFile))

	return cmd
}

func (f replayFlags) request(ctx context.Context, conn *bus.Conn, now time.Time) (control.ReplayRequest, error) {
	req := control.ReplayRequest{All: f.all, Workers: f.workers, Users: f.users, DryRun: f.dryRun}
	var err error
	if f.since != "" {
		req.Since, err = moment(f.since, now)
	}

	if f.entriesSince != "" {
		req.EntriesSince, err = moment(f.entriesSince, now)
	}

	if f.file != "" {
		req.File, err = client.FileID(ctx, conn, f.file)
	}

	return req, err
}

func replay(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, f replayFlags) error {
	out := outOf(cmd)

	req, err := f.request(ctx, conn, time.Now())
	if err != nil {
		return err
	}

	state, err := client.Replay(ctx, conn, orderOf(cmd), req)
	if err != nil {
		return err
	}

	sending, sendErr := control.Ask[control.SendingState](ctx, conn.NC, topology.Publisher, control.Sending, control.Nothing{})

	calls, estimate := client.Effort(state.Users, sending)
	if f.json {
		return out.JSON(struct {
			control.ReplayState
			DryRun  bool    `json:"dry_run"`
			Calls   int     `json:"calls,omitempty"`
			Seconds float64 `json:"seconds,omitempty"`
		}{state, f.dryRun, calls, estimate.Seconds()})
	}

	verb := "Replaying"
	if f.dryRun {
		verb = "It would be"
	}

	out.Printf("%s %d users (%s", verb, state.Users, state.What)

	if state.Entries > 0 {
		out.Printf(", from %d entries", state.Entries)
	}

	out.Printf(").\n")

	if state.Held > 0 {
		out.Printf("%s left out, since they are held: bobosync held list shows why.\n", text.Count(state.Held, "user"))
	}

	out.Line(client.WhenSent(calls, estimate, sending, sendErr, time.Now()))

	if f.dryRun {
		return out.Err()
	}

	out.Printf("Its id is %s; stop it with: bobosync replay stop %s\n", state.ID, state.ID)

	if f.watch {
		return watchReplay(ctx, conn, out, state.ID)
	}

	return nil
}

func watchReplay(ctx context.Context, conn *bus.Conn, out *text.Printer, id string) error {
	last := -1
	for {
		all, err := control.Ask[[]control.ReplayState](ctx, conn.NC, topology.Resolver, control.Replays, control.Nothing{})
		if err != nil && !errors.Is(err, control.ErrNobody) {
			return err
		}

		at := slices.IndexFunc(all, func(s control.ReplayState) bool { return s.ID == id })
		if at < 0 && err == nil {
			return errors.New("the resolver knows nothing of this replay any more: its state store was lost, or many replays came after it")
		}

		if at >= 0 {
			state := all[at]
			switch {
			case state.Stopped:
				return fmt.Errorf("the replay was stopped: %d of %d users were not published", state.Left, state.Users)
			case !state.Ended.IsZero():
				out.Printf("All %d users are on their way to AtHoc.\n", state.Users)
				return nil
			case state.Left != last:
				out.Printf("%d of %d users are on their way\n", state.Users-state.Left, state.Users)
				last = state.Left
			}
		}

		if pause.For(ctx, watchPollInterval) != nil {
			out.Printf("The replay goes on without being watched.\n")
			return nil //nolint:nilerr // the replay has not failed
		}
	}
}

func replayListCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the replays: who, when, what, and how far",
		Example: "  bobosync replay list\n  bobosync replay list --json",
		Args:    cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			all, err := control.Ask[[]control.ReplayState](ctx, conn.NC, topology.Resolver, control.Replays, control.Nothing{})
			if err != nil {
				return err
			}

			if asJSON {
				return outOf(cmd).JSON(all)
			}

			rows := [][]string{{"ID", "BY", "WHAT", "STARTED", "ENDED", "USERS", "LEFT"}}
			for _, s := range all {
				ended := text.When(s.Ended)
				if s.Stopped {
					ended += " (stopped)"
				}

				rows = append(rows, []string{s.ID, s.By, s.What, text.When(s.Started), ended, strconv.Itoa(s.Users), strconv.Itoa(s.Left)})
			}

			out := outOf(cmd)
			out.Table(rows)

			return out.Err()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

func replayStopCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "stop ID",
		Short:   "Stop a replay: what is not published yet is not sent",
		Long:    "Stop a replay: what is not published yet is not sent. The beginning of the id is enough. The journal notes it.",
		Example: "  bobosync replay stop 0195d3",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, func(ctx context.Context, conn *bus.Conn) ([]string, error) {
			all, err := control.Ask[[]control.ReplayState](ctx, conn.NC, topology.Resolver, control.Replays, control.Nothing{})
			var ids []string
			for _, s := range all {
				if s.Ended.IsZero() {
					ids = append(ids, s.ID+"\t"+s.What)
				}
			}

			return ids, err
		}),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			state, err := client.StopReplay(ctx, conn, orderOf(cmd), args[0])
			if err != nil {
				return err
			}

			if asJSON {
				return outOf(cmd).JSON(state)
			}

			outOf(cmd).Printf("Stopped; %d of %d users were not published.\n", state.Left, state.Users)

			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}
