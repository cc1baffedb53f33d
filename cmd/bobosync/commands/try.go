package commands

// A forecast of what a file would do.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bobosync/services/ingest/trial"
	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// trySettings are ingest's settings that determine how a file is read.
type trySettings struct {
	Zone         config.Zone   `env:"BOBO_TIMEZONE, default=local"`
	MaxClockSkew time.Duration `env:"MAX_CLOCK_SKEW, default=15m"`
	MaxFileSize  int64         `env:"MAX_FILE_SIZE, default=1073741824"`
}

// forecast is what a file would do.
type forecast struct {
	trial.File
	// Known is the name under which ingest has already read exactly this content.
	Known string `json:"known,omitempty"`
	// Workers is what would become of the latest booking of each worker in the file.
	Workers control.TryAnswer `json:"workers"`
	// Calls is the number of calls needed, and Seconds is how long they take at the present rate.
	Calls   int     `json:"calls"`
	Seconds float64 `json:"seconds"`

	sending    control.SendingState
	sendingErr error
}

// changes returns the changes of the parts that were asked about so far.
func (f *forecast) changes() map[string]int {
	if f.Workers.Guard == nil {
		return nil
	}
	return f.Workers.Guard.Changes
}

func filesTryCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "try FILE",
		Short: "Say what a file would do if it came now; nothing is sent or stored",
		Long: `Say what a file would do if it came now: which rows are good and which are rejected, and why; how many users would be shown on and off
duty, and for how many nothing changes; whether the guard would hold it as a mass change that is not usual; and how many calls to AtHoc
it takes. Nothing is sent, stored or moved.

The file is read here, as ingest reads it and in ingest's time zone, and only the latest booking of each worker goes to the
resolver. MAX_CLOCK_SKEW and MAX_FILE_SIZE are those set here. At most 250,000 workers are considered.

Exit status: 0 it can be read, 1 it cannot, or no row of it can be used.`,
		Example: `  bobosync files try monday.csv
  bobosync files try /srv/bobo/in/monday.csv --json`,
		Args: cobra.ExactArgs(1),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			var s trySettings
			if err := load(ctx, *envFile, &s); err != nil {
				return err
			}

			f, err := tryFile(ctx, conn, args[0], s)
			if err != nil {
				return err
			}

			out := outOf(cmd)
			if asJSON {
				err = out.JSON(f)
			} else {
				showForecast(out, f)
				err = out.Err()
			}

			if err == nil && (f.Problem != "" || f.Good == 0) {
				err = ExitStatus(exitFailed)
			}

			return err
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

// tryFile reads a file, and asks the services what would become of it.
func tryFile(ctx context.Context, conn *bus.Conn, path string, s trySettings) (forecast, error) {
	now := time.Now()

	states, err := control.AskAll[control.IngestState](ctx, conn.NC, topology.Ingest, control.State, control.Nothing{})
	if err != nil {
		return forecast{}, err
	}

	zone, err := zoneOf(states, s.Zone.Location(), now)
	if err != nil {
		return forecast{}, err
	}

	read, err := trial.Read(ctx, path, trial.Options{Zone: zone, MaxClockSkew: s.MaxClockSkew, MaxFileSize: s.MaxFileSize, Now: now})
	f := forecast{File: read}
	if err != nil || f.Problem != "" {
		return f, err
	}

	for part := range slices.Chunk(f.Entries, control.MaxTryEntries) {
		answer, err := control.Ask[control.TryAnswer](ctx, conn.NC, topology.Resolver, control.Try, control.TryRequest{
			File: f.ID, Entries: part, Changes: f.changes(),
		})
		if err != nil {
			return f, err
		}

		f.Workers.Add(answer)
	}

	found, err := control.Ask[[]control.FoundFile](ctx, conn.NC, topology.Ingest, control.FindFile, control.FindRequest{Text: f.ID})
	if err != nil && !errors.Is(err, control.ErrNobody) {
		return f, err
	}

	if len(found) > 0 {
		f.Known = found[0].Name
	}

	f.sending, f.sendingErr = control.Ask[control.SendingState](ctx, conn.NC, topology.Publisher, control.Sending, control.Nothing{})
	calls, lasts := client.Effort(f.Workers.On+f.Workers.Off, f.sending)
	f.Calls, f.Seconds = calls, lasts.Seconds()

	return f, nil
}

// zoneOf returns the time zone in which ingest reads times: the zone that ingest reports, or the one set here if
// ingest's zone has no name that can be used elsewhere. It is an error if the zone set here then has another offset
// than ingest's.
func zoneOf(states []control.IngestState, here *time.Location, now time.Time) (*time.Location, error) {
	for _, s := range states {
		if s.Zone == "" { // an older version
			continue
		}

		if zone, err := time.LoadLocation(s.Zone); err == nil && zone != time.Local {
			return zone, nil
		}

		if _, offset := now.In(here).Zone(); offset != s.ZoneOffset {
			return nil, fmt.Errorf("ingest reads times in the zone of its machine, %+d minutes from UTC now, and %s is not: set BOBO_TIMEZONE to that zone here",
				s.ZoneOffset/60, here)
		}
	}

	return here, nil
}

func showForecast(out *text.Printer, f forecast) {
	name := text.Clean(f.Name)
	if f.Problem != "" {
		out.Printf("%s is no text and would go to the failed files, unread: %s.\n", name, f.Problem)
		return
	}

	out.Printf("If %s came now (nothing was sent or stored):\n", name)

	if f.Known != "" {
		out.Printf("  This very content has been read already, as %s: nothing of it would be done again.\n", text.Clean(f.Known))
	}

	rows := [][]string{
		{"  Rows", fmt.Sprintf("%d good, %d rejected%s; %d beaten by a later one in the file", f.Good, f.Bad, reasonsOf(f.Reasons), f.Beaten)},
		{"  Users on duty", fmt.Sprintf("%d would be sent", f.Workers.On)},
		{"  Users off duty", fmt.Sprintf("%d would be sent", f.Workers.Off)},
		{"  Unchanged", fmt.Sprintf("%d: AtHoc holds it, or it is on its way", f.Workers.Unchanged)},
		{"  Unmapped", fmt.Sprintf("%d: no AtHoc user has the employee id", f.Workers.Unmapped)},
		{"  Beaten", fmt.Sprintf("%d: a newer booking of the worker is known", f.Workers.Beaten)},
		{"  Expired", fmt.Sprintf("%d: booked on too long ago to be shown", f.Workers.Expired)},
		{"  Guard", client.TrialWords(f.Workers.Guard)},
		{"  Calls", callsOf(f)},
	}
	out.Table(rows)

	if len(f.Rejected) > 0 {
		out.Printf("\n")

		bad := [][]string{{"LINE", "REASON"}}
		for _, r := range f.Rejected {
			bad = append(bad, []string{fmt.Sprint(r.Line), r.Text})
		}

		out.Table(bad)

		if more := f.Bad - len(f.Rejected); more > 0 {
			out.Printf("(%d more are left out)\n", more)
		}
	}
}

func reasonsOf(reasons map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		parts = append(parts, fmt.Sprintf("%d %s", reasons[name], name))
	}

	if len(parts) == 0 {
		return ""
	}

	return " (" + strings.Join(parts, ", ") + ")"
}

// callsOf says how many calls sending takes and how long, and what delays it.
func callsOf(f forecast) string {
	switch {
	case f.sendingErr != nil:
		return "no publisher is there now: nothing is sent until one is"
	case f.sending.Pause.InForce(time.Now()):
		return fmt.Sprintf("%d. %s", f.Calls, client.DuringPause(f.sending.Pause))
	case f.sending.Breaker.Open():
		return fmt.Sprintf("%d, when AtHoc is back", f.Calls)
	default:
		return fmt.Sprintf("%d, about %s at the present rate", f.Calls, time.Duration(f.Seconds*float64(time.Second)).Round(time.Second))
	}
}
