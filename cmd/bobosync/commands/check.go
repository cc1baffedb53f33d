package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"bobosync/cmd/bobosync/check"
	"bobosync/cmd/bobosync/settings"
	"bobosync/cmd/bobosync/terminal"
	"bobosync/services/ingest"
	"bobosync/services/janitor"
	"bobosync/services/publisher"
	"bobosync/services/resolver"
	"bobosync/shared/client"
	"bobosync/shared/config"
	"bobosync/shared/program"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func checkCommand(envFile *string) *cobra.Command {
	var service string
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Try everything that the settings name, and say what is wrong and what to do",
		Long: `Try everything that the settings name: variables, directories, time zones, the way to AtHoc, its account, organisation and
attributes, and the broker with its streams. Each line says how it is, and under a warning or a problem stands what to do.
Nobody's status is changed, no stream is made. AtHoc is asked for one access token at the most, and for none where the
services share one. The right to write is tried with an update of a user who does not exist.

The exit status is 0, 1 if there are warnings, and 2 if there are problems.`,
		Example: "  bobosync check\n  bobosync check --env /etc/bobosync/production.env\n  bobosync check --service publisher --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageError{errors.New("--timeout must be longer than 0s")}
			}
			s, err := checkSettings(cmd.Context(), *envFile, topology.Service(service))
			if err != nil {
				return err
			}
			results := check.Run(cmd.Context(), check.Options{Settings: s, Timeout: timeout, Version: program.Version})
			if err := printResults(cmd.OutOrStdout(), results, asJSON); err != nil {
				return err
			}
			if status := check.Status(results); status != 0 {
				return ExitStatus(status)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "check for this `service` of its own (ingest, resolver, publisher, janitor), not for all")
	completeFlag(cmd, "service", cobra.FixedCompletions([]cobra.Completion{
		string(topology.Ingest), string(topology.Resolver), string(topology.Publisher), string(topology.Janitor),
	}, noNames))
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON, for scripts")
	cmd.Flags().DurationVar(&timeout, "timeout", check.DefaultTimeout, "how long everything together may take")
	return cmd
}

// printResults writes the results, with colours on a terminal.
func printResults(w io.Writer, results []check.Result, asJSON bool) error {
	if asJSON {
		return text.JSON(w, results)
	}
	_, color := terminal.Look(w)
	return check.Print(w, results, color)
}

// checkSettings reads the settings of a service, or of all, as far as they can be read.
func checkSettings(ctx context.Context, envFile string, service topology.Service) (check.Settings, error) {
	reader, err := readerOf(service)
	if err != nil {
		return check.Settings{}, err
	}
	explicit := envFile != ""
	if !explicit {
		envFile = ".env"
	}
	source, err := config.Environment(envFile, explicit)
	if err != nil {
		return check.Settings{Service: service, Findings: err, Unread: true}, nil //nolint:nilerr // it is one of the findings
	}
	var monitor monitorSettings
	findings := errors.Join(config.Load(ctx, source, reader.target), config.Load(ctx, source, &monitor))
	s := reader.take()
	if service != topology.Everyone && s.Broker.URL == "" {
		findings = errors.Join(findings, errors.New("NATS_URL: not set, and a service of its own needs a broker"))
	}
	s.Service, s.Findings, s.Monitor, s.EnvFile = service, findings, monitor.Monitor, envFile
	s.Known = check.Variables(reflect.TypeFor[settings.All]())
	if s.Data != nil {
		s.InsideAddress = filepath.Join(s.Data.Directory, client.AddressFile)
	}
	return s, nil
}

// monitorSettings are those that the check alone reads.
type monitorSettings struct{ Monitor check.Monitor }

// reader is what a service's settings are read into, and how those that are checked are taken from it.
type reader struct {
	target any
	take   func() check.Settings
}

func readerOf(service topology.Service) (reader, error) {
	switch service {
	case topology.Everyone:
		var s settings.All
		return reader{&s, func() check.Settings {
			all := ofJanitor(s.Janitor)
			all.Files, all.BoboZone, all.Data = ofIngest(s.Ingest).Files, &s.Ingest.Zone, &s.Data
			return all
		}}, nil
	case topology.Ingest:
		var c ingest.Config
		return reader{&c, func() check.Settings { return ofIngest(c) }}, nil
	case topology.Resolver:
		var c resolver.Config
		return reader{&c, func() check.Settings {
			return check.Settings{Broker: c.Broker, Calls: c.Calls, Log: c.Log, Data: &c.Data}
		}}, nil
	case topology.Publisher:
		var c publisher.Config
		return reader{&c, func() check.Settings {
			return check.Settings{Broker: c.Broker, Calls: c.Calls, Log: c.Log, AtHoc: &c.AtHoc}
		}}, nil
	case topology.Janitor:
		var c janitor.Config
		return reader{&c, func() check.Settings { return ofJanitor(c) }}, nil
	}
	return reader{}, usageError{fmt.Errorf("--service %s: use ingest, resolver, publisher or janitor", service)}
}

func ofIngest(c ingest.Config) check.Settings {
	var feeds []check.Feed
	for _, in := range c.InputDirectories() {
		feeds = append(feeds, check.Feed(in))
	}
	return check.Settings{
		Broker: c.Broker, Calls: c.Calls, Log: c.Log, Data: &c.Data, BoboZone: &c.Zone,
		Files: &check.Files{Feeds: feeds, Processed: c.ProcessedDirectory, Failed: c.FailedDirectory, Move: c.Move},
	}
}

func ofJanitor(c janitor.Config) check.Settings {
	return check.Settings{
		Broker: c.Broker, Calls: c.Calls, Log: c.Log, AtHoc: &c.AtHoc,
		CollarField: c.Sync.CollarField, UserAttributes: c.Sync.UserAttributes,
	}
}
