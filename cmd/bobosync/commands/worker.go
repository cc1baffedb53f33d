package commands

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func workerCommand(envFile *string) *cobra.Command {
	var asJSON, slowest, bookings bool
	var at string
	cmd := &cobra.Command{
		Use:   "worker [ID-or-USERNAME | --slowest]",
		Short: "Say why AtHoc shows a worker as it does",
		Long: `Say what AtHoc should show for a worker and how far that has come: the user whom the mapping names, the latest booking with the
file and line that it is from, what was sent, what AtHoc answered, and the worker's bookings that the broker still keeps.

With --at it says what AtHoc held of the worker at that moment, as far as this program sent it, and by which call, file and line that is
known; or that it is uncertain, since a call had no answer, or none yet. What counts is when AtHoc answered. The audit records who asks.

With --bookings it lists what the worker had booked by now, or by that moment, in the files that came within the day before, with what became of each
row: also of those that were superseded before anything was sent. The files are read again, as far as they are still there. The audit
records who asks, too.

With --slowest it is the worker whose booking took longest of the last hour, from its file's arrival until AtHoc's answer.`,
		Example: `  bobosync worker 12345
  bobosync worker john.doe@example.org
  bobosync worker 12345 --json
  bobosync worker 12345 --at "2026-06-17 03:12"
  bobosync worker 12345 --at 2026-10-25T01:30:00+01:00   # in the hour that autumn repeats
  bobosync worker 12345 --bookings --at "2026-06-17 03:12"
  bobosync worker --slowest`,
		Args: func(cmd *cobra.Command, args []string) error {
			if slowest {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			if bookings {
				return listBooked(ctx, conn, outOf(cmd), args[0], at, asJSON)
			}

			if at != "" {
				return showPast(ctx, conn, outOf(cmd), args[0], at, asJSON)
			}

			if slowest {
				return explainSlowest(ctx, conn, outOf(cmd), asJSON)
			}

			return explainWorker(ctx, conn, outOf(cmd), args[0], asJSON)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON; files holds the files' names by id")
	cmd.Flags().StringVar(&at, "at", "", "say what AtHoc held at this `time`, such as \"2026-06-17 03:12\" or 90m ago")
	cmd.Flags().BoolVar(&slowest, "slowest", false, "show the worker whose booking took longest of the last hour")
	cmd.Flags().BoolVar(&bookings, "bookings", false, "list what the worker has booked, with what became of it")
	cmd.MarkFlagsMutuallyExclusive("at", "slowest")
	cmd.MarkFlagsMutuallyExclusive("bookings", "slowest")

	return cmd
}

// explainWorker explains why AtHoc shows what it shows for a worker, who is given by employee id or username.
func explainWorker(ctx context.Context, conn *bus.Conn, out *text.Printer, who string, asJSON bool) error {
	answer, err := control.Ask[control.WorkerAnswer](ctx, conn.NC, topology.Resolver, control.WorkerShow, control.WorkerRequest{Text: who})
	if err != nil {
		return err
	}

	names := client.FileNames(ctx, conn, client.FilesOf(answer))
	if asJSON {
		return out.JSON(struct {
			control.WorkerAnswer
			Files map[string]string `json:"files"`
		}{answer, names})
	}

	return showWorker(out, answer, names)
}

// explainSlowest explains the worker whose booking took longest in the last hour. Unless asJSON, it first shows how
// long that was. It is an error if no row was confirmed in that hour.
func explainSlowest(ctx context.Context, conn *bus.Conn, out *text.Printer, asJSON bool) error {
	answer, err := control.Ask[control.SlowestAnswer](ctx, conn.NC, topology.Ingest, control.Slowest, control.Nothing{})
	if err != nil {
		return err
	}

	row := answer.Row
	if row == nil || answer.Employee == "" {
		return errors.New("AtHoc has confirmed no row within the last hour, or since ingest began")
	}

	if !asJSON {
		out.Printf("Slowest of the last hour: line %d of %s, %s from arrival to AtHoc's answer at %s\n(%s until the file had stopped changing, %s in this program, %s for AtHoc).\n\n",
			row.Line, row.File, text.Seconds(row.MS), text.When(row.Confirmed), text.Seconds(row.Settling), text.Seconds(row.Us), text.Seconds(row.AtHoc))
	}

	return explainWorker(ctx, conn, out, answer.Employee, asJSON)
}

func showWorker(out *text.Printer, a control.WorkerAnswer, names map[string]string) error {
	switch {
	case a.Employee == "":
		out.Printf("AtHoc user %s\n", a.User)
	case a.User == "":
		out.Printf("Worker %s\n", a.Employee)
	default:
		out.Printf("Worker %s, AtHoc user %s\n", a.Employee, a.User)
	}

	out.Printf("%s\n", a.Status)

	if !a.InDoubt.IsZero() {
		out.Printf("A call ended without an answer: the status is resent at %s.\n", text.When(a.InDoubt))
	}

	rows := [][]string{{"\n", "STATUS", "BOOKED", "FILE", "LINE", "ANSWER"}}
	if e := a.Latest; e != nil {
		stale := ""
		if a.Stale {
			stale = "older than AUTO_CLEANUP_HOURS: off duty to AtHoc"
		}

		rows = append(rows, []string{"latest", client.OnOrOff(e.On), text.When(e.At), fileOf(e.File, names), lineOf(e.Row), text.Dash(stale)})
	}

	rows = appendStatus(rows, "sent", a.Sent, names)
	rows = appendStatus(rows, "confirmed", a.Confirmed, names)
	if len(rows) > 1 {
		out.Table(rows)
	}

	return showBookings(out, a, names)
}

func appendStatus(rows [][]string, what string, s *control.WorkerStatus, names map[string]string) [][]string {
	if s == nil {
		return rows
	}

	answer := text.Dash(s.Outcome)
	if !s.Answered.IsZero() {
		answer += " at " + text.When(s.Answered)
	}

	return append(rows, []string{what, client.OnOrOff(s.On), text.When(s.At), fileOf(s.File, names), lineOf(s.Row), answer})
}

func showBookings(out *text.Printer, a control.WorkerAnswer, names map[string]string) error {
	if len(a.Events) > 0 {
		out.Printf("\n")

		rows := [][]string{{"BOOKINGS", "STATUS", "FILE", "LINE"}}
		for _, e := range a.Events {
			rows = append(rows, []string{text.When(e.At), client.OnOrOff(e.On), fileOf(e.File, names), lineOf(e.Row)})
		}

		out.Table(rows)
	}

	if a.Partial {
		out.Printf("Not all entries could be read in time: bookings may be missing here.\n")
	}

	return out.Err()
}

// fileOf returns a file's name, or its id if the name is not known.
func fileOf(id string, names map[string]string) string {
	if name := names[id]; name != "" {
		return name
	}
	return text.Dash(text.Short(id))
}

func lineOf(row int) string {
	if row <= 0 {
		return "-"
	}
	return strconv.Itoa(row)
}
