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
	os.Exit(program.Main("janitor", &cfg, func(ctx context.Context, deps program.Deps) error {
		return janitor.Run(ctx, cfg, deps)
	}))
}
