package janitor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/directory"
	"bobosync/services/janitor/internal/duty"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// differingFew is how many users may always differ without the guard stopping a comparison from applying what it found.
const differingFew = 10

// reconciler compares what AtHoc holds with what it should hold, which the resolver knows.
type reconciler struct {
	// fetch reads all users with their duty status.
	fetch   func(context.Context) ([]directory.Person, error)
	observe observe
	// keep takes the place of the report before.
	keep func(control.ReconcileAnswer) error
	// apply says what the clock's comparisons do, most is the percentage of users that they may change.
	apply   bool
	most    int
	zone    *time.Location
	metrics *telemetry.Janitor
	now     func() time.Time
	log     *slog.Logger
}

// holds says why nothing may be applied, or "".
func holds(differing, compared, most int) string {
	if differing <= differingFew || differing*100 <= most*compared {
		return ""
	}
	return fmt.Sprintf("%d of %d users differ, which is more than %d %% (RECONCILE_MAX_CHANGE_PERCENT)", differing, compared, most)
}

// reconcile compares once.
func (r *reconciler) reconcile(ctx context.Context, o *duty.Order) (result, error) {
	report := control.ReconcileAnswer{Entry: o.Entry, Started: r.now().UTC()}
	people, err := r.fetch(ctx)
	if err != nil {
		return result{}, err
	}
	all := sightings(people, r.zone)
	answer, err := r.observe.askAll(ctx, all, control.Compare, false)
	if err != nil {
		return result{}, err
	}
	report.Compared, report.Foreign, report.Differing = answer.Compared, answer.Foreign, len(answer.Findings)
	apply := r.apply
	if o.Asked {
		apply = o.Apply
	}
	if apply && !o.Force {
		report.Held = holds(report.Differing, report.Compared, r.most)
	}
	sent := map[string]bool{}
	if apply && report.Held == "" {
		if sent, err = r.send(ctx, all, answer.Findings); err != nil {
			err = fmt.Errorf("send the statuses that AtHoc lacks: %w", err)
		}
	}
	report.Users = r.differing(all, answer.Findings, sent)
	report.Applied, report.Ended = len(sent), r.now().UTC()
	return r.end(report, len(all), answer.UnderWay), err
}

// send has the wanted statuses of those who differ sent once more, as far as the resolver still finds that they do, and returns
// who they were.
func (r *reconciler) send(ctx context.Context, all []sighting, findings []control.Finding) (map[string]bool, error) {
	differ := map[string]bool{}
	for _, f := range findings {
		differ[topology.NormalUsername(f.User)] = true
	}
	var again []sighting
	for _, s := range all {
		if differ[topology.NormalUsername(s.User)] {
			again = append(again, s)
		}
	}
	sent := map[string]bool{}
	answer, err := r.observe.askAll(ctx, again, control.Compare, true)
	for _, f := range answer.Findings {
		if f.Published {
			sent[topology.NormalUsername(f.User)] = true
		}
	}
	return sent, err
}

// differing is the list for operators of who differs.
func (r *reconciler) differing(all []sighting, findings []control.Finding, sent map[string]bool) []control.DifferingUser {
	texts := make(map[string]string, len(all))
	for _, s := range all {
		texts[topology.NormalUsername(s.User)] = s.text
	}
	users := make([]control.DifferingUser, 0, len(findings))
	for _, f := range findings {
		name := topology.NormalUsername(f.User)
		u := control.DifferingUser{User: f.User, Employee: f.Employee, Holds: texts[name], Why: f.Why, Applied: sent[name]}
		if f.WantOn {
			u.Wanted = athoc.FormatTime(time.Unix(f.WantAt, 0), r.zone)
		}
		users = append(users, u)
	}
	return users
}

// end tells everybody what was found.
func (r *reconciler) end(report control.ReconcileAnswer, users, underWay int) result {
	if err := r.keep(report); err != nil {
		r.log.Warn("the report of the comparison with AtHoc cannot be kept", "error", err)
	}
	r.metrics.Reconciled(report)
	attrs := []any{
		"users", users, "compared", report.Compared, "foreign", report.Foreign, "under_way", underWay,
		"differing", report.Differing, "applied", report.Applied,
	}
	res := result{text: report.Held, counts: map[string]int{
		"users": users, "compared": report.Compared, "foreign": report.Foreign, "under_way": underWay,
		"differing": report.Differing, "applied": report.Applied,
	}}
	if report.Held != "" {
		res.outcome = control.OutcomeHeld
		r.log.Error("AtHoc differs so much from what it should hold that nothing is sent: look at `bobosync reconcile --last`, and if "+
			"AtHoc is wrong send it with `bobosync reconcile --apply --force`", append(attrs, "reason", report.Held)...)
	} else {
		r.log.Info("AtHoc was compared with what it should hold", attrs...)
	}
	for _, u := range report.Users {
		r.log.Debug("AtHoc holds another duty status than it should", "user", u.User, "employee", u.Employee, "holds", u.Holds,
			"wanted", u.Wanted, "why", u.Why, "applied", u.Applied)
	}
	return res
}
