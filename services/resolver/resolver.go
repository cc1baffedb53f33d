// Package resolver is the service that owns "latest wins": it finds each worker's latest event over all files, maps the
// worker to an AtHoc user, and publishes the duty status that the user should have.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/session"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// name is the service's name in events and logs.
const name = string(topology.Resolver)

// Config are the resolver's settings.
type Config struct {
	Broker   config.Broker
	Calls    config.Calls
	Data     config.Data
	Lifetime config.Lifetime
	Log      config.Log
}

// Validate reports everything that is wrong with the settings.
func (c *Config) Validate() error {
	return errors.Join(c.Broker.Validate(), c.Calls.Validate(), c.Lifetime.Validate(), c.Log.Validate())
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }

// holdMost is how long updates are held back while there is more to read. Reading on first keeps an intermediate status
// from being sent: a file of a million rows then costs one update for each worker, not one for each batch.
const holdMost = 10 * time.Second

// resolver is the service at work. All that changes its memory happens under mu, one after the other.
type resolver struct {
	cfg    Config
	memory *memory.Memory
	out    *outbox
	log    *slog.Logger
	now    func() time.Time
	rules  latest.Rules
	// version is the program's, as operators see it; started is when it began.
	version string
	started time.Time
	seen    *telemetry.Telemetry
	metrics *telemetry.Resolver
	backlog *telemetry.Backlog
	part    *telemetry.Part
	// census counts the workers, and directory is the mapping in force; both can be asked without mu.
	census    census
	directory atomic.Pointer[directory]

	mu sync.Mutex
	// dirty are the workers whose latest event is not resolved yet.
	dirty map[string]struct{}
	// unsure are the workers whose last status is to be sent once more, and from when on (in Unix seconds).
	unsure map[string]int64
	// replaying are the workers whose status a replay still has to send again, by replay.
	replaying map[string]map[string]struct{}
	// held is when the first of them became so, by the monotonic clock; zero if none.
	held time.Time
	// partial are the files that were read in part, and when the last part came. The rest of one that changed while it was
	// read never comes.
	partial map[string]time.Time
	// waiting is how many messages of entries were left to read after the last batch, and following is until when further
	// files are worth waiting for.
	waiting   uint64
	following time.Time
	// recovered says that the memory is complete; before, nothing is published.
	recovered bool
	// quiet is until when nothing is published after the broker's store was lost, by the monotonic clock; see healStore.
	quiet time.Time
	// reconnects counts the connections to the broker when its store was looked at last.
	reconnects uint64
	// clears are the clears of users without a known worker, by topology.NormalUsername.
	clears map[string]*latest.Clear
}

// Run does the resolver's work until ctx ends. It returns an error only if the work cannot begin: the data directory
// cannot be used, or another process uses it.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	log := deps.Log.With("service", name)
	mem, err := memory.Open(filepath.Join(cfg.Data.Directory, "resolver.db"), log)
	if err != nil {
		return fmt.Errorf("open the resolver's memory (DATA_DIRECTORY): %w", err)
	}
	r := &resolver{
		cfg: cfg, memory: mem, log: log, now: deps.Clock(),
		// A call that was given up may be worked on for as long as it was waited for, and then some.
		rules: latest.Rules{Lifetime: cfg.Lifetime.Duration(), Lateness: 2 * cfg.Calls.Timeout},
		dirty: map[string]struct{}{}, unsure: map[string]int64{}, partial: map[string]time.Time{},
		replaying: map[string]map[string]struct{}{}, clears: map[string]*latest.Clear{}, version: deps.Version, started: time.Now(),
		seen: deps.Telemetry, metrics: telemetry.NewResolver(deps.Telemetry), backlog: telemetry.NewBacklog(deps.Telemetry),
		part: deps.Telemetry.Part(name, deps.Conn.Connected),
	}
	err = session.Keep(ctx, log, func(ctx context.Context, lost func(error)) error { return r.session(ctx, deps.Conn, lost) })
	return errors.Join(err, mem.Close())
}

// session works with the broker until ctx ends.
func (r *resolver) session(ctx context.Context, conn *bus.Conn, lost func(error)) error {
	if err := topology.Provision(ctx, conn.JS, r.settings(), topology.Resolver, topology.WithLog(r.log)); err != nil {
		return err
	}
	out, err := newOutbox(conn)
	if err != nil {
		return err
	}
	defer out.close()
	r.out = out
	if err := r.begin(ctx, conn); err != nil {
		return err
	}
	stop, err := control.Serve(ctx, conn.NC, topology.Resolver, r.version, r.endpoints(conn)...)
	if err != nil {
		return err
	}
	defer stop()
	defer r.metrics.Watch(func(ctx context.Context) (control.ResolverState, error) { return r.state(ctx, control.Nothing{}) })()
	defer r.backlog.WatchConsumers(conn.JS, topology.Resolver)()
	defer r.part.InSession()()
	return r.consume(ctx, conn, lost)
}

func (r *resolver) settings() topology.Settings {
	return topology.From(r.cfg.Broker, r.cfg.Calls)
}

// begin brings the memory and the broker's streams together before anything is consumed.
func (r *resolver) begin(ctx context.Context, conn *bus.Conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	recovered, err := r.memory.Recovered()
	if err != nil {
		return err
	}
	r.recovered = recovered
	if !recovered {
		if err := r.remember(ctx, conn.JS); err != nil {
			return err
		}
	}
	if err := r.loadOpen(); err != nil {
		return err
	}
	if err := r.announce(ctx, conn.JS); err != nil {
		return err
	}
	if err := r.healStore(ctx, conn.JS); err != nil {
		return err
	}
	return r.keepQuiet()
}

// loadOpen finds the workers for whom a former run left something to do.
func (r *resolver) loadOpen() error {
	clear(r.dirty)
	clear(r.unsure)
	clear(r.replaying)
	clear(r.partial)
	if err := r.loadDirectory(); err != nil {
		return err
	}
	r.census.begin(r.directory.Load(), r.recovered)
	err := r.memory.View(func(v memory.View) error {
		return v.EachWorker(func(employee string, w latest.Worker) error {
			r.note(employee, w)
			return nil
		})
	})
	if err != nil {
		return err
	}
	r.held = time.Time{}
	if len(r.dirty) > 0 {
		r.held = time.Now()
	}
	replays, err := r.memory.Replays()
	for _, state := range replays {
		if state.Ended.IsZero() && r.replaying[state.ID] == nil {
			r.replaying[state.ID] = map[string]struct{}{} // newer events have sent all of it: it only has to be closed
		}
	}
	return err
}

// mayPublish says whether updates may be published now.
func (r *resolver) mayPublish() bool { return r.recovered && !time.Now().Before(r.quiet) }

// publish saves what it is about to send out, sends it, and saves that it did, in that order: a crash in between repeats work and
// changes nothing. An update may only come from an event that was saved before; see entries.
func (r *resolver) publish(ctx context.Context, o outcome) error {
	if len(o.updates) > 0 {
		if err := r.sameStore(ctx); err != nil {
			return err
		}
	}
	if len(o.intents) > 0 {
		if err := r.save(memory.Change{Workers: o.intents}); err != nil {
			return err
		}
	}
	if err := r.out.updates(ctx, o.updates); err != nil {
		return err
	}
	r.metrics.UpdatesPublished(len(o.updates))
	if err := r.out.acks(ctx, o.settled.acks()); err != nil {
		return err
	}
	for k, rows := range o.settled {
		r.metrics.RowsSettled(k.outcome, rows.Len())
	}
	return r.save(o.change)
}

// save saves a change and keeps the lists of what is left to do.
func (r *resolver) save(change memory.Change) error {
	if err := r.memory.Save(change); err != nil {
		return err
	}
	for employee, w := range change.Workers {
		r.note(employee, w)
	}
	switch {
	case len(r.dirty) == 0:
		r.held = time.Time{}
	case r.held.IsZero():
		r.held = time.Now()
	}
	return nil
}

// note keeps the lists of what is left to do for a worker, as it was saved.
func (r *resolver) note(employee string, w latest.Worker) {
	r.census.note(employee, w)
	if w.Dirty {
		r.dirty[employee] = struct{}{}
	} else {
		delete(r.dirty, employee)
	}
	if w.Unsure != 0 {
		r.unsure[employee] = w.Unsure
	} else {
		delete(r.unsure, employee)
	}
	for id, left := range r.replaying {
		if id != w.Replay {
			delete(left, employee)
		}
	}
	if w.Replay != "" {
		if r.replaying[w.Replay] == nil {
			r.replaying[w.Replay] = map[string]struct{}{}
		}
		r.replaying[w.Replay][employee] = struct{}{}
	}
}

// flush resolves the workers in o and all other dirty ones.
func (r *resolver) flush(v memory.View, o *outcome, reason event.Reason) error {
	now := r.now()
	for employee := range r.dirty {
		if _, inBatch := o.change.Workers[employee]; inBatch {
			continue
		}
		w, err := v.Worker(employee)
		if err != nil {
			return err
		}
		o.change.Workers[employee] = w
	}
	for employee, w := range o.change.Workers {
		if w.Dirty {
			o.resolve(employee, &w, v.User(employee), reason, now, r.rules)
		}
	}
	o.sort()
	return nil
}
