package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
)

// deadFlags are the flags by which an operator chooses dead letters.
type deadFlags struct {
	reason, file string
	all, json    bool
	// dryRun shows only a forecast.
	dryRun bool
}

func deadCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look at what could not be processed, try it again or drop it",
		Long: `Look at what could not be processed, try it again or drop it.

A dead letter is a message that no service could read, or an update whose value AtHoc will never take. A file with dead rows
lies in FAILED_FILES_DIRECTORY; when a requeue has settled the last of them, the file moves on to PROCESSED_DIRECTORY.
Dead letters are kept for 30 days.`,
		Example: `  bobosync dead list
  bobosync dead show 17
  bobosync dead requeue 17 18
  bobosync dead requeue --reason "not valid"
  bobosync dead drop --file monday.csv`,
	}
	cmd.AddCommand(deadListCommand(envFile), deadShowCommand(envFile), deadRequeueCommand(envFile), deadDropCommand(envFile))

	return cmd
}

// add adds the flags that choose dead letters.
func (f *deadFlags) add(cmd *cobra.Command, envFile *string, all bool) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "those whose reason has this `text` in it")
	cmd.Flags().StringVar(&f.file, "file", "", "those of this file, by `name` or id")
	completeFlag(cmd, "file", completing(envFile, fileNames))

	if all {
		cmd.Flags().BoolVar(&f.all, "all", false, "all of them")
		cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON: what became of each")
	}
}

// choose returns the dead letters that an operator means: those with the given ids, those that the flags choose, or
// all. If neither ids nor flags are given, it is a wrong call unless everything is true.
func (f *deadFlags) choose(ctx context.Context, conn *bus.Conn, args []string, everything bool) ([]client.Letter, error) {
	if len(args) == 0 && f.reason == "" && f.file == "" && !f.all && !everything {
		return nil, misused("say which: ids, --reason, --file or --all")
	}

	ids := make([]uint64, 0, len(args))
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return nil, misused("%q is no id: bobosync dead list shows them", arg)
		}

		ids = append(ids, id)
	}

	file := ""
	if f.file != "" {
		var err error
		if file, err = client.FileID(ctx, conn, f.file); err != nil {
			return nil, err
		}
	}

	all, err := client.DeadLetters(ctx, conn.JS)
	if err != nil {
		return nil, err
	}

	for _, id := range ids {
		if !slices.ContainsFunc(all, func(l client.Letter) bool { return l.ID == id }) {
			return nil, fmt.Errorf("there is no dead letter %d: bobosync dead list shows them", id)
		}
	}

	return client.LetterQuery{IDs: ids, Reason: f.reason, File: file}.Of(all), nil
}

// letterIDs returns the ids of all dead letters, for the shell's completion.
func letterIDs(ctx context.Context, conn *bus.Conn) ([]string, error) {
	all, err := client.DeadLetters(ctx, conn.JS)
	ids := make([]string, 0, len(all))
	for _, l := range all {
		ids = append(ids, strconv.FormatUint(l.ID, 10)+"\t"+l.Reason)
	}

	return ids, err
}

func deadListCommand(envFile *string) *cobra.Command {
	var f deadFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters: what, from which file and line, and why",
		Example: `  bobosync dead list
  bobosync dead list --reason "not valid"
  bobosync dead list --file monday.csv --json`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			letters, err := f.choose(ctx, conn, nil, true)
			if err != nil {
				return err
			}

			if asJSON {
				return outOf(cmd).JSON(letters)
			}

			rows := [][]string{{"ID", "DIED", "SERVICE", "FILE", "LINE", "TRIES", "REASON"}}
			for _, l := range letters {
				line := "-"
				if l.Row > 0 {
					line = strconv.Itoa(l.Row)
				}

				rows = append(rows, []string{
					strconv.FormatUint(l.ID, 10), text.When(l.Died), l.Service, text.Dash(text.Short(l.File)), line,
					strconv.FormatUint(l.Attempts, 10), l.Reason,
				})
			}

			out := outOf(cmd)
			out.Table(rows)

			return out.Err()
		}),
	}
	f.add(cmd, envFile, false)
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

func deadShowCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show a dead letter whole, with the original message, in JSON",
		Long:              `Show a dead letter whole, with the original message, in JSON. The message may name a worker: mind who sees it.`,
		Example:           "  bobosync dead show 17",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, letterIDs),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			letters, err := new(deadFlags).choose(ctx, conn, args, false)
			if err != nil {
				return err
			}

			return showLetter(outOf(cmd), letters[0])
		}),
	}
}

// showLetter prints a dead letter. A payload that is valid JSON is shown as JSON.
func showLetter(out *text.Printer, l client.Letter) error {
	shown := struct {
		client.Letter
		Payload any `json:"payload"`
	}{l, l.Payload}
	if json.Valid(l.Payload) {
		shown.Payload = json.RawMessage(l.Payload)
	}

	return out.JSON(shown)
}

func deadRequeueCommand(envFile *string) *cobra.Command {
	return deadOrder(envFile, control.DeadRequeue, &cobra.Command{
		Use:   "requeue (ID... | --reason TEXT | --file NAME | --all)",
		Short: "Try dead letters again, once what was wrong is fixed",
		Long: `Try dead letters again, once what was wrong is fixed. If a newer event of the worker has won meanwhile, the row is settled as
superseded and nothing is sent. The journal notes it. With --dry-run it only says what would become of them.

Exit status: 0 all of them are tried again, 1 some stay as they are.`,
		Example: `  bobosync dead requeue 17 18
  bobosync dead requeue --file monday.csv --dry-run
  bobosync dead requeue --all --json`,
	})
}

// deadOrder completes a command that gives an order about dead letters.
func deadOrder(envFile *string, order string, cmd *cobra.Command) *cobra.Command {
	var f deadFlags
	cmd.ValidArgsFunction = completing(envFile, letterIDs)
	cmd.RunE = withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
		letters, err := f.choose(ctx, conn, args, false)
		if err != nil {
			return err
		}

		if f.dryRun {
			return forecastLetters(ctx, conn, outOf(cmd), f.json, client.IDs(letters))
		}

		results, err := client.Letters(ctx, conn, orderOf(cmd), order, client.IDs(letters))
		if err != nil {
			return err
		}

		return printLetters(cmd, f.json, results)
	})
	f.add(cmd, envFile, true)

	if order == control.DeadRequeue {
		cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would become of them")
	}

	return cmd
}

// forecastLetters shows what trying dead letters again would do.
func forecastLetters(ctx context.Context, conn *bus.Conn, out *text.Printer, asJSON bool, ids []uint64) error {
	would, err := client.ForecastRequeue(ctx, conn, ids)
	if err != nil {
		return err
	}

	if asJSON {
		return out.JSON(would)
	}

	out.Printf("Of %s %s. Nothing was done.\n", text.Count(len(ids), "dead letter"), client.RequeueWords(would))

	return out.Err()
}

// printLetters prints what became of each dead letter, and returns an error if one of them failed.
func printLetters(cmd *cobra.Command, asJSON bool, results []control.DeadResult) error {
	if asJSON {
		if err := outOf(cmd).JSON(results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			outOf(cmd).Printf("%d: %s%s\n", r.ID, r.Did, r.Error)
		}

		if len(results) == 0 {
			outOf(cmd).Printf("There are no such dead letters.\n")
		}
	}

	failed := client.FailedLetters(results)
	if failed > 0 {
		return fmt.Errorf("%d of %d dead letters stay as they are", failed, len(results))
	}

	return nil
}

func deadDropCommand(envFile *string) *cobra.Command {
	return deadOrder(envFile, control.DeadDrop, &cobra.Command{
		Use:   "drop (ID... | --reason TEXT | --file NAME | --all)",
		Short: "Drop dead letters: what they hold is never sent",
		Long: `Drop dead letters: what they hold is never sent, and their file stays among the failed ones. The journal notes it.

Exit status: 0 all of them are gone, 1 some could not be dropped.`,
		Example: `  bobosync dead drop 17
  bobosync dead drop --file monday.csv`,
	})
}
