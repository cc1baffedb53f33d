package commands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"bobosync/cmd/bobosync/settings"
	"bobosync/cmd/bobosync/terminal"
	"bobosync/services/ingest"
	"bobosync/services/janitor"
	"bobosync/services/publisher"
	"bobosync/services/resolver"
	"bobosync/shared/bus"
	"bobosync/shared/check"
	"bobosync/shared/client"
	"bobosync/shared/config"
	"bobosync/shared/program"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// exitProblems is the exit status if the check finds problems.
const exitProblems = 2

func checkCommand(envFile *string) *cobra.Command {
	var service string
	var asJSON, running bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Try everything that the settings name, and say what is wrong and what to do",
		Long: `Try everything that the settings name: variables, directories, time zones, the way to AtHoc, its account, organisation and
attributes, and the broker with its streams. Each line says how it is, and under a warning or a problem stands what to do.
Nobody's status is changed, no stream is made. AtHoc is asked for one access token at the most, and for none where the
services share one. The right to write is tried with an update of a user who does not exist.

With --running the services that run do the same, each from its own machine, with its own settings and key; that is an order, which
the audit keeps.

The exit status is 0, 1 if there are warnings, and 2 if there are problems, or nobody could be asked.`,
		Example: "  bobosync check\n  bobosync check --env /etc/bobosync/production.env\n  bobosync check --service publisher --json\n  bobosync check --running",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 {
				return usageError{errors.New("--timeout must be longer than 0s")}
			}

			if running {
				err := withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
					results, err := client.Check(ctx, conn, orderOf(cmd))
					if err != nil {
						return err
					}

					return printResults(cmd, results, asJSON)
				})(cmd, args)
				if status := ExitStatus(0); err != nil && !errors.As(err, &status) {
					err = withStatus{err, exitProblems} // no service could be asked
				}

				return err
			}

			s, err := checkSettings(cmd.Context(), *envFile, topology.Service(service))
			if err != nil {
				return err
			}

			return printResults(cmd, check.Run(cmd.Context(), check.Options{Settings: s, Timeout: timeout, Version: program.Version}), asJSON)
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "check for this `service` of its own (ingest, resolver, publisher, janitor), not for all")
	completeFlag(cmd, "service", cobra.FixedCompletions([]cobra.Completion{
		string(topology.Ingest), string(topology.Resolver), string(topology.Publisher), string(topology.Janitor),
	}, noNames))
	cmd.Flags().BoolVar(&running, "running", false, "let the running services check, each for itself")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON, for scripts")
	cmd.Flags().DurationVar(&timeout, "timeout", check.DefaultTimeout, "how long everything together may take")
	cmd.MarkFlagsMutuallyExclusive("running", "service")
	cmd.MarkFlagsMutuallyExclusive("running", "timeout")

	return cmd
}

// printResults prints the results, in colour on a terminal, and returns their exit status as its error.
func printResults(cmd *cobra.Command, results []check.Result, asJSON bool) (err error) {
	w := cmd.OutOrStdout()
	if asJSON {
		err = text.JSON(w, results)
	} else {
		_, colour := terminal.Detect(w)
		err = check.Print(w, results, colour)
	}

	if status := check.Status(results); err == nil && status != 0 {
		err = ExitStatus(status)
	}

	return err
}

// checkSettings reads the settings of one service or of all. Settings that cannot be read become findings.
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

// monitorSettings are the settings that only the check reads.
type monitorSettings struct{ Monitor check.Monitor }

// reader reads a service's settings into target; take returns those that are checked.
type reader struct {
	target any
	take   func() check.Settings
}

func readerOf(service topology.Service) (reader, error) {
	switch service {
	case topology.Everyone:
		var s settings.All

		return reader{&s, func() check.Settings {
			all := s.Janitor.Checked()
			all.Files, all.BoboZone, all.Data = s.Ingest.Checked().Files, &s.Ingest.Zone, &s.Data
			return all
		}}, nil
	case topology.Ingest:
		var c ingest.Config
		return reader{&c, c.Checked}, nil
	case topology.Resolver:
		var c resolver.Config
		return reader{&c, c.Checked}, nil
	case topology.Publisher:
		var c publisher.Config
		return reader{&c, c.Checked}, nil
	case topology.Janitor:
		var c janitor.Config
		return reader{&c, c.Checked}, nil
	}

	return reader{}, usageError{fmt.Errorf("--service %s: use ingest, resolver, publisher or janitor", service)}
}
