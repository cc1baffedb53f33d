// Command console serves the operators' web console.
package main

import (
	"context"
	"os"

	"bobosync/services/console"
	"bobosync/shared/program"
)

func main() {
	var cfg console.Config
	os.Exit(program.MainUnconnected("console", &cfg, func(ctx context.Context, deps program.Deps) error {
		return console.Run(ctx, cfg, deps)
	}))
}
