package janitor

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/services/janitor/internal/duty"
	"bobosync/services/janitor/internal/journal"
	"bobosync/shared/control"
)

// reportBytes bounds the names in a report, well below the broker's limit of 1 MB for a message.
const reportBytes = 512 << 10

// someone is who gave an order without saying so.
const someone = "an operator"

// desk answers operators while the janitor is at work.
type desk struct {
	*janitor
	office    *office
	journal   *journal.Journal
	refresher *refresher
}

func (d *desk) endpoints() []control.Endpoint {
	return []control.Endpoint{
		control.On(control.MappingShow, func(ctx context.Context, _ control.Nothing) (control.MappingReport, error) { return d.report(ctx) }),
		control.On(control.MappingRefresh, d.refresh),
		control.On(control.MappingApprove, d.approve),
		control.On(control.Reconcile, d.reconcile),
		control.On(control.ReconcileReport, func(_ context.Context, page control.Page) (control.ReconcileAnswer, error) {
			return d.journal.Comparison(page.After)
		}),
		control.On(control.Journal, func(_ context.Context, req control.JournalRequest) (control.JournalAnswer, error) {
			return d.journal.List(req)
		}),
		control.On(control.JournalNote, d.note),
	}
}

// resume goes on with what a former janitor could not end, and then waits for the end of ctx.
func (d *desk) resume(ctx context.Context) error {
	h := d.office.book.read().Held
	if h != nil {
		d.duties.mapping.Resume(h.Seen, h.Reason)
	}
	if h != nil && !h.Approved.IsZero() {
		d.log.Info("a mapping was approved and not fetched since: it is fetched now", "held", h.id(), "by", h.ApprovedBy)
		for ctx.Err() == nil {
			if _, err := d.ask(d.duties.mapping, &duty.Order{Asked: true, By: h.ApprovedBy, Why: "approved"}, waiting); err == nil {
				break
			}
			sleep(ctx, d.look) // the duty is about to be served
		}
	}
	<-ctx.Done()
	return nil
}

// ask gives an order.
func (d *desk) ask(to *duty.Duty, o *duty.Order, alike func(*duty.Order, bool) bool) (control.Begun, error) {
	o.By = cmp.Or(o.By, someone)
	entry, err := to.Ask(o, alike, func(o *duty.Order) (string, error) { return d.office.enter(to.Name, o) })
	return control.Begun{Entry: entry}, err
}

// whichever has any run stand for an order, waiting one that has not begun.
func whichever(*duty.Order, bool) bool         { return true }
func waiting(_ *duty.Order, running bool) bool { return !running }

// refresh has the mapping refreshed now.
func (d *desk) refresh(_ context.Context, req control.Order) (control.Begun, error) {
	return d.ask(d.duties.mapping, &duty.Order{Asked: true, By: req.By}, whichever)
}

// approve lets a mapping that is held back into force, if AtHoc still gives it.
func (d *desk) approve(ctx context.Context, req control.ApproveRequest) (control.Begun, error) {
	var refusal error
	by := cmp.Or(req.By, someone)
	err := d.office.book.change(ctx, func(n *notes) {
		switch {
		case n.Held == nil:
			refusal = control.Refuse("no mapping is held back")
		case len(req.ID) < min(idLength/2, len(n.Held.Hash)) || !strings.HasPrefix(n.Held.Hash, req.ID):
			refusal = control.Refuse("the mapping that is held back is %s, not %s: look at it before you approve it", n.Held.id(), req.ID)
		default:
			refusal = nil
			now := *n.Held
			now.Approved, now.ApprovedBy = d.now().UTC(), by
			n.Held = &now
		}
	})
	if err = cmp.Or(refusal, err); err != nil {
		return control.Begun{}, err
	}
	// A refresh that is under way may have read its users before the operator looked.
	return d.ask(d.duties.mapping, &duty.Order{Asked: true, By: by, Why: "approval of " + req.ID}, waiting)
}

// reconcile has AtHoc compared with what it should hold.
func (d *desk) reconcile(_ context.Context, req control.ReconcileRequest) (control.Begun, error) {
	order := &duty.Order{Asked: true, By: req.By, Apply: req.Apply, Force: req.Force}
	if req.Apply {
		order.Why = "apply"
		if req.Force {
			order.Why = "apply, whatever differs"
		}
	}
	same := func(other *duty.Order, _ bool) bool {
		return other.Asked && other.Apply == req.Apply && other.Force == req.Force || !other.Asked && !req.Apply && d.cfg.Reconcile.Mode != reconcileApply
	}
	return d.ask(d.duties.reconcile, order, same)
}

// noteMost is how long an operator's note may be.
const noteMost = 4000

// note writes down what an operator did elsewhere.
func (d *desk) note(_ context.Context, e control.JournalEntry) (control.Nothing, error) {
	if e.Kind != control.KindOperator || e.Text == "" {
		return control.Nothing{}, control.Refuse("a note is of the kind %q and has a text", control.KindOperator)
	}
	if len(e.Text)+len(e.Error) > noteMost {
		return control.Nothing{}, control.Refuse("a note has at most %d characters", noteMost)
	}
	if e.Started.IsZero() {
		e.Started = d.now()
	}
	if e.Ended.Before(e.Started) {
		e.Ended = e.Started
	}
	e.Ended = e.Ended.UTC()
	e.By, e.Outcome = cmp.Or(e.By, someone), cmp.Or(e.Outcome, control.OutcomeOK)
	_, err := d.journal.Begin(e)
	return control.Nothing{}, err
}

// report tells of the mapping in force.
func (d *desk) report(ctx context.Context) (control.MappingReport, error) {
	rec, _, err := d.refresher.load(ctx)
	if err != nil {
		return control.MappingReport{}, err
	}
	found, err := d.journal.Findings()
	if err != nil {
		return control.MappingReport{}, err
	}
	r := control.MappingReport{
		Snapshot: rec.Snapshot, Taken: rec.Taken, Refreshed: rec.Refreshed, Mapped: rec.Users, Users: found.Users,
		Without: found.Without, Unusable: found.Unusable, Held: d.office.book.read().Held.told(), Duty: d.duties.mapping.State(),
	}
	fit(&r, found, reportBytes)
	return r, nil
}

// fit puts as much of the names into a report as fits.
func fit(r *control.MappingReport, found journal.Findings, most int) {
	size := func(texts ...string) (n int) {
		for _, t := range texts {
			n += len(quoted(t)) + len(":[],")
		}
		return n
	}
	r.Ambiguous = map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(found.Ambiguous)) {
		if most -= size(append([]string{id}, found.Ambiguous[id]...)...); most < 0 {
			r.Left++
			continue
		}
		r.Ambiguous[id] = found.Ambiguous[id]
	}
	for _, ids := range found.Alike {
		if most -= size(ids...); most < 0 {
			r.Left++
			continue
		}
		r.Alike = append(r.Alike, ids)
	}
}

// mapped tells the metrics of the mapping in force.
func (d *desk) mapped(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	rec, _, err := d.refresher.load(ctx)
	found, failed := d.journal.Findings()
	if err != nil || failed != nil {
		return // the next refresh tells them
	}
	d.metrics.Mapping(control.MappingReport{
		Refreshed: rec.Refreshed, Mapped: rec.Users, Users: found.Users, Without: found.Without, Ambiguous: found.Ambiguous,
	})
}
