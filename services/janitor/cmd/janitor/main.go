// Command janitor runs the janitor, the service that owns the clock.
package main

import (
	"context"
	"os"

	"bobosync/services/janitor"
	"bobosync/shared/program"
)

func main() {
	var cfg janitor.Config
	os.Exit(program.Main("janitor", &cfg, func(ctx context.Context, deps program.Deps) error {
		return janitor.Run(ctx, cfg, deps)
	}))
}
