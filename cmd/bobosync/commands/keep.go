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

// keepLook is how often the provisioner looks at the broker.
const keepLook = 2 * time.Second

// keeping is the settings of the provisioner that goes on.
type keeping struct {
	Log       config.Log
	Telemetry telemetry.Config
}

// Validate implements config.Validator.
func (k *keeping) Validate() error { return errors.Join(k.Log.Validate(), k.Telemetry.Validate()) }

// keep is bobosync provision --keep: the program that holds the provisioner's key, so that no service needs rights to make or
// change anything. It mends the broker until ctx ends, with metrics and health as a service has them.
func keep(ctx context.Context, conn *bus.Conn, envFile string, s topology.Settings) (err error) {
	var k keeping
	if err := program.Load(ctx, envFile, &k); err != nil {
		program.Complain(os.Stderr, "bobosync provision", err)
		return ExitStatus(exitUsage)
	}
	log, closeLog, err := logging.New(os.Stderr, "provision", k.Log)
	if err != nil {
		return err
	}
	defer func() { _ = closeLog() }() // nothing is left to be told about it

	tel, stop, err := program.Tell(ctx, "bobosync-provision", k.Telemetry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	defer tel.Part("provision", conn.Connected).InSession()()

	log.Info("the provisioner keeps the broker's streams", "version", program.Version)
	p := provisionKeeper{conn: conn, settings: s, log: log, refused: map[string]string{}}
	told := ""
	for {
		trouble := ""
		if err := p.mend(ctx); err != nil && ctx.Err() == nil {
			trouble = err.Error()
		}
		if trouble != told && trouble != "" {
			log.Warn("the broker's store cannot be looked at or mended, trying again", "error", trouble)
		}
		told = trouble
		if pause.For(ctx, keepLook) != nil {
			return nil
		}
	}
}

// provisionKeeper is the provisioner at work.
type provisionKeeper struct {
	conn     *bus.Conn
	settings topology.Settings
	log      *slog.Logger
	// refused is what cannot be changed, by the part that it was logged of.
	refused map[string]string
}

// mend makes what is missing and changes what is not as wanted, and logs each of these, and once what it leaves as it is.
func (p *provisionKeeper) mend(ctx context.Context) error {
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
			p.log.Warn("a part of the broker's store was missing or not as wanted, and is mended", "part", f.String(), "missing", f.Missing, "differences", what)
		}
		if f.Refused() && p.refused[f.String()] != what {
			p.log.Error("a part of the broker's store is not as wanted and stays so; bobosync provision --dry-run says why", "part", f.String(), "differences", what)
		}
		p.refused[f.String()] = what
	}
	return errors.Join(errs...)
}
