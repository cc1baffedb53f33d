// Command publisher writes duty statuses to AtHoc. Any number of instances may run.
package main

import (
	"context"
	"os"

	"bobosync/services/publisher"
	"bobosync/shared/program"
)

func main() {
	var cfg publisher.Config
	os.Exit(program.Main("publisher", &cfg, func(ctx context.Context, deps program.Deps) error {
		return publisher.Run(ctx, cfg, deps)
	}))
}
