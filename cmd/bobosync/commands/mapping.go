package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func mappingCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mapping",
		Short: "Look at the mapping of employee ids to AtHoc users, refresh it, approve one that is held back",
		Long: `Look at the mapping of employee ids to AtHoc users, refresh it, approve one that is held back.

The janitor fetches the mapping from AtHoc daily. One that would lose many employee ids at once (MAPPING_MAX_REMOVAL_PERCENT)
is held back: the previous one stays in force until an operator approves.`,
		Example: `  bobosync mapping show
  bobosync mapping list smith
  bobosync mapping refresh
  bobosync mapping approve 3fa9c1`,
	}
	cmd.AddCommand(mappingShowCommand(envFile), mappingListCommand(envFile), mappingRefreshCommand(envFile), mappingApproveCommand(envFile))

	return cmd
}

func askMapping(ctx context.Context, conn *bus.Conn) (control.MappingReport, error) {
	return control.Ask[control.MappingReport](ctx, conn.NC, topology.Janitor, control.MappingShow, control.Nothing{})
}

func mappingShowCommand(envFile *string) *cobra.Command {
	var asJSON, held bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show how old the mapping is, what is held back, and which employee ids are ambiguous",
		Long: `Show how old the mapping in force is and when it is refreshed next; a mapping that is held back, and why; and employee ids that
several AtHoc users have: none of these users gets a duty status until that is corrected in AtHoc. With --held it lists the employee ids that
would lose their AtHoc user, or get another one, by the mapping that is held back.`,
		Example: "  bobosync mapping show\n  bobosync mapping show --held\n  bobosync mapping show --json",
		Args:    cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			if held {
				return showDifference(ctx, conn, outOf(cmd), asJSON)
			}

			report, err := askMapping(ctx, conn)
			if err != nil {
				return err
			}

			out := outOf(cmd)
			if asJSON {
				return out.JSON(report)
			}

			showMapping(out, report)

			return out.Err()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.Flags().BoolVar(&held, "held", false, "list what a mapping that is held back would change")

	return cmd
}

func showMapping(out *text.Printer, r control.MappingReport) {
	if r.Held != nil {
		showHeld(out, *r.Held)
		out.Printf("\n")
	}

	if r.Snapshot == "" {
		out.Printf("There is no mapping yet: nothing can be sent. bobosync mapping refresh fetches one and says what is wrong.\n")
	} else {
		out.Printf("The mapping in force has %s.\n", text.Count(r.Mapped, "employee id"))
		out.Printf("  fetched at    %s\n  refreshed at  %s\n", text.When(r.Taken), text.When(r.Refreshed))
		out.Printf("  last look     %s, of them %d without an employee id\n", text.Count(r.Users, "AtHoc user"), r.Without)
	}

	if r.Job.Off {
		out.Printf("  next          never: SYNC_MAPPINGS is off\n")
	} else {
		out.Printf("  next          %s\n", text.When(r.Job.Next))
	}

	if r.Job.Failures > 0 {
		out.Printf("  the refresh failed %s: %s\n", text.Times(r.Job.Failures), r.Job.Error)
	}

	if r.Unusable > 0 {
		out.Printf("  %s cannot be used: the name or the employee id is empty, too long or has invisible characters\n", text.Count(r.Unusable, "user"))
	}

	showDoubtful(out, r)
}

// showDoubtful lists the employee ids that somebody should check in AtHoc.
func showDoubtful(out *text.Printer, r control.MappingReport) {
	if len(r.Ambiguous) > 0 {
		out.Printf("\nSeveral users have the same employee id; none of them gets its duty status. Correct it in AtHoc:\n")

		for _, id := range slices.Sorted(maps.Keys(r.Ambiguous)) {
			out.Printf("  %s: %s\n", id, strings.Join(r.Ambiguous[id], ", "))
		}
	}

	if len(r.Alike) > 0 {
		out.Printf("\nThese employee ids differ only in blanks or leading zeros; they count as different workers:\n")

		for _, group := range r.Alike {
			out.Printf("  %q\n", group)
		}
	}

	if r.Left > 0 {
		out.Printf("\n(%d more are left out)\n", r.Left)
	}
}

// showDifference lists what the mapping that is held back would change.
func showDifference(ctx context.Context, conn *bus.Conn, out *text.Printer, asJSON bool) error {
	d, err := client.Ask[control.MappingDifference](ctx, conn, topology.Janitor, control.MappingHeld, control.Nothing{})
	if err != nil {
		return err
	}

	if asJSON {
		return out.JSON(d)
	}

	rows := [][]string{{"EMPLOYEE ID", "ATHOC USER", "THEN"}}
	for _, c := range append(d.Removed, d.Changed...) {
		rows = append(rows, []string{c.Employee, c.Before, cmp.Or(c.After, "nobody")})
	}

	out.Table(rows)

	return out.Err()
}

func showHeld(out *text.Printer, h control.HeldMapping) {
	out.Printf("A new mapping is HELD BACK since %s: %s\n", text.When(h.Since), h.Reason)
	out.Printf("  %d employee ids instead of %d: %d added, %d changed, %d removed; AtHoc last gave the same at %s\n",
		h.After, h.Before, h.Added, h.Changed, h.Removed, text.When(h.Seen))
	out.Printf("  Are AtHoc's users right? Then: bobosync mapping approve %s\n", h.ID)
}

func mappingListCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [TEXT]",
		Short: "List employee ids and the AtHoc users that have them, as the resolver uses them",
		Example: `  bobosync mapping list 12345
  bobosync mapping list smith
  bobosync mapping list --json > mapping.json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			var req control.MappingListRequest
			if len(args) > 0 {
				req.Text = args[0]
			}

			pairs, err := client.MappingPairs(ctx, conn, req)
			if err != nil {
				return err
			}

			out := outOf(cmd)
			if asJSON {
				return out.JSON(pairs)
			}

			rows := [][]string{{"EMPLOYEE ID", "ATHOC USER"}}
			for _, p := range pairs {
				rows = append(rows, []string{p.Employee, p.User})
			}

			if len(pairs) == 0 {
				out.Printf("Nobody like that is in the mapping; bobosync mapping show says how old it is.\n")
				return out.Err()
			}

			out.Table(rows)

			return out.Err()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

// orderFlags are the flags of an order to the janitor: whether to wait for its end, and in which form to report it.
type orderFlags struct{ noWait, json bool }

func (f *orderFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait for the end; bobosync journal shows it")
	cmd.Flags().BoolVar(&f.json, "json", false, "answer in JSON")
}

func mappingRefreshCommand(envFile *string) *cobra.Command {
	var f orderFlags
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Fetch the mapping from AtHoc now",
		Long: `Fetch the mapping from AtHoc now, wait for the end and say what has changed. Workers who were unmapped and are not any more get
their duty status at once. If the new mapping is held back, it says so and how to approve it.

Exit status: 0 the mapping is up to date, 1 it failed or is held back.`,
		Example: "  bobosync mapping refresh\n  bobosync mapping refresh --no-wait",
		Args:    cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			begun, err := client.Give[control.Begun](ctx, conn, orderOf(cmd), topology.Janitor, control.MappingRefresh, control.RunRequest{})
			if err != nil {
				return err
			}

			return f.follow(ctx, conn, cmd, begun, "The mapping is refreshed")
		}),
	}
	f.add(cmd)

	return cmd
}

// follow waits for an order about the mapping and reports its result.
func (f orderFlags) follow(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, begun control.Begun, done string) error {
	out := outOf(cmd)
	switch {
	case f.noWait && f.json:
		return out.JSON(begun)
	case f.noWait:
		out.Printf("It has begun; bobosync journal --kind mapping shows its end.\n")
		return nil
	}

	entry, err := finish(ctx, conn, errOf(cmd), begun.Entry)
	if err != nil {
		return err
	}

	if f.json {
		if err := out.JSON(entry); err != nil {
			return err
		}

		if entry.Outcome != control.OutcomeOK {
			return ExitStatus(exitFailed)
		}

		return nil
	}

	switch entry.Outcome {
	case control.OutcomeOK:
		out.Printf("%s: %s.\n", done, cmp.Or(client.Counts(entry.Counts), "nothing has changed"))
		return nil
	case control.OutcomeHeld:
		return fmt.Errorf("the new mapping is held back: %s; bobosync mapping show shows how to approve it", cmp.Or(entry.Text, entry.Error))
	case control.OutcomeInterrupted:
		return errors.New("the janitor was stopped before the end; it refreshes again by itself when it is back")
	default:
		return fmt.Errorf("the mapping could not be refreshed, and the previous one stays in force: %s", cmp.Or(entry.Error, entry.Text))
	}
}

func mappingApproveCommand(envFile *string) *cobra.Command {
	var f orderFlags
	cmd := &cobra.Command{
		Use:   "approve [ID]",
		Short: "Let a mapping into force that is held back",
		Long: `Put a mapping that is held back into force. Without an id it shows what is held back, and changes nothing. AtHoc is asked once
more: if it gives something else than what was approved, that is held back again.

Exit status: 0 it is in force (or, without an id, nothing is held back), 1 it is not.`,
		Example: "  bobosync mapping approve            # what is held back\n  bobosync mapping approve 3fa9c1",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: completing(envFile, func(ctx context.Context, conn *bus.Conn) ([]string, error) {
			report, err := askMapping(ctx, conn)
			if err != nil || report.Held == nil {
				return nil, err
			}

			return []string{report.Held.ID}, nil
		}),
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return showWhatIsHeld(ctx, conn, outOf(cmd), f.json)
			}

			begun, err := client.Give[control.Begun](ctx, conn, orderOf(cmd), topology.Janitor, control.MappingApprove, control.ApproveRequest{ID: args[0]})
			if err != nil {
				return err
			}

			return f.follow(ctx, conn, cmd, begun, "The mapping is in force")
		}),
	}
	f.add(cmd)

	return cmd
}

// showWhatIsHeld shows the mapping that waits for an approval. If there is one, it returns an error, since nothing was
// approved.
func showWhatIsHeld(ctx context.Context, conn *bus.Conn, out *text.Printer, asJSON bool) error {
	report, err := askMapping(ctx, conn)
	if err != nil {
		return err
	}

	switch {
	case asJSON:
		err = out.JSON(struct {
			Held *control.HeldMapping `json:"held"`
		}{report.Held})
	case report.Held == nil:
		out.Printf("No mapping is held back.\n")
		err = out.Err()
	default:
		showHeld(out, *report.Held)
		err = out.Err()
	}

	if err == nil && report.Held != nil {
		err = ExitStatus(exitFailed)
	}

	return err
}
