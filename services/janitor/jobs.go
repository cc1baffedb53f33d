package janitor

// The janitor's jobs: when they are due, and which functions do them.

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"bobosync/services/janitor/internal/dutystatus"
	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/mapping"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/purge"
	"bobosync/services/janitor/internal/scheduler"
	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// jobs are the janitor's periodic jobs. They outlive sessions with the broker.
type jobs struct{ mapping, cleanup, reconcile, purge *periodic.Job }

func newJobs(cfg Config, now func() time.Time, pollInterval time.Duration, log *slog.Logger) jobs {
	zone := cfg.AtHoc.Zone.Location()
	job := func(name, failure string, off, countsRequested bool, plan periodic.Plan) *periodic.Job {
		return periodic.New(periodic.Settings{
			Name: name, FailureText: failure, Off: off, CountsRequested: countsRequested, Plan: plan, Level: scheduler.FailureLevel,
			Now: now, PollInterval: pollInterval, Log: log,
		})
	}
	daily := func(hour int) periodic.Plan { return periodic.Plan{Hour: hour, Zone: zone, MaxRetryWait: time.Hour} }

	// Without a mapping the resolver reads no entries, so a first refresh that fails is tried again sooner.
	refresh := daily(cfg.Sync.Hour)
	refresh.MaxAgeDays, refresh.MaxFirstRetryWait = cfg.Sync.RetryDays, 2*time.Minute
	often := periodic.Plan{
		Every: cfg.Cleanup.Interval, MaxRetryWait: max(time.Minute, min(cfg.Cleanup.Interval, time.Hour)),
	}

	return jobs{
		mapping: job(control.JobMapping, "the mapping of employee ids to AtHoc users could not be refreshed; the one in force stays",
			!cfg.Sync.Mappings, true, refresh),
		cleanup: job(control.JobCleanup, "stale duty could not be looked for", cfg.Lifetime.AutoCleanupHours == 0, false, often),
		reconcile: job(control.JobReconcile, "AtHoc could not be compared with what it should hold",
			cfg.Reconcile.Mode == reconcileOff, false, daily(cfg.Reconcile.Hour)),
		purge: job(control.JobPurge, "old data could not be deleted", cfg.Retention == Retention{}, false, daily(purge.Hour)),
	}
}

// runners returns the jobs with the functions that do them.
func (j *janitor) runners(store *state.Store, log *journal.Journal, refresher *mapping.Refresher) []scheduler.Job {
	zone := j.cfg.AtHoc.Zone.Location()
	status := users.Query{Attribute: j.cfg.AtHoc.DutyStatusField, Setting: "DUTY_STATUS_FIELD"}
	observe := func(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
		return control.Ask[control.ObserveAnswer](ctx, j.conn.NC, topology.Resolver, control.Observe, req)
	}
	cleaner := &dutystatus.Cleaner{
		Fetch:   func(ctx context.Context) ([]users.Person, error) { return j.users.Having(ctx, status) },
		Observe: observe, Silent: j.silentFeeds, Lifetime: j.cfg.Lifetime.Duration(), Zone: zone, Metrics: j.metrics, Now: j.now, Log: j.log, Odd: &j.odd,
	}
	reconciler := &dutystatus.Reconciler{
		Fetch:   func(ctx context.Context) ([]users.Person, error) { return known(j.users.All(ctx, status)) },
		Observe: observe, Keep: log.SetComparison, Apply: j.cfg.Reconcile.Mode == reconcileApply,
		MaxChange: j.cfg.Reconcile.MaxChangePercent, Zone: zone, Metrics: j.metrics, Now: j.now, Log: j.log,
	}
	purger := &purge.Purger{
		Ask: func(ctx context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
			return control.Ask[control.PurgeAnswer](ctx, j.conn.NC, topology.Ingest, control.Purge, req)
		},
		Prune: log.Prune, FileDays: j.cfg.Retention.Files, JournalDays: j.cfg.Retention.Journal, By: name,
		Zone: zone, Metrics: j.metrics, Now: j.now, Log: j.log,
	}

	return []scheduler.Job{
		{Job: j.jobs.mapping, Do: refresher.Refresh, Last: refresher.InForce},
		{Job: j.jobs.cleanup, Do: cleaner.Clean, Often: true},
		{Job: j.jobs.reconcile, Do: reconciler.Reconcile, Last: store.LastRun(control.JobReconcile)},
		{Job: j.jobs.purge, Do: purger.Purge, Last: store.LastRun(control.JobPurge)},
	}
}

// known accepts an incomplete reading, unless it found nobody. It is for jobs that conclude nothing about the missing
// users.
func known(people []users.Person, err error) ([]users.Person, error) {
	if short, some := errors.AsType[*users.Short](err); some && short.Found > 0 {
		return people, nil
	}
	return people, err
}

// awayFor is the time without a file after which a feed whose directory cannot be used counts as silent.
const awayFor = 15 * time.Minute

// silentFeeds returns the names of the feeds that ingest reports as silent, and of those whose directory cannot be
// used and from which nothing has come for awayFor. If ingest does not answer, it returns none.
func (j *janitor) silentFeeds(ctx context.Context) (names []string) {
	states, err := control.AskAll[control.IngestState](ctx, j.conn.NC, topology.Ingest, control.State, control.Nothing{})
	if err != nil {
		j.log.Warn("it is not known whether a feed is silent, so stale duty is cleared as if none were", "error", err)
	}

	for _, s := range states {
		for _, feed := range s.Feeds {
			away := s.Directories[control.InputDirectory(feed.Name)] != "" && j.now().Sub(feed.LastFile) > awayFor
			if feed.Silent || away {
				names = append(names, feed.Name)
			}
		}
	}

	return names
}

func (j *janitor) newRefresher(
	store *state.Store, record state.Entry, pub *bus.Publisher, log *journal.Journal, checkLeader func() error,
) *mapping.Refresher {
	collar := strings.TrimSpace(j.cfg.Sync.CollarField)
	query := users.Query{
		Attribute: collar, Extras: users.Extras(j.cfg.Sync.UserAttributes, collar), Setting: "COLLAR_ID_FIELD",
	}
	r := &mapping.Refresher{
		JS: j.conn.JS, Record: record, State: store, Pub: pub, CheckLeader: checkLeader, Now: j.now, Log: j.log,
		MaxChanged: j.cfg.Sync.MaxRemovalPercent, KeepFindings: log.SetFindings,
		Fetch: func(ctx context.Context) ([]users.Person, error) { return j.users.All(ctx, query) },
	}
	r.Refreshed = func(ctx context.Context) { j.showMapping(ctx, r, log) }

	return r
}

func (j *janitor) newWatcher(s *scheduler.Scheduler, refresher *mapping.Refresher) *mapping.Watcher {
	return &mapping.Watcher{
		Job: j.jobs.mapping, State: s.State, Every: j.countInterval, Record: refresher.LoadRecord, Now: j.now, Log: j.log,
		Resolvers: func(ctx context.Context) ([]control.ResolverState, error) {
			return control.AskAll[control.ResolverState](ctx, j.conn.NC, topology.Resolver, control.State, control.Nothing{})
		},
		Begin: func(run *periodic.Run) (string, error) { return s.BeginEntry(control.JobMapping, run) },
	}
}
