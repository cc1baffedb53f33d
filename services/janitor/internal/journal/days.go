package journal

// The hashes of the audit at the end of each day. An attacker who changes the audit must change the journal as well.

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/audit"
	"bobosync/shared/control"
	"bobosync/shared/pause"
)

// daysInterval is the time between two checks of whether a day is over.
const daysInterval = time.Hour

// Days records in the journal the hash at which each chain of the audit ended on each day.
type Days struct {
	JS      jetstream.JetStream
	Journal *Journal
	Now     func() time.Time
	Log     *slog.Logger
}

// Keep records the days that are over until ctx ends. It logs failures and tries again; it never returns an error.
func (d Days) Keep(ctx context.Context) error {
	for {
		if err := d.close(ctx); err != nil && ctx.Err() == nil {
			d.Log.Warn("the hashes of the audit could not be noted in the journal; it is tried again in an hour", "error", err)
		}

		if err := pause.For(ctx, daysInterval); err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
	}
}

// close records the days that are over and not yet in the journal.
func (d Days) close(ctx context.Context) error {
	chains, err := audit.LoadChains(ctx, d.JS)
	if err != nil {
		return err
	}

	noted, err := d.Journal.List(control.JournalRequest{Kind: control.KindAudit, Most: 1})
	if err != nil {
		return err
	}

	for _, day := range daysAfter(chains.Days(d.Now()), noted.Entries) {
		now := d.Now().UTC()

		_, err := d.Journal.Begin(control.JournalEntry{
			Kind: control.KindAudit, Started: now, Ended: now, Outcome: control.OutcomeOK, Audit: &day,
			Text: "where the records of orders ended on " + day.Date,
		})
		if err != nil {
			return fmt.Errorf("note the audit of %s: %w", day.Date, err)
		}
	}

	return nil
}

// daysAfter returns the days after the last recorded one.
func daysAfter(days []audit.Day, noted []control.JournalEntry) []audit.Day {
	for len(days) > 0 && len(noted) > 0 && noted[0].Audit != nil && days[0].Date <= noted[0].Audit.Date {
		days = days[1:]
	}
	return days
}
