// Command ingest turns BOBO's CSV files into events, and lets go of a file when all of its rows are settled.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"bobosync/services/ingest"
	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/program"
	"bobosync/shared/topology"
)

type settings struct {
	Broker config.Broker
	Calls  config.Calls
	Log    config.Log
	Ingest ingest.Config
}

// Validate implements program.Settings.
func (s *settings) Validate() error {
	return errors.Join(s.Broker.Validate(), s.Calls.Validate(), s.Log.Validate(), s.Ingest.Validate())
}

// Common implements program.Settings.
func (s *settings) Common() (config.Broker, config.Log) { return s.Broker, s.Log }

func main() {
	var s settings
	os.Exit(program.Main("ingest", &s, func(ctx context.Context, conn *bus.Conn, log *slog.Logger) error {
		return ingest.Run(ctx, s.Ingest, ingest.Deps{Conn: conn, Topology: topology.From(s.Broker, s.Calls), Logger: log})
	}))
}
