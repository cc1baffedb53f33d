// Package api is the operator API of the leading janitor: its requests and its orders.
package api

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/mapping"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/scheduler"
	"bobosync/services/janitor/internal/state"
	"bobosync/shared/control"
	"bobosync/shared/pause"
)

// someone is the name of an operator whose request gives none.
const someone = "an operator"

// API answers the requests of operators.
type API struct {
	Scheduler *scheduler.Scheduler
	State     *state.Store
	Journal   *journal.Journal
	Refresher *mapping.Refresher
	// Mapping and Reconcile are the jobs that operators can order.
	Mapping, Reconcile *periodic.Job
	// ReconcileApplies reports whether a comparison by the clock sends the statuses that differ.
	ReconcileApplies bool
	// PollInterval is how long Resume waits before it tries again to take over a former leader's order.
	PollInterval time.Duration
	Now          func() time.Time
	Log          *slog.Logger
}

// Endpoints returns the endpoints that only the leader offers.
func (a *API) Endpoints() []control.Endpoint {
	return []control.Endpoint{
		control.On(control.MappingShow, func(ctx context.Context, _ control.Nothing) (control.MappingReport, error) {
			return a.report(ctx)
		}),
		control.On(control.MappingHeld, func(context.Context, control.Nothing) (control.MappingDifference, error) {
			return a.Refresher.Difference(a.State.Read().Held)
		}),
		control.On(control.MappingRefresh, a.refresh),
		control.WithForecast(control.On(control.MappingApprove, a.approve), a.held),
		control.On(control.Reconcile, a.reconcile),
		control.On(control.ReconcileReport, func(_ context.Context, page control.Page) (control.ReconcileAnswer, error) {
			return a.Journal.Comparison(page.After)
		}),
		control.On(control.Journal, func(_ context.Context, req control.JournalRequest) (control.JournalAnswer, error) {
			return a.Journal.List(req)
		}),
		control.On(control.JournalNote, a.note),
		control.On(control.Forget, func(ctx context.Context, req control.ForgetRequest) (control.ForgetAnswer, error) {
			return a.Journal.Forget(ctx, req.Names)
		}),
	}
}

// Resume takes over what a former leader did not finish, and then waits until ctx ends.
func (a *API) Resume(ctx context.Context) error {
	h := a.State.Read().Held
	if h != nil {
		a.Mapping.Resume(h.Seen, h.Reason)
	}

	if h != nil && !h.Approved.IsZero() {
		a.Log.Info("a mapping was approved and not fetched since: it is fetched now", "held", h.ID, "by", h.ApprovedBy)

		for ctx.Err() == nil {
			_, err := a.enqueue(a.Mapping, &periodic.Run{Asked: true, By: h.ApprovedBy, Why: "approved"}, matchQueued)
			if err == nil {
				break
			}

			_ = pause.For(ctx, a.PollInterval) // the job is served in a moment
		}
	}

	<-ctx.Done()

	return nil
}

// enqueue enqueues an order as a run of a job.
func (a *API) enqueue(job *periodic.Job, run *periodic.Run, alike func(*periodic.Run, bool) bool) (control.Begun, error) {
	run.By = cmp.Or(run.By, someone)
	entry, err := job.Enqueue(run, alike, func(run *periodic.Run) (string, error) { return a.Scheduler.BeginEntry(job.Name, run) })
	return control.Begun{Entry: entry}, err
}

// matchAny matches any run, matchQueued only queued ones.
func matchAny(*periodic.Run, bool) bool              { return true }
func matchQueued(_ *periodic.Run, running bool) bool { return !running }

// refresh refreshes the mapping now.
func (a *API) refresh(_ context.Context, req control.RunRequest) (control.Begun, error) {
	return a.enqueue(a.Mapping, &periodic.Run{Asked: true, By: req.By}, matchAny)
}

// approve puts the mapping that is held back into force, provided that AtHoc still returns exactly that one.
func (a *API) approve(ctx context.Context, req control.ApproveRequest) (control.Begun, error) {
	var refusal error
	by := cmp.Or(req.By, someone)
	err := a.State.Update(ctx, func(kept *state.State) {
		if refusal = refuseApproval(kept.Held, req.ID); refusal == nil {
			approved := *kept.Held
			approved.Approved, approved.ApprovedBy = a.Now().UTC(), by
			kept.Held = &approved
		}
	})
	if err = cmp.Or(refusal, err); err != nil {
		return control.Begun{}, err
	}

	// A refresh that is already running may have read its users before the operator saw the mapping.
	return a.enqueue(a.Mapping, &periodic.Run{Asked: true, By: by, Why: "approval of " + req.ID}, matchQueued)
}

// held returns the mapping that an approval would put into force.
func (a *API) held(context.Context, control.ApproveRequest) (*control.HeldMapping, error) {
	return a.State.Read().Held.Report(), nil
}

// refuseApproval returns why the approval of an id is refused. An approval covers exactly the mapping that was shown.
func refuseApproval(h *state.Held, id string) error {
	switch {
	case h == nil:
		return control.Refuse("no mapping is held back")
	case id != state.HeldID(h.Hash) && id != h.Hash:
		return control.Refuse("the mapping that is held back is %s, not %s: look at it before you approve it", state.HeldID(h.Hash), id)
	default:
		return nil
	}
}

// reconcile compares AtHoc with what it should hold.
func (a *API) reconcile(_ context.Context, req control.ReconcileRequest) (control.Begun, error) {
	run := &periodic.Run{Asked: true, By: req.By, Apply: req.Apply, Force: req.Force}
	if req.Apply {
		run.Why = "apply"
		if req.Force {
			run.Why = "apply, whatever differs"
		}
	}

	return a.enqueue(a.Reconcile, run, func(other *periodic.Run, _ bool) bool {
		if other.Asked {
			return other.Apply == req.Apply && other.Force == req.Force
		}
		return !req.Apply && !a.ReconcileApplies
	})
}

// maxNote is the most bytes of an operator's note.
const maxNote = 4000

// note records what an operator did elsewhere.
func (a *API) note(_ context.Context, e control.JournalEntry) (control.Nothing, error) {
	if e.Kind != control.KindOperator || e.Text == "" {
		return control.Nothing{}, control.Refuse("a note is of the kind %q and has a text", control.KindOperator)
	}

	if len(e.Text)+len(e.Error) > maxNote {
		return control.Nothing{}, control.Refuse("a note has at most %d characters", maxNote)
	}

	// The janitor sets the time, not the operator.
	e.Started = a.Now()
	e.Ended = e.Started.UTC()
	e.By, e.Outcome = cmp.Or(e.By, someone), cmp.Or(e.Outcome, control.OutcomeOK)
	_, err := a.Journal.Begin(e)

	return control.Nothing{}, err
}

// report returns the state of the mapping in force.
func (a *API) report(ctx context.Context) (control.MappingReport, error) {
	rec, _, err := a.Refresher.LoadRecord(ctx)
	if err != nil {
		return control.MappingReport{}, err
	}

	found := a.Journal.Findings()

	return control.MappingReport{
		Snapshot: rec.Snapshot, Taken: rec.Taken, Refreshed: rec.Refreshed, Mapped: rec.Users, Users: found.Users,
		Without: found.Without, Unusable: found.Unusable, Ambiguous: found.Ambiguous, Alike: found.Alike, Left: found.Left,
		Held: a.State.Read().Held.Report(), Job: a.Mapping.State(),
	}, nil
}
