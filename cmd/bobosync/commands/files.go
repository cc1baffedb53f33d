package commands

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/observe"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

func filesCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "files",
		Short: "See where a file is, and what became of its rows",
		Long: `See where a file is, and what became of its rows. A file stays in CSV_DIRECTORY until every row of it is settled, so nothing is
ever lost; bobosync files show says what it waits for.`,
		Example: `  bobosync files list
  bobosync files list --open
  bobosync files show monday.csv
  bobosync files show monday.csv --csv > to-fix.csv
  bobosync files try tuesday.csv
  bobosync files receipt monday.csv`,
	}
	cmd.AddCommand(filesListCommand(envFile), filesShowCommand(envFile), filesTryCommand(envFile), filesReceiptCommand(envFile))

	return cmd
}

// failedAmong is how many of the latest files are searched for failed ones, unless --most is given.
const failedAmong = 500

func filesListCommand(envFile *string) *cobra.Command {
	var req control.FilesRequest
	var failed, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List files, in the order of reading",
		Long: `List files, in the order of reading: where each is, and its rows. PENDING counts the rows that AtHoc has not confirmed and that
are not settled otherwise; a file goes when it is 0. FEED is there where there are several feeds.`,
		Example: `  bobosync files list
  bobosync files list --open         # what waits
  bobosync files list --failed       # what lies among the failed files
  bobosync files list --json --most 200`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			if failed && !cmd.Flags().Changed("most") {
				req.Most = failedAmong // failed files are few
			}

			answer, err := client.AskFiles(ctx, conn, req)
			if err != nil {
				return err
			}

			answer.Files = slices.DeleteFunc(answer.Files, func(f control.FileState) bool { return failed && !f.Failed })
			if asJSON {
				return outOf(cmd).JSON(answer)
			}

			return showFiles(outOf(cmd), answer)
		}),
	}
	cmd.Flags().BoolVar(&req.Open, "open", false, "only files that are not finished")
	cmd.Flags().BoolVar(&failed, "failed", false, "only files with dead rows, or that cannot be read as text")
	cmd.Flags().IntVar(&req.Most, "most", 50, "look at this `many` files, the latest ones; with --failed 500")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.MarkFlagsMutuallyExclusive("open", "failed")

	return cmd
}

func showFiles(out *text.Printer, answer control.FilesAnswer) error {
	if answer.More > 0 {
		out.Printf("(%d earlier files are left out; --most shows more)\n", answer.More)
	}

	rows := [][]string{{"ID", "FEED", "NAME", "STATUS", "ROWS", "REJECTED", "PENDING", "FIRST SEEN", "FINISHED"}}
	for _, f := range answer.Files {
		rows = append(rows, []string{
			text.Short(f.ID), f.Feed, f.Name, client.FileStatus(f), strconv.Itoa(f.Rows), strconv.Itoa(f.Rejected), strconv.Itoa(f.Pending),
			text.When(f.FirstSeen), text.When(f.Finished),
		})
	}

	if !slices.ContainsFunc(answer.Files, func(f control.FileState) bool { return f.Feed != "" && f.Feed != control.DefaultFeed }) {
		for i := range rows {
			rows[i] = slices.Delete(rows[i], 1, 2)
		}
	}

	out.Table(rows)

	for _, name := range slices.Sorted(maps.Keys(answer.Problems)) {
		p := answer.Problems[name]
		out.Printf("%s cannot be read since %s: %s\n", name, text.When(p.Since), p.Reason)
	}

	if answer.MoreProblems > 0 {
		out.Printf("and %d other names that cannot be read\n", answer.MoreProblems)
	}

	return out.Err()
}

func filesShowCommand(envFile *string) *cobra.Command {
	var all, asCSV, asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME-or-ID",
		Short: "Show a file: where it is and why, and the rows that somebody may have to look after",
		Long: `Show a file: where it is and why it is not done, its outcomes, its history, and each row that was rejected, is dead, or whose
worker AtHoc does not know, with its line and the reason. Values of a row are never shown: look at the line in the file
itself.

--csv writes these rows as CSV (file, line, outcome, reason), to send back to the people who made the file.`,
		Example: `  bobosync files show monday.csv
  bobosync files show 5f3a9c01b2d4                        # by id, if several files had the name
  bobosync files show monday.csv --csv > to-fix.csv
  bobosync files show monday.csv --all --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, fileNames),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			answer, err := client.AskFiles(ctx, conn, control.FilesRequest{Text: args[0]})
			if err != nil {
				return err
			}

			if p, ok := answer.Problems[args[0]]; ok {
				errOf(cmd).Printf("%s cannot be read since %s: %s\n", args[0], text.When(p.Since), p.Reason)
			}

			if len(answer.Files) == 0 {
				return unknownFile(ctx, conn, args[0])
			}

			out := outOf(cmd)
			if asCSV {
				return filesAsCSV(ctx, conn, out, answer.Files, all)
			}

			for _, f := range answer.Files {
				printer, end := newRowPrinter(out, f, whereabouts(ctx, conn, f), asJSON)
				if err := client.EachRow(ctx, conn, f, all, printer); err != nil {
					return err
				}

				if err := end(); err != nil {
					return err
				}
			}

			return nil
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "every row")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "the rows as CSV: file, line, outcome, reason")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")

	return cmd
}

// fileNames returns the names of the latest files, for the shell's completion.
func fileNames(ctx context.Context, conn *bus.Conn) ([]string, error) {
	answer, err := control.Ask[control.FilesAnswer](ctx, conn.NC, topology.Ingest, control.Files, control.FilesRequest{})
	names := make([]string, 0, len(answer.Files))
	for _, f := range answer.Files {
		names = append(names, f.Name)
	}

	return names, err
}

// unknownFile explains why there is no record of a file: it may still be being written.
func unknownFile(ctx context.Context, conn *bus.Conn, name string) error {
	states, err := control.AskAll[control.IngestState](ctx, conn.NC, topology.Ingest, control.State, control.Nothing{})
	if err != nil {
		return err
	}

	for _, s := range states {
		if since, growing := s.Unsettled[name]; growing {
			return fmt.Errorf("%s keeps changing since %s and is not read until it stops: see what writes to it", name, text.When(since))
		}
	}

	return fmt.Errorf("no file %q is known: bobosync files list shows the names; a file is known once it lies in CSV_DIRECTORY and has stopped changing", name)
}

// whereabouts returns a sentence that says where a file is and why it is not finished.
func whereabouts(ctx context.Context, conn *bus.Conn, f control.FileState) string {
	if client.Finished(f) {
		return client.Whereabouts(f, verdict.Facts{}, verdict.Verdict{})
	}

	facts := observe.Facts(ctx, conn)

	return client.Whereabouts(f, facts, verdict.Judge(facts, verdict.Limits{}))
}

// filesAsCSV writes the rows of files as CSV, for the people who made the files.
func filesAsCSV(ctx context.Context, conn *bus.Conn, out *text.Printer, files []control.FileState, all bool) error {
	if err := out.CSV([]string{"file", "line", "outcome", "reason"}); err != nil {
		return err
	}

	for _, f := range files {
		err := client.EachRow(ctx, conn, f, all, func(rows []control.RowState) error {
			cells := make([][]string, len(rows))
			for i, r := range rows {
				cells[i] = []string{f.Name, strconv.Itoa(r.Line), r.Outcome, r.Text}
			}

			return out.CSV(cells...)
		})
		if err != nil {
			return err
		}
	}

	return nil
}

func newRowPrinter(out *text.Printer, f control.FileState, where string, asJSON bool) (do client.RowsDo, end func() error) {
	if !asJSON {
		describe(out, f, where)

		return func(rows []control.RowState) error {
			for _, r := range rows {
				out.Printf("  line %d: %s: %s\n", r.Line, r.Outcome, r.Text)
			}
			return out.Err()
		}, out.Err
	}

	whole := struct {
		control.FileState
		Where string             `json:"where"`
		Lines []control.RowState `json:"lines"`
	}{FileState: f, Where: where, Lines: []control.RowState{}}

	return func(rows []control.RowState) error {
			whole.Lines = append(whole.Lines, rows...)
			return nil
		}, func() error {
			return out.JSON(whole)
		}
}

// describe prints what is known of a file as a whole.
func describe(out *text.Printer, f control.FileState, where string) {
	out.Printf("%s\n  %s\n  id        %s\n  status    %s\n", f.Name, where, f.ID, client.FileStatus(f))
	out.Printf("  rows      %d, of them %d rejected, %d waiting\n", f.Rows, f.Rejected, f.Pending)

	var outcomes []string
	for _, name := range slices.Sorted(maps.Keys(f.Outcomes)) {
		outcomes = append(outcomes, fmt.Sprintf("%d %s", f.Outcomes[name], name))
	}

	out.Printf("  outcomes  %s\n", text.Dash(strings.Join(outcomes, ", ")))

	for _, path := range f.Paths {
		out.Printf("  lies in   %s\n", path)
	}

	for _, n := range f.History {
		out.Printf("  %s  %s\n", text.When(n.At), n.Text)
	}
}
