package ingest

import (
	"log/slog"

	"bobosync/services/ingest/internal/ledger"
)

// The ledger as operators' commands look at it.
type (
	// Ledger is what ingest knows of files and rows; see its methods Files, File and Rows.
	Ledger = ledger.Ledger
	// File is the record of a file.
	File = ledger.File
	// Row is a row of a file, as Ledger.Rows yields it.
	Row = ledger.Row
	// Code is what became of a row.
	Code = ledger.Code
)

// OpenLedger opens the ledger of an ingest that does not run: the file serves one process at a time, and it is an error that
// names the file if another one has it. Close it after use.
func OpenLedger(cfg Config, log *slog.Logger) (*Ledger, error) {
	return ledger.Open(cfg.LedgerPath(), log)
}
