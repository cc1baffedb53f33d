package commands

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/program"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// provisioning holds the settings that provisioning needs. They are those of the services, since the broker's parts
// depend on them.
type provisioning struct {
	Broker config.Broker
	Calls  config.Calls
}

// Validate implements config.Validator.
func (p *provisioning) Validate() error {
	if err := p.Broker.Validate(); err != nil {
		return err
	}
	return p.Calls.Validate()
}

// provisioned is what the command reports, in JSON too.
type provisioned struct {
	// Version is the version of the broker's server that the command is connected to.
	Version string `json:"version"`
	// Servers are the servers of the broker; empty if it does not report them.
	Servers   []topology.Server  `json:"servers,omitempty"`
	Resources []topology.Finding `json:"parts"`
	// Changed: something was created or changed.
	Changed bool `json:"changed"`
	// AsWanted: after the changes, everything is as the settings want it.
	AsWanted bool `json:"as_wanted"`
	// Notes are further facts that an operator should know.
	Notes []string `json:"notes,omitempty"`
}

func provisionCommand(envFile *string) *cobra.Command {
	var dryRun, asJSON, keeps bool
	cmd := &cobra.Command{
		Use:   "provision",
		Short: "Make the broker's streams, consumers and buckets, and bring them to the settings",
		Long: `Make the broker's streams, consumers and buckets, and bring them to the settings.

At a broker without users the services do this by themselves, each for its own part. At one that keeps its users apart no
service may: there "bobosync provision --keep" runs beside the services, with the provisioner's key, and makes what is missing,
at the start and after a loss. Its settings STREAM_REPLICAS, ENTRIES_MAX_BYTES and ATHOC_TIMEOUT must be the services' own.

It shows first what differs, and deletes nothing: what a broker does not change in place, and what would drop messages, it
leaves as it is and says why. It may be run as often as you like, also while the services run.

Exit status: 0 everything is as wanted, 1 something is not or could not be done, 2 called wrongly or a setting is wrong.`,
		Example: `  bobosync provision --dry-run
  NATS_CREDS=deploy/nats/creds/provision.nk bobosync provision
  NATS_CREDS=deploy/nats/creds/provision.nk bobosync provision --keep`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
		var p provisioning
		if err := program.Load(ctx, *envFile, &p); err != nil {
			program.PrintSettingsError(cmd.ErrOrStderr(), "the command", err)
			return ExitStatus(exitUsage)
		}

		wanted := topology.From(p.Broker, p.Calls)
		if keeps {
			return keep(ctx, conn, *envFile, wanted)
		}

		out := outOf(cmd)
		if asJSON {
			out = text.To(io.Discard)
		}

		report, err := provision(ctx, conn, wanted, dryRun, out)
		if err == nil && asJSON {
			err = outOf(cmd).JSON(report)
		}

		if err == nil && !report.AsWanted {
			return ExitStatus(exitFailed)
		}

		return err
	})
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what differs")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	cmd.Flags().BoolVar(&keeps, "keep", false, "go on until stopped, and repair what is lost or changed")
	cmd.MarkFlagsMutuallyExclusive("keep", "dry-run")
	cmd.MarkFlagsMutuallyExclusive("keep", "json")

	return cmd
}

// provision compares the broker with the settings, prints the differences, and repairs what it may unless it is a dry
// run.
func provision(ctx context.Context, conn *bus.Conn, s topology.Settings, dryRun bool, out *text.Printer) (provisioned, error) {
	report := provisioned{Version: conn.NC.ConnectedServerVersion()}
	var err error
	if report.Resources, err = topology.Survey(ctx, conn.JS, s); err != nil {
		return report, err
	}

	if err := report.checkServers(ctx, conn); err != nil {
		return report, err
	}

	report.show(out)

	if !dryRun {
		if err := report.apply(ctx, conn, out); err != nil {
			return report, err
		}

		// What the broker reports after the changes is what counts.
		now, err := topology.Survey(ctx, conn.JS, s)
		if err != nil {
			return report, err
		}

		report.AsWanted = allAsWanted(now)
	} else {
		report.AsWanted = allAsWanted(report.Resources)
	}

	report.sumUp(out, dryRun)

	return report, nil
}

func allAsWanted(parts []topology.Finding) bool {
	for _, p := range parts {
		if !p.AsWanted() {
			return false
		}
	}

	return true
}

// checkServers finds out whether the broker's servers really store what they acknowledge.
func (p *provisioned) checkServers(ctx context.Context, conn *bus.Conn) error {
	var err error
	if p.Servers, err = topology.Servers(ctx, conn.NC); err != nil {
		return err
	}

	if len(p.Servers) == 0 {
		p.Notes = append(p.Notes, "This broker does not say whether it syncs messages to the disk before it acknowledges them: "+
			"look for sync_interval: always in its configuration.")
	}

	for _, s := range p.Servers {
		if !s.Syncs {
			p.Notes = append(p.Notes, fmt.Sprintf("Server %s acknowledges messages before they are on its disk: a power failure loses some. "+
				"Set sync_interval: always in its configuration.", s.Name))
		}
	}

	return nil
}

// show prints each part as it is before anything is changed.
func (p *provisioned) show(out *text.Printer) {
	out.Printf("The broker is nats-server %s.\n", p.Version)

	for _, note := range p.Notes {
		out.Line(note)
	}

	for _, resource := range p.Resources {
		switch {
		case resource.Missing:
			out.Printf("%s is missing\n", resource.Resource)
		case len(resource.Changes) > 0:
			out.Printf("%s differs\n", resource.Resource)
		default:
			out.Printf("%s is as wanted\n", resource.Resource)
		}

		for _, c := range resource.Changes {
			refused := ""
			if c.Refused != "" {
				refused = "; it stays so: " + c.Refused
			}

			out.Printf("    %s%s\n", c, refused)
		}
	}
}

// apply creates and changes what it may.
func (p *provisioned) apply(ctx context.Context, conn *bus.Conn, out *text.Printer) error {
	done := 0
	for _, resource := range p.Resources {
		if !resource.Repairable() {
			continue
		}

		if err := resource.Apply(ctx, conn.JS); err != nil {
			return fmt.Errorf("%d parts are done, then it failed: %w", done, err)
		}

		done++
	}

	p.Changed = done > 0
	if p.Changed {
		out.Printf("%d parts were made or changed.\n", done)
	}

	return nil
}

func (p *provisioned) sumUp(out *text.Printer, dryRun bool) {
	var refused []string
	for _, resource := range p.Resources {
		if resource.Refused() {
			refused = append(refused, resource.String())
		}
	}

	switch {
	case p.AsWanted:
		out.Printf("Everything is as wanted.\n")
	case len(refused) > 0:
		out.Printf("Not everything is as wanted: see %s above.\n", strings.Join(refused, ", "))
	case dryRun:
		out.Printf("Nothing was changed. Run bobosync provision to make and change this.\n")
	default:
		out.Printf("Somebody else has changed the broker meanwhile. Run bobosync provision again.\n")
	}
}
