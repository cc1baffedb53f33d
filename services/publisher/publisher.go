// Package publisher is the service that owns the calls to AtHoc. It has no state on disk, and any number of instances
// may run.
//
// A publisher leases a partition of users for one call, so that no two publishers ever send the same user at once. The
// table of updates holds one message for each user, so an update cannot be redelivered late once there is a newer one.
// Together they keep AtHoc from ever being sent an older status after a newer one.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"bobosync/services/publisher/internal/metrics"
	"bobosync/shared/athoc"
	"bobosync/shared/athocconf"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/check"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/deadletter"
	"bobosync/shared/lease"
	"bobosync/shared/program"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// name is the service's name in events and logs.
const name = string(topology.Publisher)

// Config are the publisher's settings.
type Config struct {
	Broker   config.Broker
	AtHoc    config.AtHoc
	Calls    config.Calls
	Lifetime config.Lifetime
	Log      config.Log
	// BatchSize is the most users in one call.
	BatchSize int `env:"BATCH_SIZE, default=1000"`
	// BatchWait is how long to wait for more updates once there are some.
	BatchWait time.Duration `env:"BATCH_WAIT, default=100ms"`
}

// Checked returns the settings that a check tries out.
func (c *Config) Checked() check.Settings {
	return check.Settings{Service: topology.Publisher, Broker: c.Broker, Calls: c.Calls, Log: c.Log, AtHoc: &c.AtHoc}
}

// Validate reports everything that is wrong with the settings.
func (c *Config) Validate() error {
	errs := []error{c.Broker.Validate(), c.AtHoc.Validate(), c.Calls.Validate(), c.Lifetime.Validate(), c.Log.Validate()}
	if c.BatchSize < 1 || c.BatchSize > 5000 {
		errs = append(errs, errors.New("BATCH_SIZE: must be from 1 to 5000"))
	}

	if c.BatchWait < 0 || c.BatchWait > 10*time.Second {
		errs = append(errs, errors.New("BATCH_WAIT: must be from 0s to 10s"))
	} else if c.BatchWait > c.Calls.Timeout { // the leases must last through it
		errs = append(errs, errors.New("BATCH_WAIT: must not be longer than ATHOC_TIMEOUT"))
	}

	return errors.Join(errs...)
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }

// publisher is the running service. Its calls are made one after the other, by one goroutine.
type publisher struct {
	cfg     Config
	deps    program.Deps
	athoc   *athoc.Client
	tokens  *tokens.Store
	log     *slog.Logger
	now     func() time.Time
	source  *partitions
	breaker *breaker.Breaker
	out     *outbox
	// leases is what earlier sessions learned about the bucket of leases.
	leases lease.BucketHistory
	// pauses is what earlier sessions learned about operators' pauses.
	pauses breaker.PauseHistory
	// attempts are recorded before calls are made.
	attempts attempts
	owner    string
	// alone counts the calls with one user each that have failed since a call was last answered.
	alone int
	// answered is when AtHoc last answered an update.
	answered time.Time
	// alike counts the users that AtHoc has refused for good since it last took one.
	alike int

	stats     *stats
	refusals  refusals
	metrics   *metrics.Set
	breakers  *telemetry.Breaker
	backlog   *telemetry.Backlog
	component *telemetry.Component
}

// Run does the publisher's work until ctx ends. It returns an error only if the work cannot begin because of the
// settings of AtHoc's client.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	log := deps.Log.With("service", name)

	store, err := tokens.New(deps.Conn.JS, cfg.AtHoc, log)
	if err != nil {
		return fmt.Errorf("share AtHoc's access token: %w", err)
	}

	client, err := athocconf.Client(cfg.AtHoc, cfg.Calls, store, deps.Version, log,
		athocconf.Observed(telemetry.NewCalls(deps.Telemetry)))
	if err != nil {
		return fmt.Errorf("make the client of AtHoc: %w", err)
	}
	defer client.Close()

	p := &publisher{
		cfg: cfg, deps: deps, athoc: client, tokens: store, log: log, now: deps.Clock(),
		owner:   owner(),
		stats:   newStats(control.Me(deps.Version, time.Now()), cfg.BatchSize, cfg.Calls.RateLimit, cfg.AtHoc.Insecure()),
		metrics: metrics.New(deps.Telemetry), breakers: telemetry.NewBreaker(deps.Telemetry),
		backlog: telemetry.NewBacklog(deps.Telemetry), component: deps.Telemetry.Component(name, deps.Conn.Connected),
	}
	p.stats.state.Unverified = cfg.AtHoc.DisableSSLVerify

	return session.Keep(ctx, log, p.session)
}

// session works with the broker until ctx ends.
func (p *publisher) session(ctx context.Context, lost func(error)) error {
	js := p.deps.Conn.JS
	settings := topology.From(p.cfg.Broker, p.cfg.Calls)
	if err := topology.Provision(ctx, js, settings, topology.Publisher, topology.WithLog(p.log)); err != nil {
		return err
	}

	keeper, err := p.keeper(ctx)
	if err != nil {
		return err
	}

	state, err := js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	if p.attempts.kv, err = js.KeyValue(ctx, topology.BucketCalls); err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketCalls, err)
	}

	limits, err := athocconf.Limits(ctx, p.cfg.AtHoc, p.cfg.Calls, p.tokens)
	if err != nil {
		return err
	}

	limits.Updates = true
	if p.breaker, err = breaker.New(ctx, state, limits, p.log); err != nil {
		return err
	}

	p.breaker.ProbeWith(p.athoc.Ping)

	if err := p.breaker.Pauses().Track(ctx, &p.pauses); err != nil {
		return err
	}
	defer p.breakers.WatchBreaker(p.breaker, limits)()
	defer p.backlog.WatchConsumers(js, topology.Publisher)()

	if p.out, err = newOutbox(p.deps.Conn); err != nil {
		return err
	}
	defer p.out.close()

	stop, err := control.Serve(ctx, p.deps.Conn.NC, topology.Publisher, p.deps.Version,
		control.On(control.Sending, p.sending), control.OnEvery(control.State, p.state),
		control.On(control.Pause, p.pause), control.On(control.Resume, p.resume), check.Endpoint(p.cfg.Checked(), p.deps))
	if err != nil {
		return err
	}
	defer stop()
	defer p.metrics.Watch(func(context.Context) (control.PublisherState, error) { return p.stats.get(), nil })()
	defer p.component.InSession()()

	return p.consume(ctx, keeper, settings, lost)
}

// keeper opens the bucket of leases and remembers its identity, so that a recreated bucket is recognized even if no
// update arrived before the loss.
func (p *publisher) keeper(ctx context.Context) (*lease.Keeper, error) {
	js := p.deps.Conn.JS

	leases, err := js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.BucketLeases, err)
	}

	keeper, err := lease.NewKeeper(ctx, leases, p.owner)
	if err != nil {
		return nil, err
	}

	updates, err := js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}

	p.leases.Since = updates.CachedInfo().Created
	if err := keeper.Settled(ctx, &p.leases); err != nil && !errors.Is(err, lease.ErrUnsettled) {
		return nil, err
	}

	return keeper, nil
}

// sending reports to operators how updates are sent at present.
func (p *publisher) sending(ctx context.Context, _ control.Nothing) (control.SendingState, error) {
	state, err := p.breaker.State(ctx)
	if err != nil {
		return control.SendingState{}, err
	}

	paused, err := p.breaker.Pauses().Last(ctx)

	return control.SendingState{BatchSize: p.cfg.BatchSize, RateLimit: p.cfg.Calls.RateLimit, Breaker: state, Pause: paused}, err
}

// longestReason is the longest reason of an order, in bytes.
const longestReason = 500

// pause carries out an operator's order not to call AtHoc for a while.
func (p *publisher) pause(ctx context.Context, req control.PauseRequest) (*breaker.Pause, error) {
	lasts := time.Duration(req.Seconds) * time.Second
	switch {
	case strings.TrimSpace(req.Reason) == "" || len(req.Reason) > longestReason:
		return nil, control.Refuse("a pause needs a reason, of at most %d characters: everybody who asks for the status reads it", longestReason)
	case req.Seconds <= 0 || lasts > breaker.LongestPause:
		return nil, control.Refuse("a pause has an end: it lasts 24 hours at most, and can be ordered again")
	}

	return p.breaker.Pauses().Order(ctx, breaker.Pause{By: req.By, Reason: req.Reason, All: req.All}, lasts)
}

// resume ends a pause.
func (p *publisher) resume(ctx context.Context, req control.RunRequest) (control.ResumeAnswer, error) {
	ended, err := p.breaker.Pauses().Resume(ctx, req.By)
	return control.ResumeAnswer{Ended: ended}, err
}

// consume handles batches until ctx ends.
func (p *publisher) consume(ctx context.Context, keeper *lease.Keeper, settings topology.Settings, lost func(error)) error {
	wake := make(chan struct{}, 1)

	hints, err := p.deps.Conn.NC.Subscribe(topology.SubjectWake, wakeUp(wake))
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", topology.SubjectWake, err)
	}

	defer func() { _ = hints.Unsubscribe() }() // the connection may be gone, and the subscription with it

	p.stats.releasedAll()
	p.source = &partitions{
		js: p.deps.Conn.JS, keeper: keeper, leasesBucket: &p.leases, breaker: p.breaker, log: p.log, wake: wake, lost: lost, stats: p.stats,
		batchSize: p.cfg.BatchSize, pollInterval: idlePollInterval, wait: p.cfg.BatchWait, ackWait: settings.RedeliverAfter(), callTimeout: p.cfg.Calls.Timeout,
	}
	defer p.source.endGrace()

	sub, err := bus.NewSubscriber(p.deps.Conn, bus.SubscriberConfig{
		Source: func(string) bus.Source { return p.source }, CloseTimeout: session.CloseTimeout, Logger: p.log,
	})
	if err != nil {
		return err
	}

	router, err := bus.NewRouter(p.log, session.CloseTimeout+5*time.Second, deadletter.Middleware(topology.Publisher, p.out.pub, p.log))
	if err != nil {
		return err
	}

	router.AddConsumerHandler("calls", "updates", sub, p.handle)

	return session.Handle(ctx, router)
}

// owner returns the name that others see for the holder of a lease.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}

	return fmt.Sprintf("%s-%d", host, os.Getpid())
}
