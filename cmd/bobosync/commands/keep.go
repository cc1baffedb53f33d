package commands

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/logging"
	"bobosync/shared/pause"
	"bobosync/shared/program"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// keepPollInterval is how often the provisioner checks the broker.
const keepPollInterval = 2 * time.Second

// keeping holds the settings that only provision --keep reads.
type keeping struct {
	Log       config.Log
	Telemetry telemetry.Config
}

// Validate implements config.Validator.
func (k *keeping) Validate() error { return errors.Join(k.Log.Validate(), k.Telemetry.Validate()) }

// keep is bobosync provision --keep: a program that holds the provisioner's key, so that no service needs the right to
// create or change anything. It repairs the broker's store until ctx ends, and serves metrics and health as a service
// does.
func keep(ctx context.Context, conn *bus.Conn, envFile string, s topology.Settings) (err error) {
	var k keeping
	if err := program.Load(ctx, envFile, &k); err != nil {
		program.PrintSettingsError(os.Stderr, "bobosync provision", err)
		return ExitStatus(exitUsage)
	}

	log, closeLog, err := logging.New(os.Stderr, "provision", k.Log)
	if err != nil {
		return err
	}

	defer func() { _ = closeLog() }() // a failure can no longer be reported

	tel, stop, err := program.StartTelemetry(ctx, "bobosync-provision", k.Telemetry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	defer tel.Component("provision", conn.Connected).InSession()()

	log.Info("the provisioner keeps the broker's streams", "version", program.Version)

	p := provisionKeeper{conn: conn, settings: s, log: log, refused: map[string]string{}}
	logged := ""
	for {
		problem := ""
		if err := p.apply(ctx); err != nil && ctx.Err() == nil {
			problem = err.Error()
		}

		if problem != logged && problem != "" {
			log.Warn("the broker's store cannot be read or repaired, trying again", "error", problem)
		}

		logged = problem

		if pause.For(ctx, keepPollInterval) != nil {
			return nil
		}
	}
}

// provisionKeeper is the running provisioner.
type provisionKeeper struct {
	conn     *bus.Conn
	settings topology.Settings
	log      *slog.Logger
	// refused has the differences of each part at the last survey. Those that cannot be repaired are logged only when
	// they change.
	refused map[string]string
}

// apply creates missing parts and changes those that differ from the settings. It logs each repair, and logs once what
// it leaves unrepaired.
func (p *provisionKeeper) apply(ctx context.Context) error {
	findings, err := topology.Survey(ctx, p.conn.JS, p.settings)
	if err != nil {
		return err
	}

	var errs []error
	for _, f := range findings {
		differs := make([]string, 0, len(f.Changes))
		for _, c := range f.Changes {
			differs = append(differs, c.String())
		}

		what := strings.Join(differs, "; ")

		if f.Repairable() {
			if err := f.Apply(ctx, p.conn.JS); err != nil {
				errs = append(errs, err)
				continue
			}

			p.log.Warn("a part of the broker's store was missing or not as wanted, and is repaired", "part", f.String(), "missing", f.Missing, "differences", what)
		}

		if f.Refused() && p.refused[f.String()] != what {
			p.log.Error("a part of the broker's store is not as wanted and stays so; bobosync provision --dry-run says why", "part", f.String(), "differences", what)
		}

		p.refused[f.String()] = what
	}

	return errors.Join(errs...)
}
