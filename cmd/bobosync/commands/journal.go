package commands

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// Kinds of entries that are not in the janitor's journal, but told by ingest and the resolver.
const (
	kindFile   = "file"
	kindReplay = "replay"
)

var journalKinds = []string{
	kindFile, control.DutyMapping, control.DutyCleanup, control.DutyReconcile, control.DutyPurge, control.KindOperator, control.KindAudit, kindReplay,
}

// journalFlags are what an operator wants to see.
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
	cmd.Flags().StringVar(&f.kind, "kind", "", "only this `kind`: "+strings.Join(journalKinds, ", "))
	cmd.Flags().StringVar(&f.since, "since", "", "only what began since this `time`, such as 24h or \"2024-06-17 02:00\"")
	cmd.Flags().IntVar(&f.most, "most", 50, "at most this `many` entries, the latest")
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
	completeFlag(cmd, "kind", cobra.FixedCompletions(journalKinds, noNames))
	return cmd
}

// entries gathers what was done from all who know of it, newest first.
func (f journalFlags) entries(ctx context.Context, conn *bus.Conn, stderr *text.Printer) ([]control.JournalEntry, error) {
	if f.kind != "" && !slices.Contains(journalKinds, f.kind) {
		return nil, misused("%q is no kind: there are %s", f.kind, strings.Join(journalKinds, ", "))
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
	all := []control.JournalEntry{} // JSON's null is no list
	var failed []error
	asked := 0
	for _, source := range []struct {
		has bool
		ask func(context.Context, *bus.Conn, time.Time) ([]control.JournalEntry, error)
	}{
		{f.kind == "" || f.kind != kindFile && f.kind != kindReplay, f.done},
		{f.kind == "" || f.kind == kindFile, f.files},
		{f.kind == "" || f.kind == kindReplay, replayEntries},
	} {
		if !source.has {
			continue
		}
		asked++
		some, err := source.ask(ctx, conn, since)
		if err != nil {
			failed = append(failed, err)
		}
		all = append(all, some...)
	}
	if len(failed) == asked {
		return nil, errors.Join(failed...)
	}
	for _, err := range failed {
		stderr.Printf("bobosync: warning: something is missing here: %v\n", err)
	}
	return latest(all, since, f.most), nil
}

// latest sorts entries, the newest first, and cuts them.
func latest(all []control.JournalEntry, since time.Time, most int) []control.JournalEntry {
	all = slices.DeleteFunc(all, func(e control.JournalEntry) bool { return e.Started.Before(since) })
	slices.SortStableFunc(all, func(a, b control.JournalEntry) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})
	return all[:min(len(all), most)]
}

// done asks the janitor, part by part.
func (f journalFlags) done(ctx context.Context, conn *bus.Conn, since time.Time) ([]control.JournalEntry, error) {
	var all []control.JournalEntry
	req := control.JournalRequest{Kind: f.kind, Since: since}
	for {
		req.Most = min(f.most-len(all), 200)
		answer, err := control.Ask[control.JournalAnswer](ctx, conn.NC, topology.Janitor, control.Journal, req)
		if err != nil {
			return all, err
		}
		all = append(all, answer.Entries...)
		if !answer.More || len(answer.Entries) == 0 || len(all) >= f.most {
			return all, nil
		}
		req.Before = answer.Entries[len(answer.Entries)-1].ID
	}
}

// files asks ingest for the files that are finished.
func (f journalFlags) files(ctx context.Context, conn *bus.Conn, _ time.Time) ([]control.JournalEntry, error) {
	answer, err := client.AskFiles(ctx, conn, control.FilesRequest{Most: f.most})
	if err != nil {
		return nil, err
	}
	var all []control.JournalEntry
	for _, file := range answer.Files {
		if !file.Finished.IsZero() {
			all = append(all, fileEntry(file))
		}
	}
	return all, nil
}

func fileEntry(f control.FileState) control.JournalEntry {
	e := control.JournalEntry{
		ID: f.ID, Kind: kindFile, Started: f.FirstSeen, Ended: f.Finished, Outcome: control.OutcomeOK, Text: f.Name,
		Counts: map[string]int{"rows": f.Rows}, Error: f.Problem,
	}
	if f.Failed {
		e.Outcome = control.OutcomeFailed
	}
	if f.Rejected > 0 {
		e.Counts["rejected"] = f.Rejected
	}
	for _, o := range event.Outcomes() {
		if n := f.Outcomes[o.String()]; n > 0 {
			e.Counts[o.String()] = n
		}
	}
	return e
}

func replayEntries(ctx context.Context, conn *bus.Conn, _ time.Time) ([]control.JournalEntry, error) {
	replays, err := control.Ask[[]control.ReplayState](ctx, conn.NC, topology.Resolver, control.Replays, control.Nothing{})
	if err != nil {
		return nil, err
	}
	all := make([]control.JournalEntry, 0, len(replays))
	for _, r := range replays {
		e := control.JournalEntry{
			ID: r.ID, Kind: kindReplay, By: r.By, Started: r.Started, Ended: r.Ended, Text: r.What,
			Counts: map[string]int{"users": r.Users, "left": r.Left},
		}
		switch {
		case r.Stopped:
			e.Outcome = control.OutcomeInterrupted
		case !r.Ended.IsZero():
			e.Outcome = control.OutcomeOK
		}
		all = append(all, e)
	}
	return all, nil
}

func showJournal(out *text.Printer, entries []control.JournalEntry, most int) error {
	if len(entries) == 0 {
		out.Printf("Nothing of that was done, as far as anybody knows.\n")
		return nil
	}
	rows := [][]string{{"BEGUN", "TOOK", "KIND", "OUTCOME", "BY", "WHAT"}}
	for _, e := range entries {
		took := "-"
		if !e.Ended.IsZero() {
			took = text.Ago(e.Ended.Sub(e.Started))
		}
		rows = append(rows, []string{text.When(e.Started), took, e.Kind, cmp.Or(e.Outcome, "under way"), cmp.Or(e.By, byClock(e.Kind)), whatOf(e)})
	}
	out.Table(rows)
	if len(entries) == most {
		out.Printf("(there may be older ones: --most shows more)\n")
	}
	return nil
}

// byClock says who did what nobody ordered.
func byClock(kind string) string {
	if kind == kindFile {
		return "-"
	}
	return "clock"
}

// whatOf says in a line what was done.
func whatOf(e control.JournalEntry) string {
	var parts []string
	for _, part := range []string{e.Text, countsOf(e), e.Error} {
		if part != "" {
			parts = append(parts, strings.ReplaceAll(part, "\n", " "))
		}
	}
	return strings.Join(parts, ": ")
}

// countsOf shows what is counted; a file's rows come first.
func countsOf(e control.JournalEntry) string {
	if e.Kind != kindFile {
		return counts(e.Counts)
	}
	rest := maps.Clone(e.Counts)
	delete(rest, "rows")
	return strings.TrimSuffix(text.Count(e.Counts["rows"], "row")+", "+counts(rest), ", ")
}
