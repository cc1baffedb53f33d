// Command ingest turns BOBO's CSV files into events, and moves a file away once all of its rows are settled.
package main

import (
	"context"
	"os"

	"bobosync/services/ingest"
	"bobosync/shared/program"
)

func main() {
	var cfg ingest.Config
	os.Exit(program.Main("ingest", &cfg, func(ctx context.Context, deps program.Deps) error {
		return ingest.Run(ctx, cfg, deps)
	}))
}
