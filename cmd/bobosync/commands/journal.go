package commands

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
)

// journalFlags are the flags by which an operator chooses entries of the journal.
type journalFlags struct {
	kind, since string
	most        int
	json        bool
}

func journalCommand(envFile *string) *cobra.Command {
	var f journalFlags
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Show what was done and when: files, refreshes, clearings, comparisons, replays, orders; newest first",
		Long: `Show what was done and when, newest first:

  file        a file was taken in and done, with its rows by outcome
  mapping     the mapping was refreshed
  cleanup     duty older than AUTO_CLEANUP_HOURS was cleared
  reconcile   AtHoc was compared with what it should hold
  purge       old files and records were deleted
  replay      current statuses were sent again
  operator    what an operator ordered: dead letters, replays, pauses, mass changes
  verdict     the status was WARNING or PROBLEM for a minute or more, from when to when
  audit       where the records of orders ended that day, for bobosync audit verify

It holds no personal data. If one of the services does not answer, the others' entries are shown, with a warning.`,
		Example: `  bobosync journal
  bobosync journal --since 24h --kind mapping
  bobosync journal --since "2024-06-17 02:00" --most 500 --json`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			entries, err := f.entries(ctx, conn, errOf(cmd))
			if err != nil {
				return err
			}

			if f.json {
				return outOf(cmd).JSON(entries)
			}

			return showJournal(outOf(cmd), entries, f.most)
		}),
	}
	cmd.Flags().StringVar(&f.kind, "kind", "", "only this `kind`: "+strings.Join(client.JournalKinds, ", "))
	cmd.Flags().StringVar(&f.since, "since", "", "only what began since this `time`, such as 24h or \"2024-06-17 02:00\"")
	cmd.Flags().IntVar(&f.most, "most", 50, "at most this `many` entries, the latest")
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
	completeFlag(cmd, "kind", cobra.FixedCompletions(client.JournalKinds, noNames))

	return cmd
}

// entries collects the journal's entries from all services that have any, newest first.
func (f journalFlags) entries(ctx context.Context, conn *bus.Conn, stderr *text.Printer) ([]control.JournalEntry, error) {
	if f.kind != "" && !slices.Contains(client.JournalKinds, f.kind) {
		return nil, misused("%q is no kind: there are %s", f.kind, strings.Join(client.JournalKinds, ", "))
	}

	if f.most < 1 {
		return nil, misused("--most must be at least 1")
	}

	var since time.Time
	if f.since != "" {
		var err error
		if since, err = moment(f.since, time.Now()); err != nil {
			return nil, err
		}
	}

	entries, failed, err := client.Journal(ctx, conn, client.JournalQuery{Kind: f.kind, Since: since, Most: f.most})
	for _, err := range failed {
		stderr.Printf("bobosync: warning: something is missing here: %v\n", err)
	}

	return entries, err
}

func showJournal(out *text.Printer, entries []control.JournalEntry, most int) error {
	if len(entries) == 0 {
		out.Printf("Nothing of that was done, as far as is known.\n")
		return out.Err()
	}

	rows := [][]string{{"BEGUN", "TOOK", "KIND", "OUTCOME", "BY", "WHAT"}}
	for _, e := range entries {
		took := "-"
		if !e.Ended.IsZero() {
			took = text.Ago(e.Ended.Sub(e.Started))
		}

		rows = append(rows, []string{text.When(e.Started), took, e.Kind, cmp.Or(e.Outcome, "under way"), cmp.Or(e.By, client.ByClock(e.Kind)), client.WhatOf(e)})
	}

	out.Table(rows)

	if len(entries) == most {
		out.Printf("(there may be older ones: --most shows more)\n")
	}

	return out.Err()
}
