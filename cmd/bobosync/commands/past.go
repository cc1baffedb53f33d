package commands

// The past: what AtHoc held for a worker, who was on duty, and what was sent from the rows of a file.

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// pastMoment reads a moment of the past as an operator writes it; "" is the zero time. Its errors are usageErrors. For
// a time in the hour that is repeated in autumn, the error names both moments.
func pastMoment(words string, now time.Time) (time.Time, error) {
	if words == "" {
		return time.Time{}, nil
	}

	t, err := client.PastMoment(words, now)
	if err != nil {
		return t, usageError{err}
	}

	return t, nil
}

// pastListed is how many of the earlier updates to AtHoc are listed. About 20,000 records lie between one and the
// next, so each costs a read of another file of the broker's store.
const pastListed = 3

// showPast shows what AtHoc held for a worker.
func showPast(ctx context.Context, conn *bus.Conn, out *text.Printer, worker, at string, asJSON bool) error {
	when, err := pastMoment(at, time.Now())
	if err != nil {
		return err
	}

	a, err := control.Ask[control.PastAnswer](ctx, conn.NC, topology.Resolver, control.WorkerPast, control.PastRequest{
		Text: worker, At: when, Most: pastListed, By: client.Whoami(),
	})
	if err != nil {
		return err
	}

	seen, err := client.LastSeen(ctx, conn, a)
	if err != nil {
		seen = nil // the janitor does not answer, but what AtHoc was sent is known all the same
	}

	names := client.FileNames(ctx, conn, a.Files())
	sentence := a.Sentence(names, time.Local)
	if asJSON {
		return out.JSON(struct {
			control.PastAnswer
			Sentence string            `json:"sentence"`
			Seen     *control.Seen     `json:"seen"`
			Files    map[string]string `json:"files"`
		}{a, sentence, seen, names})
	}

	out.Printf("Worker %s at %s\n%s.\n", a.Employee, text.Moment(a.At, time.Local), sentence)

	if seen != nil {
		out.Printf("%s.\n", text.Clean(seen.Words(time.Local)))
	}

	rows := [][]string{{"SENT", "STATUS", "BOOKED", "ANSWER", "CALL", "FILE", "LINE"}}
	for _, t := range a.Deliveries {
		answer := "none"
		if t.Outcome != "pending" {
			answer = t.Outcome + " at " + text.Moment(t.Answered, time.Local)
		}

		rows = append(rows, []string{
			text.Moment(t.Sent, time.Local), client.OnOrOff(t.On), text.Moment(t.Booked, time.Local), answer, text.Dash(t.Call), fileOf(t.File, names), lineOf(t.Line),
		})
	}

	if len(rows) > 1 {
		out.Printf("\n")
		out.Table(rows)
	}

	out.Printf("\nThe history is complete from %s on.\n", text.Moment(a.CompleteFrom, time.Local))

	return out.Err()
}

// listBooked lists what a worker booked in the files of the day before a moment, including what was superseded before
// anything was sent.
func listBooked(ctx context.Context, conn *bus.Conn, out *text.Printer, worker, at string, asJSON bool) error {
	when, err := pastMoment(at, time.Now())
	if err != nil {
		return err
	}

	if when.IsZero() {
		when = time.Now()
	}

	who, err := control.Ask[control.WorkerAnswer](ctx, conn.NC, topology.Resolver, control.WorkerShow, control.WorkerRequest{Text: worker})
	if err != nil {
		return err
	}

	b, err := client.Bookings(ctx, conn, who.Employee, when, client.Whoami())
	if err != nil {
		return err
	}

	if asJSON {
		return out.JSON(b)
	}

	rows := [][]string{{"BOOKED", "STATUS", "FILE CAME", "FILE", "LINE", "OUTCOME"}}
	for _, row := range b.Bookings {
		rows = append(rows, []string{
			text.Moment(row.At, time.Local), client.OnOrOff(row.On), text.Moment(row.Arrived, time.Local), row.Name, lineOf(row.Line), text.Dash(row.Outcome),
		})
	}

	if len(rows) > 1 {
		out.Table(rows)
	} else {
		out.Printf("There is no booking of worker %s in the files of the day before %s.\n", text.Dash(who.Employee), text.Moment(when, time.Local))
	}

	if missing := client.BookingsMissing(b); missing != "" {
		out.Printf("%s.\n", missing)
	}

	return out.Err()
}

func onDutyCommand(envFile *string) *cobra.Command {
	var at string
	var asCSV, asJSON bool
	cmd := &cobra.Command{
		Use:   "onduty",
		Short: "List whom AtHoc held as on duty, now or at a moment of the past",
		Long: `List whom AtHoc held as on duty, now or at a moment of the past, as far as this program sent it. What counts is when AtHoc answered.
Those of whom it is uncertain, since a call had no answer, or none yet, are listed as such. What was set in AtHoc by hand is not known here: see
bobosync reconcile. The audit records who asks.`,
		Example: `  bobosync onduty
  bobosync onduty --at "2026-06-17 03:12"
  bobosync onduty --at 2026-10-25T01:30:00+01:00 --csv > onduty.csv`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			when, err := pastMoment(at, time.Now())
			if err != nil {
				return err
			}

			a, err := client.OnDuty(ctx, conn, when, client.Whoami())
			if err != nil {
				return err
			}

			switch out := outOf(cmd); {
			case asJSON:
				return out.JSON(a)
			case asCSV:
				return onDutyAsCSV(out, a)
			default:
				showOnDuty(out, a)
				return out.Err()
			}
		}),
	}
	cmd.Flags().StringVar(&at, "at", "", "at this `time`, such as \"2026-06-17 03:12\" or 90m ago")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "as CSV: worker, user, state, since, answered, call")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")

	return cmd
}

func onDutyAsCSV(out *text.Printer, a control.OnDutyAnswer) error {
	rows := [][]string{{"worker", "user", "state", "since", "answered", "call"}}
	for _, w := range a.Workers {
		rows = append(rows, []string{w.Employee, w.User, string(w.State), stamp(w.Since), stamp(w.Answered), w.Call})
	}

	return out.CSV(rows...)
}

// stamp writes a moment for programs, with its offset, or "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

func showOnDuty(out *text.Printer, a control.OnDutyAnswer) {
	out.Printf("%d on duty at %s", a.Total, text.Moment(a.At, time.Local))

	if a.Uncertain > 0 {
		out.Printf(", and of %d it is uncertain", a.Uncertain)
	}

	out.Printf("; the history is complete from %s on.\n", text.Moment(a.CompleteFrom, time.Local))

	if len(a.Workers) == 0 {
		return
	}

	rows := [][]string{{"WORKER", "USER", "STATE", "SINCE", "ANSWERED"}}
	for _, w := range a.Workers {
		rows = append(rows, []string{text.Dash(w.Employee), w.User, string(w.State), text.Moment(w.Since, time.Local), text.Moment(w.Answered, time.Local)})
	}

	out.Table(rows)
}

func filesReceiptCommand(envFile *string) *cobra.Command {
	var asCSV, asJSON bool
	cmd := &cobra.Command{
		Use:   "receipt NAME-or-ID",
		Short: "Account for each row of a file: the call that sent it to AtHoc and its answer, or why there was none",
		Long: `Account for each row of a file: the call that sent it to AtHoc, when it was sent, what AtHoc answered and when; or why there was no
call. Workers are not named.`,
		Example: `  bobosync files receipt monday.csv
  bobosync files receipt monday.csv --csv > receipt.csv
  bobosync files receipt monday.csv --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, fileNames),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			answer, err := client.AskFiles(ctx, conn, control.FilesRequest{Text: args[0]})
			if err != nil {
				return err
			}

			if len(answer.Files) == 0 {
				return unknownFile(ctx, conn, args[0])
			}

			all := []client.Receipt{} // an empty list rather than JSON's null
			for _, f := range answer.Files {
				r, err := client.ReceiptOf(ctx, conn, f, client.Whoami())
				if err != nil {
					return err
				}

				all = append(all, r)
			}

			switch out := outOf(cmd); {
			case asJSON:
				return out.JSON(all)
			case asCSV:
				return receiptsAsCSV(out, all)
			default:
				showReceipts(out, all)
				return out.Err()
			}
		}),
	}
	cmd.Flags().BoolVar(&asCSV, "csv", false, "as CSV: file, line, outcome, call, sent, answered, status, answer, why")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")

	return cmd
}

func receiptsAsCSV(out *text.Printer, all []client.Receipt) error {
	if err := out.CSV([]string{"file", "line", "outcome", "call", "sent", "answered", "status", "answer", "why"}); err != nil {
		return err
	}

	for _, f := range all {
		for _, row := range f.Rows {
			line := strconv.Itoa(row.Line)
			for _, c := range row.Calls {
				if err := out.CSV([]string{f.Name, line, row.Outcome, c.Call, stamp(c.Sent), stamp(c.Answered), strconv.Itoa(c.Status), c.Outcome, ""}); err != nil {
					return err
				}
			}

			if len(row.Calls) == 0 {
				if err := out.CSV([]string{f.Name, line, row.Outcome, "", "", "", "", "", row.Why}); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

func showReceipts(out *text.Printer, all []client.Receipt) {
	for _, f := range all {
		out.Printf("%s (%s), %s\n", f.Name, text.Short(f.ID), text.Count(len(f.Rows), "row"))

		for _, row := range f.Rows {
			for _, c := range row.Calls {
				out.Printf("  line %d: %s: %s\n", row.Line, row.Outcome, c.Words(time.Local))
			}

			if len(row.Calls) == 0 {
				out.Printf("  line %d: %s: %s\n", row.Line, row.Outcome, row.Why)
			}
		}
	}
}
