// Package resolver is the service that owns "latest wins": it finds each worker's latest event over all files, maps the
// worker to an AtHoc user, and publishes the duty status that the user should have.
//
// This is a row's way through it: intake reads entries and keeps each worker's latest event, latest decides what
// follows from it, coalesce decides when, and release publishes it; answers records AtHoc's answers. All of them work
// on the roster, which saves and publishes in the order that survives a crash. Besides, takeover puts new mappings in
// force, rebuild rebuilds what was lost, observe judges what the janitor saw, replay sends statuses again, and show
// answers questions.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/metrics"
	"bobosync/services/resolver/internal/observe"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bus"
	"bobosync/shared/check"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/disk"
	"bobosync/shared/program"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// Config holds the resolver's settings.
type Config struct {
	Broker   config.Broker
	Calls    config.Calls
	Data     config.Data
	Lifetime config.Lifetime
	Log      config.Log
	// Zone is the time zone of BOBO's wall clock, by whose hours of the week changes are counted.
	Zone  config.Zone `env:"BOBO_TIMEZONE, default=local"`
	Guard Guard
}

// Checked returns the settings that a check tries out.
func (c *Config) Checked() check.Settings {
	return check.Settings{Service: topology.Resolver, Broker: c.Broker, Calls: c.Calls, Log: c.Log, Data: &c.Data}
}

// Guard holds the settings of the guard against mass changes.
type Guard struct {
	// Mode is auto (observes until it has 14 days of history, then holds), observe, hold or off.
	Mode string `env:"GUARD, default=auto"`
	// Window is the time within which changes count as one, from 1m to 1h.
	Window time.Duration `env:"GUARD_WINDOW, default=15m"`
	// MinUsers is the least number of users that can be unusual: fewer may always change.
	MinUsers int `env:"GUARD_MIN_USERS, default=20"`
	// OffPercent is the share of the users on duty that may change, in percent, from 0 to 99.
	OffPercent int `env:"GUARD_OFF_PERCENT, default=30"`
	// Factor is how many times the usual number may change, at least 1.
	Factor float64 `env:"GUARD_FACTOR, default=2"`
	// On is what is done about an unusual number of users who go on duty: tell reports it, hold holds it.
	On string `env:"GUARD_ON, default=tell"`
}

func (c *Config) rules() guard.Rules {
	g := c.Guard

	return guard.Rules{
		Mode: guard.Mode(g.Mode), HoldOn: g.On == "hold", Window: g.Window, MinUsers: g.MinUsers, OffPercent: g.OffPercent,
		Factor: g.Factor, Zone: c.Zone.Location(),
	}
}

// Validate reports everything that is wrong with the settings.
func (c *Config) Validate() error {
	var on error
	if c.Guard.On != "tell" && c.Guard.On != "hold" {
		on = errors.New("GUARD_ON: must be tell or hold")
	}

	return errors.Join(c.Broker.Validate(), c.Calls.Validate(), c.Lifetime.Validate(), c.Log.Validate(), c.rules().Validate(), on)
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }

// maxStrangers is how many workers are kept who have no AtHoc user, and of whom nothing but the latest event is known.
// Their employee ids may be invented, and must not fill memory and disk.
const maxStrangers = 50_000

// service is the state that outlives a session with the broker.
type service struct {
	cfg       Config
	version   string
	check     control.Endpoint
	started   time.Time
	conn      *bus.Conn
	roster    *roster.Roster
	observer  *observe.Observer
	telemetry *telemetry.Telemetry
	backlog   *telemetry.Backlog
	component *telemetry.Component
}

// Run does the resolver's work until ctx ends. It returns an error only if the work cannot begin: the data directory
// cannot be used, or another process uses it.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	return run(ctx, cfg, deps, func() error { return nil })
}

// run is Run with hit as roster.Roster.Hit.
func run(ctx context.Context, cfg Config, deps program.Deps, hit func() error) error {
	log := deps.Log.With("service", string(topology.Resolver))

	state, err := store.Open(filepath.Join(cfg.Data.Directory, "resolver.db"), log)
	if err != nil {
		return fmt.Errorf("open the resolver's state store (DATA_DIRECTORY): %w", err)
	}

	r := &roster.Roster{
		Hit: hit, Holds: hold.New(cfg.rules(), log), Store: state, MaxStrangers: maxStrangers, Log: log, Now: deps.Clock(), Metrics: metrics.New(deps.Telemetry),
		// After a call was given up, AtHoc may go on with it for as long as we waited, and longer.
		Rules: latest.Rules{Lifetime: cfg.Lifetime.Duration(), Lateness: 2 * cfg.Calls.Timeout},
	}
	s := &service{
		cfg: cfg, version: deps.Version, check: check.Endpoint(cfg.Checked(), deps), started: time.Now(), conn: deps.Conn, roster: r, observer: observe.New(r), telemetry: deps.Telemetry,
		backlog: telemetry.NewBacklog(deps.Telemetry), component: deps.Telemetry.Component(string(topology.Resolver), deps.Conn.Connected),
	}
	err = session.Keep(ctx, log, func(ctx context.Context, lost func(error)) error { return s.session(ctx, deps.Conn, lost) })

	return errors.Join(err, state.Close())
}

func (s *service) settings() topology.Settings {
	return topology.From(s.cfg.Broker, s.cfg.Calls)
}

// session works with the broker until ctx ends.
func (s *service) session(ctx context.Context, conn *bus.Conn, lost func(error)) error {
	if err := topology.Provision(ctx, conn.JS, s.settings(), topology.Resolver, topology.WithLog(s.roster.Log)); err != nil {
		return err
	}

	w, err := s.begin(ctx, conn, lost)
	if err != nil {
		return err
	}
	defer s.roster.Out.Close()
	defer w.history.Close()

	stop, err := control.Serve(ctx, conn.NC, topology.Resolver, s.version, s.endpoints(w)...)
	if err != nil {
		return err
	}
	defer stop()
	defer s.roster.Metrics.Watch(func(ctx context.Context) (control.ResolverState, error) { return s.state(ctx, control.Nothing{}) })()
	defer s.backlog.WatchConsumers(conn.JS, topology.Resolver)()
	defer s.component.InSession()()

	return w.consume(ctx, lost)
}

// state returns how the resolver is doing. It does not wait for the roster's lock.
func (s *service) state(context.Context, control.Nothing) (control.ResolverState, error) {
	state := s.roster.Stats.Count(s.roster.Now(), s.roster.Rules)
	state.Instance, state.Guard = control.Me(s.version, s.started), s.roster.Holds.Facts(s.roster.Now())
	state.Unstored, state.Restored = s.conn.Unstored(), s.conn.Restored()
	if free, err := disk.Free(s.cfg.Data.Directory); err == nil {
		state.FreeBytes, state.NoFiles = &free, disk.NoFiles(s.cfg.Data.Directory)
	}

	all, err := s.roster.Store.Replays()
	for _, replay := range all {
		if replay.Ended.IsZero() {
			state.Replays++
		}
	}

	return state, err
}
