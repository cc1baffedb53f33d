// Command resolver finds each worker's latest event and publishes the duty status that the worker's AtHoc user should
// have.
package main

import (
	"context"
	"os"

	"bobosync/services/resolver"
	"bobosync/shared/program"
)

func main() {
	var cfg resolver.Config
	os.Exit(program.Main("resolver", &cfg, func(ctx context.Context, deps program.Deps) error {
		return resolver.Run(ctx, cfg, deps)
	}))
}
