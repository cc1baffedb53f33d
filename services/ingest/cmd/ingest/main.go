// Command ingest turns BOBO's CSV files into events, and lets go of a file when all of its rows are settled.
package main

import (
	"context"
	"log/slog"
	"os"

	"bobosync/services/ingest"
	"bobosync/shared/bus"
	"bobosync/shared/program"
)

func main() {
	var cfg ingest.Config
	os.Exit(program.Main("ingest", &cfg, func(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
		return ingest.Run(ctx, cfg, ingest.Options{Conn: conn, Log: log, Version: program.Version})
	}))
}
