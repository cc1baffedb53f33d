package journal

// The hashes of the audit at the end of each day: an attacker who changes the audit has to change the journal as well.

import (
	"context"
	"fmt"
	"time"

	"bobosync/shared/audit"
	"bobosync/shared/control"
	"bobosync/shared/pause"
)

// daysInterval is how often it is checked whether a day is over.
const daysInterval = time.Hour

// KeepDays notes where the chains of the audit ended each day, until ctx ends.
func (j *Journal) KeepDays(ctx context.Context) error {
	for {
		if err := j.closeDays(ctx); err != nil && ctx.Err() == nil {
			j.log.Warn("the hashes of the audit could not be noted in the journal; it is tried again in an hour", "error", err)
		}
		if err := pause.For(ctx, daysInterval); err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
	}
}

// closeDays notes the days that are over and not noted yet.
func (j *Journal) closeDays(ctx context.Context) error {
	chains, err := audit.LoadChains(ctx, j.js)
	if err != nil {
		return err
	}
	noted, err := j.List(control.JournalRequest{Kind: control.KindAudit, Most: 1})
	if err != nil {
		return err
	}
	for _, day := range daysAfter(chains.Days(j.now()), noted.Entries) {
		now := j.now().UTC()
		_, err := j.Begin(control.JournalEntry{
			Kind: control.KindAudit, Started: now, Ended: now, Outcome: control.OutcomeOK, Audit: &day,
			Text: "where the records of orders ended on " + day.Date,
		})
		if err != nil {
			return fmt.Errorf("note the audit of %s: %w", day.Date, err)
		}
	}
	return nil
}

// daysAfter leaves out the days up to the one that was noted last.
func daysAfter(days []audit.Day, noted []control.JournalEntry) []audit.Day {
	for len(days) > 0 && len(noted) > 0 && noted[0].Audit != nil && days[0].Date <= noted[0].Audit.Date {
		days = days[1:]
	}
	return days
}
