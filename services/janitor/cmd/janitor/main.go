// Command janitor keeps the mapping of employee ids to AtHoc users fresh.
package main

import (
	"context"
	"log/slog"
	"os"

	"bobosync/services/janitor"
	"bobosync/shared/bus"
	"bobosync/shared/program"
)

func main() {
	var cfg janitor.Config
	os.Exit(program.Main("janitor", &cfg, func(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
		return janitor.Run(ctx, cfg, janitor.Options{Conn: conn, Log: log, Version: program.Version})
	}))
}
