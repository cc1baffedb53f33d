package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// reconcileFlags are the flags of a comparison with AtHoc.
type reconcileFlags struct {
	dryRun, apply, force, last, json bool
}

func reconcileCommand(envFile *string) *cobra.Command {
	var f reconcileFlags
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare what AtHoc holds with what it should hold, and correct it if asked to",
		Long: `Compare what AtHoc holds for each user with what it should hold by the latest bookings, and list who differs and why. Nothing is
changed without --apply. With it, the wanted status of those who differ is sent, by the usual path: a newer booking wins.

If more users differ than RECONCILE_MAX_CHANGE_PERCENT allows, nothing is sent: look at the list first, and then use --force.
Users who have a status in AtHoc and no known worker are counted as unmanaged and left alone.

Exit status: 0 it was compared (and sent, with --apply), 1 it failed or was held back.`,
		Example: `  bobosync reconcile                     # only says who differs
  bobosync reconcile --apply
  bobosync reconcile --apply --force     # even if very many differ
  bobosync reconcile --last              # the last comparison again`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			if f.force && !f.apply {
				return misused("--force does nothing without --apply")
			}
			return reconcile(ctx, conn, cmd, f)
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say who differs, which is the default")
	flags.BoolVar(&f.apply, "apply", false, "send what those who differ should have")
	flags.BoolVar(&f.force, "force", false, "with --apply: even if more differ than RECONCILE_MAX_CHANGE_PERCENT")
	flags.BoolVar(&f.last, "last", false, "show the last comparison and make no new one")
	flags.BoolVar(&f.json, "json", false, "answer in JSON")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "apply", "last")
	cmd.MarkFlagsMutuallyExclusive("force", "last")

	return cmd
}

func reconcile(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, f reconcileFlags) error {
	out := outOf(cmd)
	if f.last {
		report, err := client.LastReport(ctx, conn)
		if err != nil {
			return err
		}

		return printReport(out, report, f)
	}

	begun, err := client.Give[control.Begun](ctx, conn, orderOf(cmd), topology.Janitor, control.Reconcile,
		control.ReconcileRequest{Apply: f.apply, Force: f.force})
	if err != nil {
		return err
	}

	entry, err := finish(ctx, conn, errOf(cmd), begun.Entry)
	if err != nil {
		return err
	}

	switch entry.Outcome {
	case control.OutcomeOK, control.OutcomeHeld:
	case control.OutcomeInterrupted:
		return errors.New("the janitor was stopped before the comparison was over; try again when it is back")
	default:
		return fmt.Errorf("the comparison failed: %s", cmp.Or(entry.Error, entry.Text))
	}

	report, err := client.LastReport(ctx, conn)
	if err != nil {
		return err
	}

	if report.Entry != begun.Entry {
		return errors.New("another comparison was made meanwhile; bobosync reconcile --last shows it")
	}

	if err := printReport(out, report, f); err != nil {
		return err
	}

	if report.Held != "" || entry.Outcome == control.OutcomeHeld {
		return ExitStatus(exitFailed)
	}

	return nil
}

func printReport(out *text.Printer, r control.ReconcileAnswer, f reconcileFlags) error {
	if f.json {
		return out.JSON(r)
	}
	return showReport(out, r)
}

func showReport(out *text.Printer, r control.ReconcileAnswer) error {
	if r.Entry == "" {
		out.Printf("No comparison has been made yet: bobosync reconcile makes one.\n")
		return out.Err()
	}

	switch {
	case r.Differing == 0:
		out.Printf("AtHoc holds what it should for all of %s.\n", text.Count(r.Compared, "user"))
	case r.Held != "":
		out.Printf("HELD BACK, nothing was sent: %s\nLook at the list. If AtHoc is wrong and the list right: bobosync reconcile --apply --force\n", r.Held)
	case r.Applied > 0:
		out.Printf("AtHoc held something else than it should for %d of %s; %d were sent the right status.\n", r.Differing, text.Count(r.Compared, "user"), r.Applied)
	case r.TooMany != "":
		out.Printf("AtHoc holds something else than it should: %s.\nNothing was sent, and sending it would be held back. Look at the list. If AtHoc is wrong and the list right: bobosync reconcile --apply --force\n", r.TooMany)
	default:
		out.Printf("AtHoc holds something else than it should for %d of %s. Nothing was sent; bobosync reconcile --apply corrects it.\n",
			r.Differing, text.Count(r.Compared, "user"))
	}

	if r.Unmanaged > 0 {
		out.Printf("%s with a duty status and no known worker: unmanaged, left alone.\n", text.Count(r.Unmanaged, "user"))
	}

	out.Printf("Compared from %s to %s.\n", text.When(r.Started), text.When(r.Ended))

	if len(r.Users) == 0 {
		return out.Err()
	}

	out.Printf("\n")

	rows := [][]string{{"USER", "EMPLOYEE", "HOLDS", "WANTED", "SENT", "WHY"}}
	for _, u := range r.Users {
		sent := "no"
		if u.Applied {
			sent = "yes"
		}

		rows = append(rows, []string{u.User, u.Employee, statusText(u.Holds), statusText(u.Wanted), sent, u.Why})
	}

	out.Table(rows)

	return out.Err()
}

func statusText(text string) string {
	if text == "" {
		return "off duty"
	}
	return text
}
