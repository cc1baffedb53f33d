// Command janitor keeps the mapping of employee ids to AtHoc users fresh.
package main

import (
	"context"
	"os"

	"bobosync/services/janitor"
	"bobosync/shared/program"
)

func main() {
	var cfg janitor.Config
	os.Exit(program.Main("janitor", &cfg, func(ctx context.Context, host program.Host) error {
		return janitor.Run(ctx, cfg, janitor.Options{
			Conn: host.Conn, Log: host.Log, Version: program.Version, Telemetry: host.Telemetry,
		})
	}))
}
