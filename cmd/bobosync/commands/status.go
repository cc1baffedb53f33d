package commands

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"bobosync/cmd/bobosync/terminal"
	"bobosync/cmd/bobosync/view"
	"bobosync/shared/client"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// statusInterval is the time between two draws of a watched status.
const statusInterval = 2 * time.Second

// statusFlags are the flags of the status command.
type statusFlags struct {
	watch, json bool
	limits      verdict.Limits
}

func statusCommand(envFile *string) *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether duty data is fresh, what is wrong, and what to do",
		Long: `Say whether duty data in AtHoc is fresh, what is wrong, and what to do about it; then how much waits, who runs, and what is
done by the clock. The first line says up to when AtHoc is complete: every row of every file that arrived until then has its
outcome. The second line is the verdict:

  OK: ...        nothing need be done
  WARNING: ...   something needs a look, today
  PROBLEM: ...   duty data does not reach AtHoc, or soon will not

It asks all services at once and takes some seconds at most, also if nobody answers. A file counts as late when AtHoc does
not have all of it after LATE_AFTER, which is 2 minutes unless ingest's settings say otherwise; also when it came before the
services were started or had the broker back, until it is done.

Exit status: 0 OK, 1 WARNING, 2 PROBLEM (and 2 if it was called wrongly).`,
		Example: `  bobosync status
  bobosync status --watch
  bobosync status --json | jq -r .complete_up_to
  bobosync status --silent-after 36h     # no files come at weekends`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadSettings(cmd.Context(), *envFile)
			if err != nil {
				return err
			}

			observer := &client.Observer{Settings: s}
			defer observer.Close()

			if f.watch {
				return watchStatus(cmd.Context(), observer, cmd.OutOrStdout(), f)
			}

			facts, err := observer.Observe(cmd.Context())
			if err != nil {
				return err
			}

			_, color := terminal.Detect(cmd.OutOrStdout())

			return showStatus(cmd.OutOrStdout(), facts, f, view.Color(color))
		},
	}
	cmd.Flags().BoolVar(&f.watch, "watch", false, "redraw it every 2 seconds, until Ctrl-C")
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
	cmd.Flags().DurationVar(&f.limits.SilentAfter, "silent-after", verdict.DefaultSilentAfter, "warn if no new file has come for this `long`; 0 never warns")

	return cmd
}

// showStatus writes the status once, and returns its level as the exit status.
func showStatus(w io.Writer, f verdict.Facts, flags statusFlags, color view.Color) error {
	v := verdict.Judge(f, flags.limits)
	var err error
	if flags.json {
		if v.Findings == nil {
			v.Findings = []verdict.Finding{} // an empty list rather than JSON's null
		}

		err = text.JSON(w, struct {
			verdict.Verdict
			Facts verdict.Facts `json:"facts"`
		}{v, f})
	} else {
		err = view.Status(w, f, v, color)
	}

	if err == nil && v.Level > verdict.OK {
		err = ExitStatus(v.Level)
	}

	return err
}

// watchStatus shows the status repeatedly until ctx ends, on a terminal always in the same place.
func watchStatus(ctx context.Context, observer *client.Observer, w io.Writer, flags statusFlags) error {
	screen := view.NewScreen(w)

	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()

	for {
		facts, err := observer.Observe(ctx)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a watch ends
		}

		if err != nil {
			return err
		}

		err = screen.Draw(func(w io.Writer, color view.Color) error { return showStatus(w, facts, flags, color) })
		if status := ExitStatus(0); err != nil && !errors.As(err, &status) {
			return err
		}

		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
