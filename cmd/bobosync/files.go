package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func filesCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "files",
		Short: "See where a file is, and what became of its rows",
		Example: `  bobosync files list
  bobosync files list --open
  bobosync files show monday.csv
  bobosync files show monday.csv --csv > rejected.csv`,
	}
	cmd.AddCommand(filesListCommand(envFile), filesShowCommand(envFile))
	return cmd
}

func filesListCommand(envFile *string) *cobra.Command {
	var req control.FilesRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List files, in the order of reading",
		Args:  cobra.NoArgs,
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			answer, err := control.Ask[control.FilesAnswer](ctx, conn.NC, topology.Ingest, control.Files, req)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			return showFiles(cmd.OutOrStdout(), answer)
		}),
	}
	cmd.Flags().BoolVar(&req.Open, "open", false, "only files that are not finished")
	cmd.Flags().IntVar(&req.Most, "most", 50, "the most files to list, the latest ones")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func showFiles(out io.Writer, answer control.FilesAnswer) error {
	if answer.More > 0 {
		fmt.Fprintf(out, "(%d earlier files are left out; --most shows more)\n", answer.More)
	}
	rows := [][]string{{"ID", "NAME", "STATUS", "ROWS", "REJECTED", "PENDING", "FIRST SEEN", "FINISHED"}}
	for _, f := range answer.Files {
		rows = append(rows, []string{
			f.ID[:12], f.Name, statusOf(f), strconv.Itoa(f.Rows), strconv.Itoa(f.Rejected), strconv.Itoa(f.Pending),
			when(f.FirstSeen), when(f.Finished),
		})
	}
	if err := table(out, rows); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(answer.Problems)) {
		p := answer.Problems[name]
		fmt.Fprintf(out, "%s cannot be read since %s: %s\n", name, when(p.Since), p.Reason)
	}
	return nil
}

func statusOf(f control.FileState) string {
	switch {
	case f.Problem != "":
		return "set aside"
	case f.Failed:
		return f.Status + " (failed)"
	default:
		return f.Status
	}
}

// rowPrinter writes rows as they come.
type rowPrinter func(file control.FileState, rows []control.RowState) error

func filesShowCommand(envFile *string) *cobra.Command {
	var all, asCSV, asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME-or-ID",
		Short: "Show a file: its outcomes, its history, and the rows that somebody may have to look after",
		Long: `Show a file: its outcomes, its history, and each row that was rejected, is dead, or whose worker AtHoc does not know, with its
line and the reason. Values of a row are never shown: look at the line in the file itself.`,
		Args: cobra.ExactArgs(1),
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			answer, err := control.Ask[control.FilesAnswer](ctx, conn.NC, topology.Ingest, control.Files, control.FilesRequest{Text: args[0]})
			if err != nil {
				return err
			}
			if p, ok := answer.Problems[args[0]]; ok {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s cannot be read since %s: %s\n", args[0], when(p.Since), p.Reason)
			}
			if len(answer.Files) == 0 {
				return fmt.Errorf("no file %q is known", args[0])
			}
			out := cmd.OutOrStdout()
			for _, f := range answer.Files {
				printer, end := newRowPrinter(out, f, asCSV, asJSON)
				if err := eachRow(ctx, conn, f, all, printer); err != nil {
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
	cmd.Flags().BoolVar(&asCSV, "csv", false, "the rows as CSV: file, line, outcome, explanation")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")
	return cmd
}

// eachRow asks for a file's rows, part by part.
func eachRow(ctx context.Context, conn *bus.Conn, f control.FileState, all bool, do rowPrinter) error {
	req := control.RowsRequest{ID: f.ID, All: all}
	for {
		answer, err := control.Ask[control.RowsAnswer](ctx, conn.NC, topology.Ingest, control.FileRows, req)
		if err != nil {
			return err
		}
		if err := do(f, answer.Rows); err != nil {
			return err
		}
		if !answer.More {
			return nil
		}
		req.After = answer.Rows[len(answer.Rows)-1].Line
	}
}

func newRowPrinter(out io.Writer, f control.FileState, asCSV, asJSON bool) (do rowPrinter, end func() error) {
	switch {
	case asCSV:
		w := csv.NewWriter(out)
		return func(f control.FileState, rows []control.RowState) error {
				for _, r := range rows {
					if err := w.Write([]string{f.Name, strconv.Itoa(r.Line), r.Outcome, r.Text}); err != nil {
						return fmt.Errorf("write the answer: %w", err)
					}
				}
				return nil
			}, func() error {
				w.Flush()
				return w.Error()
			}
	case asJSON:
		whole := struct {
			control.FileState
			Lines []control.RowState `json:"lines"`
		}{FileState: f, Lines: []control.RowState{}}
		return func(_ control.FileState, rows []control.RowState) error {
				whole.Lines = append(whole.Lines, rows...)
				return nil
			}, func() error {
				return printJSON(out, whole)
			}
	default:
		describe(out, f)
		return func(_ control.FileState, rows []control.RowState) error {
			for _, r := range rows {
				fmt.Fprintf(out, "  line %d: %s: %s\n", r.Line, r.Outcome, r.Text)
			}
			return nil
		}, func() error { return nil }
	}
}

// describe writes what is known of a file as a whole.
func describe(out io.Writer, f control.FileState) {
	fmt.Fprintf(out, "%s\n  id        %s\n  status    %s\n", f.Name, f.ID, statusOf(f))
	if f.Problem != "" {
		fmt.Fprintf(out, "  reason    %s\n", f.Problem)
	}
	fmt.Fprintf(out, "  rows      %d, of them %d rejected, %d waiting\n", f.Rows, f.Rejected, f.Pending)
	var outcomes []string
	for _, name := range slices.Sorted(maps.Keys(f.Outcomes)) {
		outcomes = append(outcomes, fmt.Sprintf("%d %s", f.Outcomes[name], name))
	}
	fmt.Fprintf(out, "  outcomes  %s\n", dash(strings.Join(outcomes, ", ")))
	for _, path := range f.Paths {
		fmt.Fprintf(out, "  lies in   %s\n", path)
	}
	for _, n := range f.History {
		fmt.Fprintf(out, "  %s  %s\n", when(n.At), n.Text)
	}
}
