// Package settings holds the settings of all services together.
package settings

import (
	"errors"
	"strings"

	"bobosync/services/console"
	"bobosync/services/ingest"
	"bobosync/services/janitor"
	"bobosync/services/publisher"
	"bobosync/services/resolver"
	"bobosync/shared/check"
	"bobosync/shared/config"
	"bobosync/shared/telemetry"
)

// All holds the settings of all services; each service reads the variables that concern it.
type All struct {
	Log       config.Log
	Broker    config.Broker
	Data      config.Data
	Telemetry telemetry.Config

	Ingest    ingest.Config
	Resolver  resolver.Config
	Publisher publisher.Config
	Janitor   janitor.Config
	Console   console.Config

	// Monitor is only for "bobosync check".
	Monitor check.Monitor
}

// Validate reports everything that is wrong with the settings, each finding once.
func (s *All) Validate() error {
	err := errors.Join(s.Log.Validate(), s.Broker.Validate(), s.Telemetry.Validate(),
		s.Ingest.Validate(), s.Resolver.Validate(), s.Publisher.Validate(), s.Janitor.Validate(), s.Console.Validate())
	if err == nil {
		return nil
	}

	var findings []error
	printed := map[string]bool{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !printed[line] {
			printed[line] = true
			findings = append(findings, errors.New(line))
		}
	}

	return errors.Join(findings...)
}
