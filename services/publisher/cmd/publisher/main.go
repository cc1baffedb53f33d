// Command publisher writes duty statuses to AtHoc. Any number of it may run.
package main

import (
	"context"
	"log/slog"
	"os"

	"bobosync/services/publisher"
	"bobosync/shared/bus"
	"bobosync/shared/program"
)

func main() {
	var cfg publisher.Config
	os.Exit(program.Main("publisher", &cfg, func(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
		return publisher.Run(ctx, cfg, publisher.Options{Conn: conn, Log: log, Version: program.Version})
	}))
}
