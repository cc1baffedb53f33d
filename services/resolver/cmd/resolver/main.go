// Command resolver finds each worker's latest event and publishes the duty status that the worker's AtHoc user should have.
package main

import (
	"context"
	"log/slog"
	"os"

	"bobosync/services/resolver"
	"bobosync/shared/bus"
	"bobosync/shared/program"
)

func main() {
	var cfg resolver.Config
	os.Exit(program.Main("resolver", &cfg, func(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
		return resolver.Run(ctx, cfg, resolver.Options{Conn: conn, Log: log, Version: program.Version})
	}))
}
