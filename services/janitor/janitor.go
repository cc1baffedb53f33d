// Package janitor is the service that owns the clock. Once a day it fetches all users from AtHoc and publishes which
// employee id belongs to which user. Of any number of instances one is at work, the others stand by.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/athocconf"
	"bobosync/shared/brake"
	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/lease"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// name is the service's name in events and logs.
const name = string(topology.Janitor)

// Config are the janitor's settings.
type Config struct {
	Broker config.Broker
	AtHoc  config.AtHoc
	Calls  config.Calls
	Data   config.Data
	Log    config.Log
	Sync   Sync
}

// Sync says what the mapping is made of, and when it is refreshed.
type Sync struct {
	// Mappings switches the refresh on.
	Mappings bool `env:"SYNC_MAPPINGS, default=true"`
	// Hour is the hour of the day, from 0 to 23 in this machine's zone, after which the daily refresh comes.
	Hour int `env:"SYNC_HOUR, default=20"`
	// RetryDays is the age in days at which the mapping is refreshed at once, without waiting for that hour.
	RetryDays int `env:"SYNC_RETRY_DAYS, default=2"`
	// CollarField is the AtHoc attribute that holds the employee id.
	CollarField string `env:"COLLAR_ID_FIELD, default=Collar-Number"`
	// UserAttributes are attributes that are fetched with the users. Only the one with the employee id is needed, and it is
	// fetched in any case.
	UserAttributes []string `env:"USER_ATTRIBUTES"`
}

// Validate reports settings that cannot be followed.
func (s Sync) Validate() error {
	var errs []error
	if s.Hour < 0 || s.Hour > 23 {
		errs = append(errs, errors.New("SYNC_HOUR: must be from 0 to 23"))
	}
	if s.RetryDays < 1 {
		errs = append(errs, errors.New("SYNC_RETRY_DAYS: must be 1 or more"))
	}
	field := strings.TrimSpace(s.CollarField)
	if field == "" || strings.Contains(field, ",") || strings.EqualFold(field, "LOGIN_ID") {
		errs = append(errs, errors.New("COLLAR_ID_FIELD: must be the name of the one attribute that holds the employee id"))
	}
	return errors.Join(errs...)
}

// Validate reports everything that is wrong with the settings.
func (c *Config) Validate() error {
	return errors.Join(c.Broker.Validate(), c.AtHoc.Validate(), c.Calls.Validate(), c.Log.Validate(), c.Sync.Validate())
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }

// Options are what the janitor needs beside its settings.
type Options struct {
	// Conn is the connection to the broker; the caller closes it after Run.
	Conn *bus.Conn
	Log  *slog.Logger
	// Now is the clock that the schedule goes by; time.Now if nil.
	Now func() time.Time
	// Version is the program's, as AtHoc sees it; it may be empty.
	Version string
	// Telemetry is what can be seen of the process; nil is off.
	Telemetry *telemetry.Telemetry
}

// mappingLook is how often the broker is asked whether it still holds the mapping.
const mappingLook = 15 * time.Second

// janitor is the service at work.
type janitor struct {
	cfg     Config
	conn    *bus.Conn
	client  *athoc.Client
	log     *slog.Logger
	now     func() time.Time
	look    time.Duration
	metrics *telemetry.Janitor
	brakes  *telemetry.Brake
	part    *telemetry.Part
	// history outlives sessions, so that a broker that comes and goes does not make AtHoc be asked more often.
	history history
	users   *fetcher
}

// Run does the janitor's work until ctx ends. It returns an error only if the work cannot begin: a setting of the
// connection to AtHoc cannot be used.
func Run(ctx context.Context, cfg Config, opts Options) error {
	return run(ctx, cfg, opts, mappingLook)
}

func run(ctx context.Context, cfg Config, opts Options, look time.Duration) error {
	log := opts.Log.With("service", name)
	shared, err := tokens.New(opts.Conn.JS, cfg.AtHoc, log)
	if err != nil {
		return err
	}
	client, err := athocconf.Client(cfg.AtHoc, cfg.Calls, shared, opts.Version, log,
		athocconf.Observed(telemetry.NewCalls(opts.Telemetry)))
	if err != nil {
		return err
	}
	defer client.Close()
	j := &janitor{
		cfg: cfg, conn: opts.Conn, client: client, log: log, now: opts.Now, look: look,
		metrics: telemetry.NewJanitor(opts.Telemetry), brakes: telemetry.NewBrake(opts.Telemetry),
		part: opts.Telemetry.Part(name, opts.Conn.Connected),
	}
	if j.now == nil {
		j.now = time.Now
	}
	collar := strings.TrimSpace(cfg.Sync.CollarField)
	j.users = &fetcher{users: client, collar: collar, extras: extraAttributes(cfg.Sync.UserAttributes, collar), log: log}
	return session.Keep(ctx, log, j.session)
}

// session works with the broker until ctx ends.
func (j *janitor) session(ctx context.Context, _ func(error)) error {
	if err := topology.Provision(ctx, j.conn.JS, j.settings(), topology.Janitor); err != nil {
		return err
	}
	state, err := j.conn.JS.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}
	leases, err := j.conn.JS.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketLeases, err)
	}
	keeper, err := lease.NewKeeper(ctx, leases, name)
	if err != nil {
		return err
	}
	limits, err := athocconf.Limits(j.cfg.AtHoc, j.cfg.Calls)
	if err != nil {
		return err
	}
	gate, err := brake.New(ctx, state, limits, j.log)
	if err != nil {
		return err
	}
	j.users.gate = gate
	defer j.brakes.WatchBrake(gate, limits)()
	pub, err := bus.NewPublisher(j.conn, bus.PublisherConfig{})
	if err != nil {
		return err
	}
	defer func() { _ = pub.Close() }() // it only waits for calls, and there are none left
	defer j.part.InSession()()
	tenure := &tenure{log: j.log}
	mapping := &refresher{
		js: j.conn.JS, state: state, pub: pub, fetch: j.users.fetch, alone: tenure.alone, now: j.now, log: j.log,
	}
	return tenure.serve(ctx, keeper, func(ctx context.Context) error { return j.keepMapping(ctx, mapping) })
}

// keepMapping refreshes the mapping until ctx ends.
func (j *janitor) keepMapping(ctx context.Context, mapping *refresher) error {
	if !j.cfg.Sync.Mappings {
		return j.leaveMapping(ctx, mapping)
	}
	c := &cycle{
		plan: plan{hour: j.cfg.Sync.Hour, retryDays: j.cfg.Sync.RetryDays, zone: time.Local},
		now:  j.now, look: j.look, log: j.log, inForce: mapping.inForce, refresh: mapping.refresh, history: j.history,
	}
	err := c.run(ctx)
	j.history = c.history
	return err
}

// leaveMapping leaves the mapping as it is until ctx ends.
func (j *janitor) leaveMapping(ctx context.Context, mapping *refresher) error {
	stream, err := mapping.stream(ctx)
	if err != nil {
		return err
	}
	if stream.CachedInfo().State.Msgs == 0 {
		j.log.Warn("SYNC_MAPPINGS is false and the broker holds no mapping of employee ids to AtHoc users: " +
			"no entry can be resolved until one is there; set SYNC_MAPPINGS=true")
	}
	<-ctx.Done()
	return nil
}

func (j *janitor) settings() topology.Settings {
	return topology.Settings{
		Replicas: j.cfg.Broker.Replicas, EntriesMaxBytes: j.cfg.Broker.EntriesMaxBytes, CallTimeout: j.cfg.Calls.Timeout,
	}
}
