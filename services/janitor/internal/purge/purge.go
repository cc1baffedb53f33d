// Package purge deletes old data: files and their records through ingest, which owns them, and entries of the journal.
package purge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/shared/control"
)

// Hour is the hour of the day after which old data is deleted.
const Hour = 3

// Purger deletes old data.
type Purger struct {
	// Ask asks ingest for one part of a purge. Prune deletes entries of the journal, and returns their number.
	Ask   func(context.Context, control.PurgeRequest) (control.PurgeAnswer, error)
	Prune func(ctx context.Context, before time.Time) (int, error)
	// FileDays is the age, in calendar days, beyond which files are deleted. JournalDays is that of records and
	// journal entries. 0 means never.
	FileDays, JournalDays int
	Zone                  *time.Location
	// By is the janitor's name in its requests to ingest.
	By      string
	Metrics *metrics.Set
	Now     func() time.Time
	Log     *slog.Logger
}

// limit returns the moment before which things that are kept for the given number of days are deleted; zero for never.
func limit(now time.Time, days int, zone *time.Location) time.Time {
	if days == 0 {
		return time.Time{}
	}
	return now.In(zone).AddDate(0, 0, -days)
}

// Purge deletes everything that is too old.
func (p *Purger) Purge(ctx context.Context, _ *periodic.Run) (periodic.Result, error) {
	now := p.Now()
	files, records := limit(now, p.FileDays, p.Zone), limit(now, p.JournalDays, p.Zone)
	entries, failed := 0, error(nil)
	if !records.IsZero() {
		entries, failed = p.Prune(ctx, records)
	}

	sum, err := p.askAll(ctx, control.PurgeRequest{FilesBefore: files, RecordsBefore: records, By: p.By})
	p.Metrics.FilesPurged(sum.Files)

	if err == nil && sum.Failed > 0 {
		err = fmt.Errorf("%d old files cannot be deleted, the last of them: %s", sum.Failed, sum.Error)
	}

	res := periodic.Result{Nothing: sum.Files+sum.Records+entries == 0, Counts: map[string]int{
		"files": sum.Files, "bytes": int(sum.Bytes), "records": sum.Records, "compacted_bytes": int(sum.Compacted),
		"files_failed": sum.Failed, "journal_entries": entries,
	}}
	if !res.Nothing || sum.Compacted > 0 {
		p.Log.Info("old data is deleted", "files", sum.Files, "bytes", sum.Bytes, "records", sum.Records,
			"compacted_bytes", sum.Compacted, "journal_entries", entries)
	}

	return res, errors.Join(failed, err)
}

// askAll repeats the request to ingest until nothing is left to do, and adds up the answers.
func (p *Purger) askAll(ctx context.Context, req control.PurgeRequest) (sum control.PurgeAnswer, err error) {
	for {
		part, err := p.Ask(ctx, req)
		if err != nil {
			return sum, err
		}

		sum.Files += part.Files
		sum.Bytes += part.Bytes
		sum.Records += part.Records
		sum.Compacted += part.Compacted
		sum.Failed = max(sum.Failed, part.Failed) // each part may count the same failed files
		if part.Error != "" {
			sum.Error = part.Error
		}

		if !part.More {
			return sum, nil
		}

		if part.Files+part.Records == 0 && part.Compacted == 0 {
			return sum, errors.New("ingest says that there is more to delete, and deletes nothing")
		}
	}
}
