package commands

// What comes from BOBO, compared with what usually comes.

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func feedsCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "feeds",
		Short: "See what comes from BOBO beside what usually does, and mute what is known",
		Long: `See what comes from BOBO beside what usually does at this hour of the week, on the clock of BOBO_TIMEZONE: rows, files, and the longest
time without a file. After three weeks that is known, and bobosync status warns by it:

  silent   nothing has come for three times the usual longest gap, and for 15 minutes at least
  thin     an hour has brought less than a third of the least of six such hours
  flood    an hour has brought more than five times the most of them

Until then it warns when no file has come for as long as --silent-after says. Copies of known files do not count. The feed of
CSV_DIRECTORY is called "default"; FEEDS names several, each with a directory of its own.`,
	}
	cmd.AddCommand(feedsListCommand(envFile), feedsMuteCommand(envFile))

	return cmd
}

func feedsListCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list",
		Short:             "List the feeds: what has come in this hour, and what is usual",
		Example:           "  bobosync feeds list\n  bobosync feeds list --json | jq '.[] | select(.silent)'",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              asking(envFile, &asJSON, askFeeds, showFeeds),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

// askFeeds returns the feeds as ingest reports them. It is an error if no ingest answers.
func askFeeds(ctx context.Context, conn *bus.Conn) ([]control.FeedState, error) {
	states, err := control.AskAll[control.IngestState](ctx, conn.NC, topology.Ingest, control.State, control.Nothing{})
	if err == nil && len(states) == 0 {
		err = fmt.Errorf("ask the ingest: %w: is it running, and with this broker?", control.ErrNobody)
	}

	feeds := []control.FeedState{}
	for _, s := range states {
		feeds = append(feeds, s.Feeds...)
	}

	return feeds, err
}

func showFeeds(out *text.Printer, feeds []control.FeedState) error {
	rows := [][]string{{"FEED", "STATE", "LAST FILE", "ROWS THIS HOUR", "USUAL", "LONGEST GAP"}}
	for _, f := range feeds {
		last, usual, gap := "-", "-", "-"
		if !f.LastFile.IsZero() {
			last = f.LastFile.Format(time.DateTime)
		}

		if f.Usual.Hours > 0 {
			usual = fmt.Sprintf("%d to %d", f.Usual.Least, f.Usual.Most)
			gap = text.Ago(time.Duration(f.Usual.GapSeconds) * time.Second)
		}

		rows = append(rows, []string{f.Name, client.FeedWords(f), last, fmt.Sprintf("%d in %s", f.Rows, text.Count(f.Files, "file")), usual, gap})
	}

	out.Table(rows)

	for _, f := range feeds {
		if f.Mute != nil {
			out.Printf("%s is muted until %s by %s: %s\n", f.Name, text.When(f.Mute.Until), f.Mute.By, f.Mute.Reason)
		}
	}

	return out.Err()
}

func feedsMuteCommand(envFile *string) *cobra.Command {
	var lasts time.Duration
	var req control.FeedMuteRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "mute NAME --for 8h --reason TEXT",
		Short: "Have what is unusual about a feed be no finding for a while",
		Long: `Mute the findings about what is unusual in a feed for a while: that always has an end, at most 31 days away. It changes nothing of what is
read and sent. With --for 0 it ends now. The journal notes it.`,
		Example: `  bobosync feeds mute default --for 8h --reason "BOBO is upgraded, ticket 4711"
  bobosync feeds mute default --for 0`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, func(ctx context.Context, conn *bus.Conn) (names []string, err error) {
			feeds, err := askFeeds(ctx, conn)
			for _, f := range feeds {
				names = append(names, f.Name)
			}

			return names, err
		}),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			if lasts != 0 && lasts < time.Second {
				return misused("--for is a time of a second or more, or 0")
			}

			req.Name, req.Seconds = args[0], int64(lasts/time.Second)

			feed, err := client.Mute(ctx, conn, orderOf(cmd), req)
			if err != nil {
				return err
			}

			if asJSON {
				return outOf(cmd).JSON(feed)
			}

			return showFeeds(outOf(cmd), []control.FeedState{feed})
		}),
	}
	flags := cmd.Flags()
	flags.DurationVar(&lasts, "for", 0, "how `long`: 8h, 48h, at most 744h; 0 ends it")
	flags.StringVar(&req.Reason, "reason", "", "why: a `text` without personal data")
	flags.BoolVar(&asJSON, "json", false, "answer in JSON")

	_ = cmd.MarkFlagRequired("for") // the flag exists
	completeFlag(cmd, "for", cobra.FixedCompletions([]string{"1h", "8h", "24h", "72h", "168h", "0"}, noNames))
	completeFlag(cmd, "reason", cobra.NoFileCompletions)

	return cmd
}
