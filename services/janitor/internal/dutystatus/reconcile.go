package dutystatus

// The comparison of AtHoc with what it should hold.

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// maxDiffering is the number of differing users up to which the guard never stops a comparison from applying what it
// found.
const maxDiffering = 10

// Reconciler compares what AtHoc holds with what it should hold, which the resolver knows.
type Reconciler struct {
	// Fetch reads all users with their duty status.
	Fetch   func(context.Context) ([]users.Person, error)
	Observe Observe
	// Keep replaces the previous report.
	Keep func(control.ReconcileAnswer) error
	// Apply reports whether comparisons by the clock send the statuses that differ. MaxChange is the percentage of the
	// compared users that they may change.
	Apply     bool
	MaxChange int
	Zone      *time.Location
	Metrics   *metrics.Set
	Now       func() time.Time
	Log       *slog.Logger
}

// guard returns why nothing may be applied, or "" if it may.
func guard(differing, compared, most int) string {
	if differing <= maxDiffering || differing*100 <= most*compared {
		return ""
	}
	return fmt.Sprintf("%d of %d users differ, which is more than %d %% (RECONCILE_MAX_CHANGE_PERCENT)", differing, compared, most)
}

// Reconcile makes one comparison. If it applies, it sends the statuses that differ.
func (r *Reconciler) Reconcile(ctx context.Context, o *periodic.Run) (periodic.Result, error) {
	report := control.ReconcileAnswer{Entry: o.Entry, Started: r.Now().UTC()}

	people, err := r.Fetch(ctx)
	if err != nil {
		return periodic.Result{}, err
	}

	all := observe(people, r.Zone)

	answer, err := r.Observe.askAll(ctx, all, control.Compare, false)
	if err != nil {
		return periodic.Result{}, err
	}

	report.Compared, report.Unmanaged, report.Differing = answer.Compared, answer.Unmanaged, len(answer.Findings)

	apply := r.Apply
	if o.Asked {
		apply = o.Apply
	}

	report.TooMany = guard(report.Differing, report.Compared, r.MaxChange)
	if apply && !o.Force {
		report.Held = report.TooMany
	}

	sent := map[string]bool{}
	if apply && report.Held == "" {
		if sent, err = r.send(ctx, all, answer.Findings); err != nil {
			err = fmt.Errorf("send the statuses that AtHoc lacks: %w", err)
		}
	}

	report.Users = r.differing(all, answer.Findings, sent)
	report.Applied, report.Ended = len(sent), r.Now().UTC()

	res := r.end(report, len(all), answer.UnderWay)
	if answer.Held > 0 {
		res.Counts["held"] = answer.Held
	}

	return res, err
}

// send asks the resolver to resend the wanted status of the users that differ, and returns those whose status it
// published.
func (r *Reconciler) send(ctx context.Context, all []observed, findings []control.Finding) (map[string]bool, error) {
	differ := map[string]bool{}
	for _, f := range findings {
		differ[topology.NormalUsername(f.User)] = true
	}

	var again []observed
	for _, s := range all {
		if differ[topology.NormalUsername(s.User)] {
			again = append(again, s)
		}
	}

	sent := map[string]bool{}
	answer, err := r.Observe.askAll(ctx, again, control.Compare, true)
	for _, f := range answer.Findings {
		if f.Published {
			sent[topology.NormalUsername(f.User)] = true
		}
	}

	return sent, err
}

// differing lists the users that differ, for operators.
func (r *Reconciler) differing(all []observed, findings []control.Finding, sent map[string]bool) []control.DifferingUser {
	texts := make(map[string]string, len(all))
	for _, s := range all {
		texts[topology.NormalUsername(s.User)] = s.text
	}

	users := make([]control.DifferingUser, 0, len(findings))
	for _, f := range findings {
		name := topology.NormalUsername(f.User)
		u := control.DifferingUser{User: f.User, Employee: f.Employee, Holds: texts[name], Why: f.Why, Applied: sent[name]}
		if f.WantOn {
			u.Wanted = athoc.FormatTime(time.Unix(f.WantAt, 0), r.Zone)
		}

		users = append(users, u)
	}

	return users
}

// end stores, counts and logs the result of a comparison.
func (r *Reconciler) end(report control.ReconcileAnswer, users, underWay int) periodic.Result {
	if err := r.Keep(report); err != nil {
		r.Log.Warn("the report of the comparison with AtHoc cannot be kept", "error", err)
	}

	r.Metrics.Reconciled(report)

	attrs := []any{
		"users", users, "compared", report.Compared, "unmanaged", report.Unmanaged, "under_way", underWay,
		"differing", report.Differing, "applied", report.Applied,
	}
	res := periodic.Result{Text: report.Held, Counts: map[string]int{
		"users": users, "compared": report.Compared, "foreign": report.Unmanaged, "under_way": underWay,
		"differing": report.Differing, "applied": report.Applied,
	}}
	if report.Held != "" {
		res.Outcome = control.OutcomeHeld

		r.Log.Error("AtHoc differs so much from what it should hold that nothing is sent: look at `bobosync reconcile --last`, and if "+
			"AtHoc is wrong send it with `bobosync reconcile --apply --force`", append(attrs, "reason", report.Held)...)
	} else {
		r.Log.Info("AtHoc was compared with what it should hold", attrs...)
	}

	for _, u := range report.Users {
		r.Log.Debug("AtHoc holds another duty status than it should", "user", u.User, "employee", u.Employee, "holds", u.Holds,
			"wanted", u.Wanted, "why", u.Why, "applied", u.Applied)
	}

	return res
}
