// Command console serves the operators' web console.
package main

import (
	"context"
	"os"
	"time"

	"bobosync/services/console"
	"bobosync/shared/program"
)

func main() {
	var cfg console.Config
	os.Exit(program.MainUnconnected("console", &cfg, func(ctx context.Context, deps program.Deps) error {
		time.Local = cfg.Zone.Location() // all that this program shows is in time.Local
		return console.Run(ctx, cfg, deps)
	}))
}
