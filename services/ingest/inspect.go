package ingest

import (
	"log/slog"

	"bobosync/services/ingest/internal/ledger"
)

// The ledger as operators' commands see it.
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

// OpenLedger opens the ledger of an ingest that is not running. Only one process at a time can have the file open; if
// another one has it, the error names the file. Close the ledger after use.
func OpenLedger(cfg Config, log *slog.Logger) (*Ledger, error) {
	return ledger.Open(cfg.LedgerPath(), log)
}
