// Package decisions lets a person decide about the mass changes that are held, and carries the decisions out.
package decisions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/release"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// shownAtOnce is how many workers one answer has at most.
const shownAtOnce = 1000

// Decider carries out the decisions about a roster's holds.
type Decider struct {
	roster   *roster.Roster
	releaser *release.Releaser
	copy     *keeper
}

// New returns a decider for the session that begins. It loads the guard's state from the state store, or from the
// broker's copy if the state store was lost. The caller must hold the roster's lock.
func New(ctx context.Context, js jetstream.JetStream, r *roster.Roster, x *release.Releaser) (*Decider, error) {
	kv, err := js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	d := &Decider{roster: r, releaser: x, copy: &keeper{kv: kv}}

	return d, d.copy.restore(ctx, r)
}

// person is a member of a hold, with the worker's record if there is one.
type person struct {
	guard.Member
	worker latest.Worker
	// at is the time of the status that waits, in Unix seconds.
	at int64
}

// name returns the name by which an operator refers to the person.
func (p person) name() string { return cmp.Or(p.Employee, p.User) }

func members(all []person) []guard.Member {
	list := make([]guard.Member, len(all))
	for i, p := range all {
		list[i] = p.Member
	}

	return list
}

// persons lists the members of a hold, in the order of employee ids.
func (d *Decider) persons(g *guard.Group) ([]person, error) {
	r := d.roster
	var all []person
	err := r.View(func(v store.View) error {
		for employee, seq := range r.Holds.Members.Of(g.ID) {
			w, err := r.Worker(v, employee)
			if err != nil {
				return err
			}

			all = append(all, person{guard.Member{
				Employee: employee, User: r.Mapping().User(employee), Version: w.Latest.Version, Seq: seq,
			}, w, w.Latest.At})
		}

		return nil
	})

	for user, at := range g.Users {
		all = append(all, person{Member: guard.Member{User: user, Version: event.Version{Rank: at}, Seq: g.Seq}, at: at})
	}

	slices.SortFunc(all, func(a, b person) int { return cmp.Or(cmp.Compare(a.Employee, b.Employee), cmp.Compare(a.User, b.User)) })

	return all, err
}

// List describes all holds without naming their members.
func (d *Decider) List(context.Context, control.Nothing) (control.HeldAnswer, error) {
	r := d.roster
	r.Lock()
	defer r.Unlock()

	answer := control.HeldAnswer{GuardState: *r.Holds.Facts(r.Now()), OnDuty: r.Stats.SentOn(), Decided: []control.HeldGroup{}}
	for _, g := range r.Holds.Groups.All() {
		if !g.Is("") {
			answer.Decided = append(answer.Decided, r.Holds.Describe(g))
		}
	}

	return answer, nil
}

// waiting returns the hold with the given id if it waits for a decision, and refuses otherwise.
func (d *Decider) waiting(id string) (*guard.Group, error) {
	g := d.roster.Holds.Groups.Find(id)
	switch {
	case g == nil:
		return nil, control.Refuse("there is no hold %q: bobosync held list shows them", id)
	case g.Decision != nil:
		return nil, control.Refuse("it was decided about %s already: %s by %s at %s", g.ID, g.Decision.Outcome, cmp.Or(g.Decision.By, "nobody"),
			g.Decision.At.Format(time.RFC3339))
	default:
		return g, nil
	}
}

// Show returns the members of a hold and what an approval would lead to.
func (d *Decider) Show(_ context.Context, req control.HeldRequest) (control.HeldSet, error) {
	r := d.roster
	r.Lock()
	defer r.Unlock()

	g, err := d.waiting(req.ID)
	if err != nil {
		return control.HeldSet{}, err
	}

	all, err := d.persons(g)
	if err != nil {
		return control.HeldSet{}, err
	}

	set := control.HeldSet{HeldGroup: r.Holds.Describe(g), Token: guard.Token(members(all)), Files: map[string]int{}, Feeds: map[string]int{}, Workers: []control.HeldWorker{}}
	set.OnDutyNow = r.Stats.SentOn()
	set.OnDutyAfter = set.OnDutyNow - len(all) + len(g.Users) // the guard does not count users without a known worker as on duty
	if g.Kind == guard.On {
		set.OnDutyAfter = set.OnDutyNow + len(all)
	}

	set.UsualLeast, set.UsualMost = r.Holds.Guard.Usual(r.Now())
	for i, p := range all {
		set.Files[p.worker.Latest.File]++
		set.Feeds[p.worker.Latest.Feed]++
		if i >= req.After && len(set.Workers) < shownAtOnce {
			set.Workers = append(set.Workers, control.HeldWorker{
				Employee: p.Employee, User: p.User, On: g.Kind == guard.On, At: time.Unix(p.at, 0).UTC(),
				File: p.worker.Latest.File, Row: p.worker.Latest.Version.Row,
			})
		}
	}

	if set.Feeds[""] == len(all) {
		set.Feeds = nil
	}

	if end := req.After + len(set.Workers); end < len(all) {
		set.Next = end
	}

	return set, nil
}

// Decide approves or rejects a hold for exactly the members who were shown.
func (d *Decider) Decide(ctx context.Context, req control.HeldDecision) (control.HeldResult, error) {
	r := d.roster
	r.Lock()
	defer r.Unlock()

	switch {
	case req.Reason == "":
		return control.HeldResult{}, control.Refuse("say why, with --reason: it is kept with the decision")
	case !r.Recovered: // members who are read again later would be decided about too, and were not shown
		return control.HeldResult{}, roster.ErrRebuilding
	}

	g, err := d.waiting(req.ID)
	if err != nil {
		return control.HeldResult{}, err
	}

	all, err := d.persons(g)
	if err != nil {
		return control.HeldResult{}, err
	}

	if err := sameSet(req.Token, g.ID, all); err != nil {
		return control.HeldResult{}, err
	}

	result := control.HeldResult{ID: g.ID}
	if len(req.Except) > 0 {
		if g, all, err = d.split(ctx, g, all, req, &result); err != nil {
			return result, err
		}
	}

	result.Users = len(all)

	outcome := guard.Rejected
	if req.Approve {
		outcome = guard.Approved
	}

	change := r.Holds.Guard.Decide(g, guard.Decision{Outcome: outcome, At: r.Now().UTC(), By: req.By, Reason: req.Reason, Users: len(all)})
	// Once this is saved, the decision stands: if the process ends, Resume carries it out.
	if err := r.Save(ctx, store.Change{Guard: &change}); err != nil {
		return result, err
	}

	r.Log.Info("it was decided about a mass change that was held", "hold", g.ID, "verdict", outcome, "users", len(all), "by", req.By, "reason", req.Reason)

	return result, d.carryOut(ctx, r.Holds.Groups.Find(g.ID))
}

// sameSet refuses a decision if the members are no longer those who were shown.
func sameSet(token, id string, now []person) error {
	came, left, ok := guard.Since(token, members(now))
	switch {
	case !ok:
		return control.Refuse("those in %s are others than were shown: look again with bobosync held show %s", id, id)
	case came+left > 0:
		return control.Refuse("%d more came and %d left since you looked, so nothing was done: look again with bobosync held show %s", came, left, id)
	default:
		return nil
	}
}

// split moves the excepted members into a hold of their own, and returns what is left of the original hold, with the
// members who are left in it. The rows of members who had left the hold before go to the part that is not approved: if
// they are read again, nothing counts as approved that nobody was shown.
func (d *Decider) split(ctx context.Context, g *guard.Group, all []person, req control.HeldDecision, result *control.HeldResult) (*guard.Group, []person, error) {
	r, except := d.roster, req.Except
	rest, left := r.Holds.Groups.Split(g), g.Clone()
	clear(left.Users)

	gathered, others := rest, left // gathered gets the rows of its members, and others keeps all the rest
	if req.Approve {
		gathered, others = left, rest
	}

	clear(gathered.Rows)

	change := store.Change{Workers: map[string]latest.Worker{}}
	var decided []person
	found := map[string]bool{}
	for _, p := range all {
		into := left
		if slices.Contains(except, p.name()) || p.Employee == "" && slices.ContainsFunc(except, func(name string) bool {
			return topology.NormalUsername(name) == p.User
		}) {
			into, found[p.name()] = rest, true
			if p.Employee != "" {
				p.worker.Hold = &latest.Hold{Group: rest.ID, Seq: rest.Seq}
				change.Workers[p.Employee] = p.worker
			}
		} else {
			decided = append(decided, p)
		}

		switch {
		case p.Employee == "":
			into.Users[p.User] = p.at
		case into == gathered:
			gathered.AddRow(p.worker.Latest.File, p.worker.Latest.Version.Row)
		}
	}

	others.TakeOut(gathered)

	switch {
	case len(found) < len(except):
		return nil, nil, control.Refuse("%d of those excepted are not in %s: name them as bobosync held show does", len(except)-len(found), g.ID)
	case len(decided) == 0:
		return nil, nil, control.Refuse("everybody is excepted, so there is nothing to decide")
	}

	guarded := r.Holds.Guard.Replace(r.Now(), left, rest)
	change.Guard = &guarded
	result.Rest = rest.ID

	return left, decided, r.Save(ctx, change)
}

// carryOut carries out the decision about a hold. It is idempotent.
func (d *Decider) carryOut(ctx context.Context, g *guard.Group) error {
	all, err := d.persons(g)
	if err != nil {
		return err
	}

	c := roster.NewChangeset()
	for _, p := range all {
		w := p.worker
		switch {
		case p.Employee == "": // the janitor finds the user again, and the observer then goes by the decision
			continue
		case !g.Is(guard.Rejected):
			w.Pass()
		case g.Kind.Clears():
			w.KeepDuty()
		default:
			if e := w.Reject(); e != nil {
				c.Settled.Add(e.File, event.Withheld, e.Version.Row)
			}
		}

		c.Change.Workers[p.Employee] = w
	}

	d.releaser.Wake()

	return d.roster.Commit(ctx, &c)
}

// Requeue accepts a rejected mass change after all.
func (d *Decider) Requeue(ctx context.Context, req control.HeldDecision) (control.HeldResult, error) {
	r := d.roster
	r.Lock()
	defer r.Unlock()

	g, err := d.rejected(req)
	if err != nil {
		return control.HeldResult{}, err
	}

	result, c, workers := control.HeldResult{ID: g.ID}, roster.NewChangeset(), map[string]latest.Worker{}
	latestRows := map[string]*event.RowSet{} // the rows of the hold that are latest events, by file

	err = r.View(func(v store.View) error {
		return v.EachWorker(ctx, func(employee string, w latest.Worker) error {
			row, is := w.WithheldWith(g.ID)
			if !is {
				return nil
			}

			isLatest, superseded := w.Readmit(g.ID)
			if superseded != nil {
				c.Settled.Add(superseded.File, event.Superseded, superseded.Version.Row)
			}

			if isLatest {
				addRow(latestRows, row)
			} else {
				result.Superseded++
			}

			result.Users++
			workers[employee] = w

			return nil
		})
	})
	if err != nil {
		return result, err
	}

	if !g.Kind.Clears() {
		supersedeRest(c.Settled, g, latestRows)
	}

	if err := r.Commit(ctx, &c); err != nil {
		return result, err
	}

	change := r.Holds.Guard.Decide(g, guard.Decision{Outcome: guard.Requeued, At: r.Now().UTC(), By: req.By, Reason: req.Reason, Users: result.Users})

	d.releaser.Wake()
	r.Log.Info("a mass change that was rejected is taken in after all", "hold", g.ID, "users", result.Users, "by", req.By, "reason", req.Reason)

	return result, r.Save(ctx, store.Change{Workers: workers, Guard: &change})
}

// rejected returns the rejected mass change that a request names. The caller must hold the roster's lock.
func (d *Decider) rejected(req control.HeldDecision) (*guard.Group, error) {
	g := d.roster.Holds.Groups.Find(req.ID)
	switch {
	case req.Reason == "":
		return nil, control.Refuse("say why, with --reason: it is kept with the decision")
	case !d.roster.Recovered:
		return nil, roster.ErrRebuilding
	case !g.Is(guard.Rejected):
		return nil, control.Refuse("there is no hold %q that was rejected: bobosync held list shows them", req.ID)
	default:
		return g, nil
	}
}

func addRow(rows map[string]*event.RowSet, e latest.Event) {
	if rows[e.File] == nil {
		rows[e.File] = &event.RowSet{}
	}

	rows[e.File].Add(e.Version.Row)
}

// supersedeRest settles as superseded the rows of a rejected mass change that are no worker's latest event. When their
// files were read again, these rows were withheld like the rejected ones, and would stay withheld for ever.
func supersedeRest(settled roster.RowOutcomes, g *guard.Group, latestRows map[string]*event.RowSet) {
	for file, rows := range g.Rows {
		for first, last := range rows.Runs() {
			for row := first; row <= last; row++ {
				if known := latestRows[file]; known == nil || !known.Has(row) {
					settled.Add(file, event.Superseded, row)
				}
			}
		}
	}
}

// Resume carries out what was decided before the process ended, and drops old holds.
func (d *Decider) Resume(ctx context.Context) error {
	r := d.roster
	r.Lock()
	defer r.Unlock()

	var errs []error
	for _, g := range r.Holds.Groups.All() {
		if g.Decision != nil && r.Holds.Members.Count(g.ID) > 0 {
			errs = append(errs, d.carryOut(ctx, g))
		}
	}

	errs = append(errs, d.adoptOrphans(ctx))

	forget, overtaken := r.Holds.Old(r.Now())
	if !r.Recovered { // their members are not known yet
		overtaken = nil
	}

	for _, g := range overtaken {
		change := r.Holds.Guard.Decide(g, guard.Decision{Outcome: guard.Overtaken, At: r.Now().UTC()})
		errs = append(errs, r.Save(ctx, store.Change{Guard: &change}))
		r.Log.Info("newer events have taken the place of a mass change that was held", "hold", g.ID)
	}

	for _, g := range forget {
		if err := errors.Join(r.Store.ForgetHold(g.ID), d.copy.forget(ctx, g.ID)); err != nil {
			errs = append(errs, fmt.Errorf("forget a hold: %w", err))
			continue
		}

		r.Holds.Forget(g.ID)
	}

	return errors.Join(append(errs, d.copy.keep(ctx, r.Holds, r.Now()))...)
}

// adoptOrphans makes the guard be asked again about the workers whose hold is not known. A large change is saved in
// parts, with the holds in the last one, and a crash came in between.
func (d *Decider) adoptOrphans(ctx context.Context) error {
	r, change := d.roster, store.Change{Workers: map[string]latest.Worker{}}
	err := r.View(func(v store.View) error {
		for _, employee := range r.Holds.Orphans() {
			w, err := r.Worker(v, employee)
			if err != nil {
				return err
			}

			w.Hold = nil
			change.Workers[employee] = w
		}

		return nil
	})
	if err != nil || len(change.Workers) == 0 {
		return err
	}

	d.releaser.Wake()

	return r.Save(ctx, change)
}
