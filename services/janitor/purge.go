package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/duty"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
)

// purgeHour is the hour of the day after which what is old is forgotten.
const purgeHour = 3

// purger forgets what is old: files and their records through ingest, which owns them, and its own journal.
type purger struct {
	// ask asks ingest for a part of a purge, prune forgets entries of the journal.
	ask     func(context.Context, control.PurgeRequest) (control.PurgeAnswer, error)
	prune   func(before time.Time) (int, error)
	days    Retention
	zone    *time.Location
	metrics *telemetry.Janitor
	now     func() time.Time
	log     *slog.Logger
}

// limits are the moments before which things are forgotten; zero for never.
func limits(now time.Time, days Retention, zone *time.Location) (files, records time.Time) {
	day := func(n int) time.Time {
		if n == 0 {
			return time.Time{}
		}
		return now.In(zone).AddDate(0, 0, -n)
	}
	return day(days.Files), day(days.Journal)
}

// purge forgets once, as much as there is.
func (p *purger) purge(ctx context.Context, _ *duty.Order) (result, error) {
	files, records := limits(p.now(), p.days, p.zone)
	entries, failed := 0, error(nil)
	if !records.IsZero() {
		entries, failed = p.prune(records)
	}
	sum, err := p.askAll(ctx, control.PurgeRequest{FilesBefore: files, RecordsBefore: records, By: name})
	p.metrics.FilesPurged(sum.Files)
	if err == nil && sum.Failed > 0 {
		err = fmt.Errorf("%d old files cannot be deleted, the last of them: %s", sum.Failed, sum.Error)
	}
	res := result{nothing: sum.Files+sum.Records+entries == 0, counts: map[string]int{
		"files": sum.Files, "bytes": int(sum.Bytes), "records": sum.Records, "compacted_bytes": int(sum.Compacted),
		"files_failed": sum.Failed, "journal_entries": entries,
	}}
	if !res.nothing || sum.Compacted > 0 {
		p.log.Info("what is old is forgotten", "files", sum.Files, "bytes", sum.Bytes, "records", sum.Records,
			"compacted_bytes", sum.Compacted, "journal_entries", entries)
	}
	return res, errors.Join(failed, err)
}

// askAll asks ingest until there is nothing left to do.
func (p *purger) askAll(ctx context.Context, req control.PurgeRequest) (sum control.PurgeAnswer, err error) {
	for {
		part, err := p.ask(ctx, req)
		if err != nil {
			return sum, err
		}
		sum.Files += part.Files
		sum.Bytes += part.Bytes
		sum.Records += part.Records
		sum.Compacted += part.Compacted
		sum.Failed = max(sum.Failed, part.Failed) // the same files may fail in each part
		if part.Error != "" {
			sum.Error = part.Error
		}
		if !part.More {
			return sum, nil
		}
		if part.Files+part.Records == 0 && part.Compacted == 0 {
			return sum, errors.New("ingest says that there is more to forget, and forgets nothing")
		}
	}
}
