package commands

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func workerCommand(envFile *string) *cobra.Command {
	var asJSON, slowest bool
	cmd := &cobra.Command{
		Use:   "worker [ID-or-USERNAME | --slowest]",
		Short: "Say why AtHoc shows a worker as it does",
		Long: `Say what AtHoc should show for a worker and how far that has come: the user whom the mapping names, the latest booking with the
file and line that it is from, what was sent, what AtHoc answered, and the worker's bookings that the broker still keeps.

With --slowest it is the worker whose booking took longest of the last hour, from its file's arrival until AtHoc's answer.`,
		Example: `  bobosync worker 12345
  bobosync worker john.doe@example.org
  bobosync worker 12345 --json
  bobosync worker --slowest`,
		Args: func(cmd *cobra.Command, args []string) error {
			if slowest {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			if slowest {
				employee, err := slowestWorker(ctx, conn, outOf(cmd), asJSON)
				if err != nil {
					return err
				}
				args = []string{employee}
			}
			answer, err := control.Ask[control.WorkerAnswer](ctx, conn.NC, topology.Resolver, control.WorkerShow, control.WorkerRequest{Text: args[0]})
			if err != nil {
				return err
			}
			names := namesOfFiles(ctx, conn, answer)
			if asJSON {
				return outOf(cmd).JSON(struct {
					control.WorkerAnswer
					Files map[string]string `json:"files"`
				}{answer, names})
			}
			return showWorker(outOf(cmd), answer, names)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON; files holds the files' names by id")
	cmd.Flags().BoolVar(&slowest, "slowest", false, "show the worker whose booking took longest of the last hour")
	return cmd
}

// slowestWorker returns the worker whose booking took longest, and says how long unless it is to be JSON. It is an error if
// AtHoc has confirmed nothing lately.
func slowestWorker(ctx context.Context, conn *bus.Conn, out *text.Printer, quiet bool) (string, error) {
	answer, err := control.Ask[control.SlowestAnswer](ctx, conn.NC, topology.Ingest, control.Slowest, control.Nothing{})
	switch row := answer.Row; {
	case err != nil:
		return "", err
	case row == nil || answer.Employee == "":
		return "", errors.New("AtHoc has confirmed no row within the last hour, or since ingest began")
	case !quiet:
		out.Printf("Slowest of the last hour: line %d of %s, %s from arrival to AtHoc's answer at %s\n(%s until the file had stopped changing, %s in this program, %s for AtHoc).\n\n",
			row.Line, row.File, text.Seconds(row.MS), text.When(row.Confirmed), text.Seconds(row.Settling), text.Seconds(row.Us), text.Seconds(row.AtHoc))
	}
	return answer.Employee, nil
}

// namesOfFiles asks ingest what the files are called that an answer speaks of. What it does not know, or cannot be asked,
// has no name.
func namesOfFiles(ctx context.Context, conn *bus.Conn, a control.WorkerAnswer) map[string]string {
	ids := map[string]bool{}
	for _, e := range a.Events {
		ids[e.File] = true
	}
	if a.Latest != nil {
		ids[a.Latest.File] = true
	}
	for _, s := range []*control.WorkerStatus{a.Sent, a.Confirmed} {
		if s != nil {
			ids[s.File] = true
		}
	}
	return fileNamesOf(ctx, conn, slices.Collect(maps.Keys(ids)))
}

// fileNamesOf asks ingest what files are called. What it does not know, or cannot be asked, has no name.
func fileNamesOf(ctx context.Context, conn *bus.Conn, ids []string) map[string]string {
	names := map[string]string{}
	for _, id := range ids {
		if id == "" {
			continue
		}
		found, err := control.Ask[[]control.FoundFile](ctx, conn.NC, topology.Ingest, control.FindFile, control.FindRequest{Text: id})
		if err != nil {
			return names // the ids will do
		}
		for _, f := range found {
			names[f.ID] = f.Name
		}
	}
	return names
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
	if !a.Unsure.IsZero() {
		out.Printf("A call ended without an answer: the status is sent once more at %s.\n", text.When(a.Unsure))
	}
	rows := [][]string{{"\n", "STATUS", "BOOKED", "FILE", "LINE", "ANSWER"}}
	if e := a.Latest; e != nil {
		stale := ""
		if a.Stale {
			stale = "older than AUTO_CLEANUP_HOURS: off duty to AtHoc"
		}
		rows = append(rows, []string{"latest", onOrOff(e.On), text.When(e.At), fileOf(e.File, names), lineOf(e.Row), text.Dash(stale)})
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
	return append(rows, []string{what, onOrOff(s.On), text.When(s.At), fileOf(s.File, names), lineOf(s.Row), answer})
}

func showBookings(out *text.Printer, a control.WorkerAnswer, names map[string]string) error {
	if len(a.Events) > 0 {
		rows := [][]string{{"\nBOOKINGS", "STATUS", "FILE", "LINE"}}
		for _, e := range a.Events {
			rows = append(rows, []string{text.When(e.At), onOrOff(e.On), fileOf(e.File, names), lineOf(e.Row)})
		}
		out.Table(rows)
	}
	if a.Partial {
		out.Printf("Not all entries could be read in time: bookings may be missing here.\n")
	}
	return nil
}

func onOrOff(on bool) string {
	if on {
		return "on duty"
	}
	return "off duty"
}

// fileOf names a file, by its id if its name is not known.
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
