package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// reconcileFlags are what an operator wants of a comparison.
type reconcileFlags struct {
	dryRun, apply, force, last, json bool
}

func reconcileCommand(envFile *string) *cobra.Command {
	var f reconcileFlags
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare what AtHoc holds with what it should hold, and mend it if asked to",
		Long: `Compare what AtHoc holds for each user with what it should hold by the latest bookings, and list who differs and why. Nothing is
changed without --apply. With it, the wanted status of those who differ is sent, by the usual path: a newer booking wins.

If more users differ than RECONCILE_MAX_CHANGE_PERCENT allows, nothing is sent: look at the list first, and then use --force.
Users who have a status in AtHoc and no known worker are counted as foreign and left alone.

Exit status: 0 it was compared (and sent, with --apply), 1 it failed or was held back.`,
		Example: `  bobosync reconcile                     # only says who differs
  bobosync reconcile --apply
  bobosync reconcile --apply --force     # even if very many differ
  bobosync reconcile --last              # the last comparison once more`,
		Args: cobra.NoArgs,
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
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
	out := cmd.OutOrStdout()
	if f.last {
		report, err := lastReport(ctx, conn)
		if err != nil {
			return err
		}
		return tellReport(out, report, f)
	}
	begun, err := control.Ask[control.Begun](ctx, conn.NC, topology.Janitor, control.Reconcile,
		control.ReconcileRequest{Apply: f.apply, Force: f.force, By: whoami()})
	if err != nil {
		return err
	}
	entry, err := finish(ctx, conn, cmd.ErrOrStderr(), begun.Entry)
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
	report, err := lastReport(ctx, conn)
	if err != nil {
		return err
	}
	if report.Entry != begun.Entry {
		return errors.New("another comparison was made meanwhile; bobosync reconcile --last shows it")
	}
	if err := tellReport(out, report, f); err != nil {
		return err
	}
	if report.Held != "" || entry.Outcome == control.OutcomeHeld {
		return exitStatus(exitFailed)
	}
	return nil
}

// lastReport asks for the last comparison, page by page.
func lastReport(ctx context.Context, conn *bus.Conn) (control.ReconcileAnswer, error) {
	whole := control.ReconcileAnswer{Users: []control.DifferingUser{}} // JSON's null is no list
	for page := (control.Page{}); ; {
		answer, err := control.Ask[control.ReconcileAnswer](ctx, conn.NC, topology.Janitor, control.ReconcileReport, page)
		if err != nil {
			return whole, err
		}
		if page.After > 0 && answer.Entry != whole.Entry {
			return whole, errors.New("another comparison was made meanwhile; ask again")
		}
		users := append(whole.Users, answer.Users...)
		next := answer.Next
		whole = answer
		whole.Users, whole.Next = users, 0
		if next <= page.After {
			return whole, nil
		}
		page.After = next
	}
}

func tellReport(out io.Writer, r control.ReconcileAnswer, f reconcileFlags) error {
	if f.json {
		return printJSON(out, r)
	}
	return showReport(out, r)
}

func showReport(out io.Writer, r control.ReconcileAnswer) error {
	if r.Entry == "" {
		fmt.Fprintln(out, "No comparison has been made yet: bobosync reconcile makes one.")
		return nil
	}
	switch {
	case r.Differing == 0:
		fmt.Fprintf(out, "AtHoc holds what it should for all of %s.\n", count(r.Compared, "user"))
	case r.Held != "":
		fmt.Fprintf(out, "HELD BACK, nothing was sent: %s\nLook at the list. If AtHoc is wrong and the list right: bobosync reconcile --apply --force\n", r.Held)
	case r.Applied > 0:
		fmt.Fprintf(out, "AtHoc held something else than it should for %d of %s; %d were sent the right status.\n", r.Differing, count(r.Compared, "user"), r.Applied)
	default:
		fmt.Fprintf(out, "AtHoc holds something else than it should for %d of %s. Nothing was sent; bobosync reconcile --apply mends it.\n",
			r.Differing, count(r.Compared, "user"))
	}
	if r.Foreign > 0 {
		fmt.Fprintf(out, "%s with a duty status are no known workers and left alone.\n", count(r.Foreign, "user"))
	}
	fmt.Fprintf(out, "Compared from %s to %s.\n", when(r.Started), when(r.Ended))
	if len(r.Users) == 0 {
		return nil
	}
	rows := [][]string{{"\nUSER", "EMPLOYEE", "HOLDS", "WANTED", "SENT", "WHY"}}
	for _, u := range r.Users {
		sent := "no"
		if u.Applied {
			sent = "yes"
		}
		rows = append(rows, []string{u.User, u.Employee, statusText(u.Holds), statusText(u.Wanted), sent, u.Why})
	}
	return table(out, rows)
}

func statusText(text string) string {
	if text == "" {
		return "off duty"
	}
	return text
}
