package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"bobosync/shared/audit"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func auditCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who ordered what, and verify that no record of it was changed, removed or put in",
		Long: `Show who ordered what, and verify that no record of it was changed, removed or put in.

Each service records an order before it follows it, and what came of it afterwards; an order that cannot be recorded is not
followed. Records are kept for AUDIT_DAYS, and nobody's key can remove one. Who gave an order is what the broker knows of the
connection: give each operator a key of his own (make nats-operators). What the operator's program says of itself stands behind it in
brackets. With the broker inside bobosync run there is one login, that of DATA_DIRECTORY, so there is only what is said.`,
		Example: `  bobosync audit list
  bobosync audit list --since 24h
  bobosync audit verify`,
	}
	cmd.AddCommand(auditListCommand(envFile), auditVerifyCommand(envFile))

	return cmd
}

func auditListCommand(envFile *string) *cobra.Command {
	var since string
	var most int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the orders: when, by whom, how that is known, from where, what, and what came of it; newest first",
		Long: `List the orders, newest first: when, by whom, from where, what, and what came of it. --json has all of it: the set that was
ordered, the reason, the forecast and the answer. It may name workers: mind who sees it.`,
		Example: `  bobosync audit list
  bobosync audit list --since "2026-06-17 02:00" --most 500
  bobosync audit list --since 24h --json`,
		Args: cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			if most < 1 {
				return misused("--most must be at least 1")
			}

			var from time.Time
			if since != "" {
				var err error
				if from, err = moment(since, time.Now()); err != nil {
					return err
				}
			}

			chains, err := audit.Load(ctx, conn.JS)
			if err != nil {
				return err
			}

			orders := audit.Orders(chains.Entries())
			orders = slices.DeleteFunc(orders, func(o audit.Ordered) bool { return o.At.Before(from) })
			orders = orders[:min(len(orders), most)]
			out := outOf(cmd)
			if asJSON {
				return out.JSON(orders)
			}

			showOrders(out, orders)

			return out.Err()
		}),
	}
	cmd.Flags().StringVar(&since, "since", "", "only what was ordered since this `time`, such as 24h or \"2026-06-17 02:00\"")
	cmd.Flags().IntVar(&most, "most", 50, "at most this `many` orders, the latest")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

func showOrders(out *text.Printer, orders []audit.Ordered) {
	if len(orders) == 0 {
		out.Printf("Nothing was ordered, as far as the audit goes back.\n")
		return
	}

	rows := [][]string{{"AT", "BY", "KNOWN BY", "FROM", "ORDER", "OUTCOME", "WHAT"}}
	for _, o := range orders {
		rows = append(rows, []string{
			text.When(o.At), text.Dash(o.Caller.String()), o.Caller.KnownBy(), text.Dash(o.Caller.Host), o.Service + " " + o.Endpoint,
			cmp.Or(o.Outcome, "unknown"), o.Words(),
		})
	}

	out.Table(rows)
}

func auditVerifyCommand(envFile *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify that no record of an order was changed, removed or put in",
		Long: `Verify that no record of an order was changed, removed or put in: each record holds the hash of the one before, each service says
where its chain ends, and the janitor's journal has the hashes of each day. What was dropped because it is older than AUDIT_DAYS is
not missed.

Exit status: 0 all is as it was written, 1 it is not, or could not be verified.`,
		Example: "  bobosync audit verify\n  bobosync audit verify --json",
		Args:    cobra.NoArgs,
		RunE: withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			chains, err := audit.Load(ctx, conn.JS)
			if err != nil {
				return err
			}

			days, unasked := auditDays(ctx, conn.NC)
			if unasked != nil && !errors.Is(unasked, control.ErrNobody) {
				return unasked
			}

			if err := printVerified(outOf(cmd), asJSON, chains, days); err != nil || unasked == nil {
				return err
			}

			return fmt.Errorf("the chains are whole, but the hashes of the days could not be compared: %w", unasked)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")

	return cmd
}

// auditDays returns the ends of the chains, day by day, as the janitor's journal has them.
func auditDays(ctx context.Context, nc *nats.Conn) ([]audit.Day, error) {
	var days []audit.Day
	req := control.JournalRequest{Kind: control.KindAudit}
	for {
		answer, err := control.Ask[control.JournalAnswer](ctx, nc, topology.Janitor, control.Journal, req)
		if err != nil {
			return days, err
		}

		for _, e := range answer.Entries {
			if e.Audit != nil {
				days = append(days, *e.Audit)
			}
		}

		if !answer.More || len(answer.Entries) == 0 {
			return days, nil
		}

		req.Before = answer.Entries[len(answer.Entries)-1].ID
	}
}

func printVerified(out *text.Printer, asJSON bool, chains audit.Chains, days []audit.Day) error {
	found := audit.Verify(chains, days, time.Now())
	if asJSON {
		err := out.JSON(struct {
			Records  int             `json:"records"`
			Days     int             `json:"days"`
			Findings []audit.Finding `json:"findings"`
		}{len(chains.Links), len(days), append([]audit.Finding{}, found...)})
		if err != nil {
			return err
		}
	} else {
		for _, f := range found {
			out.Printf("%s: %s\n", f.Service, f.Text)
		}
	}

	switch {
	case len(found) > 0 && asJSON:
		return ExitStatus(exitFailed)
	case len(found) > 0:
		return fmt.Errorf("the audit is not as it was written: %s", text.Count(len(found), "finding"))
	case !asJSON:
		out.Printf("All of %s are as they were written, and %s of the journal fit.\n", text.Count(len(chains.Links), "record"), text.Count(len(days), "day"))

		if chains.Hidden {
			out.Printf("What was ordered, and what was answered, is for operators to see and to verify.\n")
		}
	}

	return out.Err()
}
