package commands

// Mass changes that are held until a person decides.

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func heldCommand(envFile *string) *cobra.Command {
	list := heldListCommand(envFile)
	cmd := &cobra.Command{
		Use:   "held",
		Short: "Look at mass changes that are held, approve or reject them",
		Long: `Look at mass changes that are held, approve or reject them.

When unusually many workers would go off duty at once (GUARD and the settings beside it), those of them who were not sent yet are held:
AtHoc goes on showing them on duty, and their file stays in CSV_DIRECTORY, until somebody decides. All others go on. Time alone
releases nobody; a newer booking of a worker who is held supersedes the one that is held.`,
		Example: `  bobosync held
  bobosync held show off-20240617-060214
  bobosync held approve off-20240617-060214 --reason "end of the exercise, asked the control room"
  bobosync held reject off-20240617-060214 --reason "truncated export"`,
		Args: cobra.NoArgs,
		RunE: list.RunE,
	}
	cmd.Flags().AddFlagSet(list.Flags())
	cmd.AddCommand(list, heldShowCommand(envFile),
		decideCommand(envFile, true), decideCommand(envFile, false), heldRequeueCommand(envFile))

	return cmd
}

func askHeld(ctx context.Context, conn *bus.Conn) (control.HeldAnswer, error) {
	return control.Ask[control.HeldAnswer](ctx, conn.NC, topology.Resolver, control.Held, control.Nothing{})
}

// heldIDs returns a function that lists the ids of the holds with the given decision; "" selects those that still
// wait.
func heldIDs(decision string) func(context.Context, *bus.Conn) ([]string, error) {
	return func(ctx context.Context, conn *bus.Conn) (ids []string, err error) {
		answer, err := askHeld(ctx, conn)
		for _, g := range append(answer.Held, answer.Decided...) {
			if g.Decision == decision {
				ids = append(ids, g.ID)
			}
		}

		return ids, err
	}
}

func heldListCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is held, and what was decided within 30 days",
		Long: `List the mass changes that wait for a decision, and those that were decided within 30 days; and whether the guard holds or only
observes. It names no persons.`,
		Example:           "  bobosync held list\n  bobosync held list --json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              asking(envFile, &asJSON, askHeld, listHeld),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

func listHeld(out *text.Printer, a control.HeldAnswer) error {
	out.Printf("%s %d users are on duty, as AtHoc was told.\n", client.GuardWords(a.GuardState), a.OnDuty)

	for _, t := range a.Unusual {
		out.Printf("At %s %d users %s within the window, where %d are allowed: that was not held.\n", text.When(t.At), t.Users, client.HeldKind(t.Kind), t.Allowed)
	}

	if len(a.Held)+len(a.Decided) == 0 {
		out.Printf("Nothing is held.\n")
		return out.Err()
	}

	rows := [][]string{{"ID", "SINCE", "USERS", "WHAT", "DECISION", "BY", "REASON"}}
	for _, g := range append(a.Held, a.Decided...) {
		rows = append(rows, []string{
			g.ID, text.When(g.Since), strconv.Itoa(g.Users), client.HeldKind(g.Kind), cmp.Or(g.Decision, "WAITS"), text.Dash(g.By), text.Dash(g.Reason),
		})
	}

	out.Printf("\n")
	out.Table(rows)

	return out.Err()
}

func heldShowCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show what an approval would lead to, and everybody who is held",
		Long: `Show what an approval would lead to: how many users are on duty now and after it, beside how many usually are; how many come from which
file; and everybody who is held. The last line is the token that names exactly these: a decision with it is for nobody else.`,
		Example:           "  bobosync held show off-20240617-060214\n  bobosync held show off-20240617-060214 --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, heldIDs("")),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			set, err := client.HeldSet(ctx, conn, args[0])
			if err != nil {
				return err
			}

			names := client.FileNames(ctx, conn, slices.Sorted(maps.Keys(set.Files)))
			if asJSON {
				return outOf(cmd).JSON(struct {
					control.HeldSet
					Names map[string]string `json:"names"`
				}{set, names})
			}

			out := outOf(cmd)
			heldForecast(out, set, names)
			showHeldWorkers(out, set, names)
			out.Printf("\nApprove exactly these: bobosync held approve %s --token %s --reason ...\n", set.ID, set.Token)

			return out.Err()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON; names holds the files' names by id")

	return cmd
}

// heldForecast prints what an approval would do.
func heldForecast(out *text.Printer, s control.HeldSet, names map[string]string) {
	out.Printf("%s: %d users would %s; held since %s, the last one came at %s.\n", s.ID, s.Users, client.WouldWords(s.Kind), text.When(s.Since), text.When(s.Last))
	out.Printf("  usual        at most %d within the window at this hour of the week; %d are allowed, of %d on duty\n", s.Usual, s.Allowed, s.OnDuty)

	if s.Sent > 0 {
		out.Printf("  sent before  %d, who stay as they are\n", s.Sent)
	}

	out.Printf("  on duty      %d now, %d after an approval%s\n", s.OnDutyNow, s.OnDutyAfter, client.UsualWords(s))

	for _, feed := range slices.Sorted(maps.Keys(s.Feeds)) {
		out.Printf("  feed         %d booked last by %s\n", s.Feeds[feed], cmp.Or(feed, "one that is not known"))
	}

	for _, file := range slices.Sorted(maps.Keys(s.Files)) {
		if file == "" {
			out.Printf("  no worker    %d users whom no known worker is mapped to\n", s.Files[file])
			continue
		}

		out.Printf("  file         %d from %s\n", s.Files[file], cmp.Or(names[file], text.Short(file)))
	}
}

func showHeldWorkers(out *text.Printer, s control.HeldSet, names map[string]string) {
	rows := [][]string{{"EMPLOYEE ID", "ATHOC USER", "BOOKED AT", "FILE", "LINE"}}
	for _, w := range s.Workers {
		line := ""
		if w.Row > 0 {
			line = strconv.Itoa(w.Row)
		}

		rows = append(rows, []string{text.Dash(w.Employee), w.User, text.When(w.At), text.Dash(cmp.Or(names[w.File], text.Short(w.File))), text.Dash(line)})
	}

	out.Printf("\n")
	out.Table(rows)
}

// decideCommand returns the command that approves or rejects holds.
func decideCommand(envFile *string, approve bool) *cobra.Command {
	var asJSON bool

	d := control.HeldDecision{Approve: approve}
	cmd := &cobra.Command{
		Use:               "approve ID --reason TEXT",
		Short:             "Send a mass change that is held",
		Long:              "Send a mass change that is held: it says first what that leads to.\n\n" + exactly,
		Example:           "  bobosync held approve off-20240617-060214 --reason \"end of the exercise\"\n  bobosync held approve off-20240617-060214 --except 12345 --reason \"all but the one on call\"",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, heldIDs("")),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			d.ID = args[0]
			return decide(ctx, conn, cmd, d, asJSON)
		}),
	}
	if !approve {
		cmd.Use, cmd.Short = "reject ID --reason TEXT", "Never send a mass change that is held"
		cmd.Long = `Never send a mass change that is held: what AtHoc shows of these workers stays, their rows are settled as withheld and never count as the
latest, and the file goes to FAILED_FILES_DIRECTORY. Of stale duty it stays as it is. bobosync held requeue accepts it after all.

` + exactly
		cmd.Example = "  bobosync held reject off-20240617-060214 --reason \"truncated export\""
	}

	flags := cmd.Flags()
	flags.StringVar(&d.Reason, "reason", "", "why, for the record: a `text` without personal data")
	flags.StringVar(&d.Token, "token", "", "the `token` of bobosync held show; without it, it is about those who are in it now")
	flags.StringSliceVar(&d.Except, "except", nil, "these employee `ids` (usernames, of users without a known worker) stay held")
	flags.BoolVar(&asJSON, "json", false, "answer in JSON")

	_ = cmd.MarkFlagRequired("reason") // the flag exists
	for _, flag := range []string{"reason", "token", "except"} {
		completeFlag(cmd, flag, cobra.NoFileCompletions)
	}

	return cmd
}

const exactly = `It is for exactly those who were shown: with --token for those of bobosync held show, otherwise for those who are in it now, as it says.
If others have come or some have left since, nothing is done, and it says how many. The journal notes it.`

func decide(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, d control.HeldDecision, asJSON bool) error {
	out := outOf(cmd)
	if d.Token == "" {
		set, err := client.HeldSet(ctx, conn, d.ID)
		if err != nil {
			return err
		}

		d.Token = set.Token
		if !asJSON {
			heldForecast(out, set, client.FileNames(ctx, conn, slices.Sorted(maps.Keys(set.Files))))
		}
	}

	result, err := client.Decide(ctx, conn, orderOf(cmd), d)
	if err != nil {
		return err
	}

	done := "rejected"
	if d.Approve {
		done = "approved"
	}

	if asJSON {
		return out.JSON(result)
	}

	out.Printf("%s is %s: %s.\n", result.ID, done, text.Count(result.Users, "user"))

	if result.Rest != "" {
		out.Printf("%s still held, in %s.\n", text.Count(len(d.Except), "user"), result.Rest)
	}

	return out.Err()
}

func heldRequeueCommand(envFile *string) *cobra.Command {
	var asJSON bool
	var d control.HeldDecision
	cmd := &cobra.Command{
		Use:   "requeue ID --reason TEXT",
		Short: "Accept after all what was rejected",
		Long: `Accept after all what was rejected: the status of each of these workers is sent, unless a newer event has won meanwhile. When all rows of the
file have another outcome, it moves on to PROCESSED_DIRECTORY. The journal notes it.`,
		Example:           "  bobosync held requeue off-20240617-060214 --reason \"the export was right after all\"",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completing(envFile, heldIDs("rejected")),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			d.ID = args[0]

			result, err := client.TakeIn(ctx, conn, orderOf(cmd), d)
			if err != nil {
				return err
			}

			out := outOf(cmd)
			if asJSON {
				return out.JSON(result)
			}

			out.Printf("%s is taken in: %s; of %d a newer event has won meanwhile.\n", result.ID, text.Count(result.Users, "user"), result.Superseded)

			return out.Err()
		}),
	}
	cmd.Flags().StringVar(&d.Reason, "reason", "", "why, for the record: a `text` without personal data")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	_ = cmd.MarkFlagRequired("reason") // the flag exists
	completeFlag(cmd, "reason", cobra.NoFileCompletions)

	return cmd
}
