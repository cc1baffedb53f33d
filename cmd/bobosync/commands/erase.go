package commands

// Erasing what is stored of a worker, for data-protection requests.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/pause"
	"bobosync/shared/scrub"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

const (
	// scrubTimeout is how long the embedded broker may take to start again, scrubPollInterval how often that is
	// checked.
	scrubTimeout      = time.Minute
	scrubPollInterval = 200 * time.Millisecond
)

// eraseFlags are the flags of an erasure.
type eraseFlags struct {
	reason    string
	users     []string
	yes, json bool
}

func eraseCommand(envFile *string) *cobra.Command {
	var f eraseFlags
	cmd := &cobra.Command{
		Use:   "erase WORKER --reason TEXT [--yes]",
		Short: "Erase what is stored of a worker, for a data-protection request",
		Long: `Erase what is stored of a worker, by employee id, for a data-protection request: the history of what AtHoc was sent, answers, entries,
updates, dead letters, the journal, and what belongs to the audit's records. Without --yes it only shows what would go. It is refused
while AtHoc has a user with this employee id, since the next mapping would bring it back, and while something is under way.

What the broker deletes stays in its files until it rewrites them. With the broker inside bobosync run, this command makes everything
restart for a moment and overwrites that. Another broker's servers need "bobosync erase scrub", one after the other.
Files with the worker's rows are not touched: the command names them. What is stored where: docs/privacy.md.

Exit status: 0 erased (or shown), 1 it was refused, or is not done everywhere.`,
		Example: `  bobosync erase 12345 --reason "request of 17 June"
  bobosync erase 12345 --reason "request of 17 June" --yes`,
		Args: cobra.ExactArgs(1),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			return eraseWorker(ctx, conn, cmd, *envFile, args[0], f)
		}),
	}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for the audit; it must not name the worker")
	cmd.Flags().StringSliceVar(&f.users, "user", nil, "AtHoc `usernames` that the worker had, if nothing knows of them any more")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
	_ = cmd.MarkFlagRequired("reason") // the flag exists
	cmd.AddCommand(eraseScrubCommand())

	return cmd
}

func eraseWorker(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, envFile, worker string, f eraseFlags) error {
	out := outOf(cmd)
	req := control.EraseRequest{Names: erase.Names{Employee: worker, Users: f.users}, Reason: f.reason, By: client.Whoami()}

	forecast, err := control.Ask[control.EraseForecast](ctx, conn.NC, topology.Resolver, control.EraseShow, req)
	if err != nil {
		return err
	}

	if req.Names = forecast.Names; req.Within(f.reason) {
		return misused("the reason names the worker, and it stays in the audit")
	}

	names := client.FileNames(ctx, conn, forecast.Files)
	if !f.json {
		showErasure(out, forecast, names)
	}

	switch {
	case forecast.Refused != "":
		return errors.New(forecast.Refused)
	case !f.yes && f.json:
		return out.JSON(forecast)
	case !f.yes:
		out.Printf("Nothing is erased yet: give the same command with --yes.\n")
		return out.Err()
	}

	answer, err := client.Erase(ctx, conn, orderOf(cmd), req)
	if err != nil {
		return err
	}

	if f.json {
		if err := out.JSON(answer); err != nil {
			return err
		}
	} else {
		out.Printf("Erased.\n")
	}

	return scrubAfter(ctx, out, envFile, control.Scrub(req.Names, answer.Through), f.json)
}

func showErasure(out *text.Printer, f control.EraseForecast, names map[string]string) {
	out.Printf("Stored of worker %s", f.Employee)

	if len(f.Users) > 0 {
		out.Printf(" (%s)", strings.Join(f.Users, ", "))
	}

	out.Printf(":\n")

	rows := [][]string{{"STORE", "MESSAGES"}}
	for _, store := range slices.Sorted(maps.Keys(f.Found)) {
		rows = append(rows, []string{store, fmt.Sprint(f.Found[store])})
	}

	out.Table(rows)

	if len(f.Files) == 0 {
		return
	}

	out.Printf("These files have rows of the worker, which stay until the files are deleted (PROCESSED_FILES_PURGE_DAYS, or by hand):\n")

	for _, id := range f.Files {
		out.Printf("  %s\n", fileOf(id, names))
	}
}

// scrubAfter has the embedded broker overwrite what it deleted. For a broker that this command cannot reach on disk,
// it prints how to do that.
func scrubAfter(ctx context.Context, out *text.Printer, envFile string, r scrub.Request, asJSON bool) error {
	settings, err := loadSettings(ctx, envFile)
	if err != nil {
		return err
	}

	if settings.Broker.URL != "" {
		if !asJSON {
			out.Printf("What the broker has deleted is in its files until it rewrites them. To have it overwritten now: on each of its servers,\n" +
				"stop it, run this on its store, and start it again:\n")
			out.Printf("  bobosync erase scrub DIR %s\n", scrubArgs(r))
		}

		return nil
	}

	file, err := r.Leave(client.StoreDir(settings.Data.Directory))
	if err != nil {
		return fmt.Errorf("what the broker has deleted is still in its files: call this command as a user who may write DATA_DIRECTORY: %w", err)
	}

	for deadline := time.Now().Add(scrubTimeout); time.Now().Before(deadline); {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			if !asJSON {
				out.Printf("What the broker had deleted is overwritten.\n")
			}
			return nil
		}

		if err := pause.For(ctx, scrubPollInterval); err != nil {
			return err
		}
	}

	return fmt.Errorf("what the broker has deleted is overwritten at its next start, and not yet: see the log of bobosync run; it names the worker until then, in %s", file)
}

// scrubArgs returns the arguments of erase scrub for a request.
func scrubArgs(r scrub.Request) string {
	var through []string
	for _, stream := range slices.Sorted(maps.Keys(r.Through)) {
		through = append(through, fmt.Sprintf("%s=%d", stream, r.Through[stream]))
	}

	args := []string{"--through", strings.Join(through, ","), "--"} // a name may begin like a flag
	for _, name := range append([]string{r.Employee}, r.Users...) {
		args = append(args, quoted(name))
	}

	return strings.Join(args, " ")
}

// plainWord matches a word that a shell leaves unchanged.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9@._-]+$`)

// quoted returns a text quoted so that a shell leaves it unchanged. Between double quotes, a shell would run what is
// in `$(…)`.
func quoted(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func eraseScrubCommand() *cobra.Command {
	through := map[string]int64{}
	cmd := &cobra.Command{
		Use:   "scrub DIR WORKER [USER...] --through STREAM=SEQUENCE,...",
		Short: "Overwrite what a broker's server that is down has deleted about a worker",
		Long: `Overwrite what a broker's server that is down has deleted about a worker who was erased. "bobosync erase" says how to call it. DIR
is store_dir of the server's configuration. What the server has not deleted is left alone.`,
		Example: `  bobosync erase scrub /data --through ACKS=4711,ENTRIES=815 12345 jsmith`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sequences := map[string]uint64{}
			for stream, seq := range through {
				sequences[stream] = uint64(max(seq, 0))
			}

			n, err := control.Scrub(erase.Names{Employee: args[1], Users: args[2:]}, sequences).Run(args[0])
			if err != nil {
				return err
			}

			outOf(cmd).Printf("%s overwritten.\n", text.Count(n, "message"))

			return nil
		},
	}
	cmd.Flags().StringToInt64Var(&through, "through", nil, "up to which `sequences` nothing about the worker is in use, by stream")

	return cmd
}
