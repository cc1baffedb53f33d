// Package intake reads files: it takes their rows into the ledger and publishes their entries, in that order.
package intake

import (
	"log/slog"
	"time"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/telemetry"
)

// Intake holds what reading files needs. Its fields are set before its first use; all of them but Traces are
// required.
type Intake struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger
	// Zone is the zone of the wall clock in the files. MaxClockSkew is how far in the future an event may lie.
	Zone         *time.Location
	MaxClockSkew time.Duration
	// Stay reports that finished files stay in the input directory.
	Stay    bool
	Now     func() time.Time
	Hit     failpoint.Hit
	Metrics Metrics
	Traces  *telemetry.Telemetry
	// Finished is called with files that have no row left to settle, and again when such a file turns up again.
	Finished func(files ...*ledger.File)
	// Retry has the file under a name offered again.
	Retry func(name string)
}

// Metrics counts what was read.
type Metrics interface {
	EntriesPublished(n int)
	FileRead(took time.Duration)
}

// NewFile returns the record of a content that the ledger does not know.
func (in *Intake) NewFile(name string, c *content.File) *ledger.File {
	f := &ledger.File{
		ID: c.ID, Name: name, Status: ledger.Reading, Size: c.Stat.Size, Modified: c.Stat.Time(), Reference: in.Now(),
		Problem: c.Problem,
	}
	f.Note(in.Now(), "found as "+name)

	return f
}

// Earlier returns when a file must have been read first, for a ledger that does not know any more: when the file
// arrived, or now if that lies in the future.
func (in *Intake) Earlier(c *content.File) time.Time {
	if now := in.Now(); now.Before(c.Arrival) {
		return now
	}
	return c.Arrival
}
