// Command publisher writes duty statuses to AtHoc. Any number of it may run.
package main

import (
	"context"
	"os"

	"bobosync/services/publisher"
	"bobosync/shared/program"
)

func main() {
	var cfg publisher.Config
	os.Exit(program.Main("publisher", &cfg, func(ctx context.Context, host program.Host) error {
		return publisher.Run(ctx, cfg, publisher.Options{
			Conn: host.Conn, Log: host.Log, Version: program.Version, Telemetry: host.Telemetry,
		})
	}))
}
