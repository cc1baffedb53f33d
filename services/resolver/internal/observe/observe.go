// Package observe judges what the janitor saw in AtHoc, and publishes the updates that follow from it.
package observe

import (
	"context"
	"time"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Observer answers the janitor's observations.
type Observer struct {
	roster *roster.Roster
	// clears holds the clear commands for unmanaged users, by topology.NormalUsername. The roster's lock guards it.
	clears map[string]*latest.Clear
}

// New returns an observer of the roster's workers.
func New(r *roster.Roster) *Observer { return &Observer{roster: r, clears: map[string]*latest.Clear{}} }

// Forget drops the clear commands for unmanaged users: they are lost with the broker's store, and the janitor finds
// these users again. The caller must hold the roster's lock.
func (o *Observer) Forget() { clear(o.clears) }

// request is the work on one ObserveRequest.
type request struct {
	*Observer
	view    store.View
	request control.ObserveRequest
	now     time.Time
	answer  control.ObserveAnswer
	changes roster.Changeset
	// done holds the users already judged, by topology.NormalUsername: AtHoc's pages may hold a user twice.
	done map[string]bool
}

// Observe judges what AtHoc was seen to hold, and publishes the updates that follow from it.
//
// A clear can never undo a newer booking: all of this happens under the roster's lock, and the table of updates keeps
// the last update of a user, whichever worker it is for:
//   - An entry that was read is in the state store before anything is published for it, even after a crash. As long as
//     its update is held back, or is not known to be published, the worker is unresolved; after that the worker is
//     unconfirmed until AtHoc has answered. All that time the entry counts as under way.
//   - An entry that is still unread leads to an update later than the clear, on the same subject. That update replaces
//     the clear, or is sent after it, since a partition is leased by one publisher at a time. This also holds for a
//     worker who was unknown until then.
//   - AtHoc may go on with the call of a clear that was given up, after a booking was sent. Then the status of the
//     worker who is mapped to the user is resent, as after any such call, even if the worker becomes known only after
//     it (see concerned in package answers).
//   - The observation may be older than an answer of AtHoc's. Then it is skipped, and the next comparison sees what is
//     there.
func (o *Observer) Observe(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
	if len(req.Users) > control.MaxObserved {
		return control.ObserveAnswer{}, control.Refuse("%d users at a time are too many; the most is %d", len(req.Users), control.MaxObserved)
	}

	if req.Purpose != control.Expire && req.Purpose != control.Compare {
		return control.ObserveAnswer{}, control.Refuse("the purpose %q is not known: are both programs of the same version?", req.Purpose)
	}

	r := o.roster
	r.Lock()
	defer r.Unlock()

	if !r.MayPublish() {
		return control.ObserveAnswer{}, roster.ErrRebuilding
	}

	r.Holds.Guard.SetSilent(req.Silent)
	defer r.Holds.Guard.SetSilent(nil)

	x := &request{Observer: o, request: req, now: r.Now(), changes: roster.NewChangeset(), done: map[string]bool{}}

	err := r.View(func(v store.View) error {
		x.view = v
		for _, seen := range req.Users {
			if err := x.judge(seen); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		return control.ObserveAnswer{}, err
	}

	if err := r.Commit(ctx, &x.changes); err != nil {
		return control.ObserveAnswer{}, err
	}

	x.noteHeld()
	x.noteClears()
	x.log()

	return x.answer, nil
}

// judge judges one user's observation.
func (x *request) judge(seen control.ObservedUser) error {
	key := topology.NormalUsername(seen.User)
	if key == "" || x.done[key] {
		return nil
	}

	x.done[key] = true
	o := latest.Observed{On: seen.On, At: seen.At, At2: seen.At2, Odd: seen.Odd, Seen: x.request.Seen}
	employee := x.roster.Mapping().Employee(seen.User)
	var w latest.Worker
	if employee != "" {
		var err error
		if w, err = x.roster.Worker(x.view, employee); err != nil {
			return err
		}
	}

	if w.Known() {
		x.known(employee, x.roster.Mapping().User(employee), w, o)
	} else {
		x.unmanaged(seen.User, employee, o)
	}

	return nil
}

// known judges the user of a worker whom BOBO has reported.
func (x *request) known(employee, user string, w latest.Worker, o latest.Observed) {
	x.answer.Compared++
	if w.Hold != nil {
		x.answer.Held++
		return
	}

	judge, reason := w.Expire, event.ReasonExpiry
	if x.request.Purpose == control.Compare {
		judge, reason = w.Compare, event.ReasonReconcile
	}

	j := judge(o, user, x.now, x.roster.Rules)
	if j.Send && x.request.Apply {
		before := w
		update, settled := w.Correct(employee, user, reason, x.now, x.roster.Rules)
		x.changes.Send(*update, before, w, settled)
	}

	x.found(user, employee, j)
}

// unmanaged judges an unmanaged user: one to whom no known worker is mapped.
func (x *request) unmanaged(user, employee string, o latest.Observed) {
	if o.On || o.Odd {
		x.answer.Unmanaged++
	}

	if x.request.Purpose == control.Compare {
		return
	}

	switch hold := x.roster.Holds.Groups.OfUser(user, max(o.At, o.At2)); {
	case hold.Is(""):
		x.answer.Held++
		return
	case hold.Is(guard.Rejected): // a person wants it to stay
		return
	}

	j := latest.ExpireUnmanaged(o, x.clears[topology.NormalUsername(user)], x.now, x.roster.Rules)
	if j.Send && x.request.Apply {
		x.changes.Updates = append(x.changes.Updates, event.Update{
			User: user, At: j.WantAt, Version: event.Version{Rank: j.WantAt}, Reason: event.ReasonExpiry,
		})
	}

	x.found(user, employee, j)
}

// found adds a judgement to the answer.
func (x *request) found(user, employee string, j latest.Judgement) {
	switch {
	case j.UnderWay:
		x.answer.UnderWay++
	case j.Why != "":
		published := j.Send && x.request.Apply
		if published {
			x.answer.Published++
		}

		x.answer.Findings = append(x.answer.Findings, control.Finding{
			User: user, Employee: employee, WantOn: j.WantOn, WantAt: j.WantAt, Why: j.Why, Published: published,
		})
	}
}

// noteHeld corrects the answer for the users whose updates the guard has held.
func (x *request) noteHeld() {
	published := map[string]bool{}
	for _, u := range x.changes.Updates {
		published[u.User] = true
	}

	for i := range x.answer.Findings {
		if f := &x.answer.Findings[i]; f.Published && !published[f.User] {
			f.Published = false
			x.answer.Published--
			x.answer.Held++
		}
	}
}

// clearKept is how long a clear command is kept.
const clearKept = 48 * time.Hour

// noteClears records for which unmanaged users a clear command was sent, so that it is not sent again before there is
// an answer, nor every few minutes if AtHoc refuses it. The record is not saved, since its loss costs only one more
// call after a restart.
func (x *request) noteClears() {
	for key, c := range x.clears {
		if x.now.Sub(time.Unix(c.Published, 0)) > clearKept {
			delete(x.clears, key)
		}
	}

	for _, u := range x.changes.Updates {
		if u.Employee == "" {
			x.clears[topology.NormalUsername(u.User)] = &latest.Clear{Published: x.now.Unix()}
		}
	}
}

func (x *request) log() {
	if x.answer.Published == 0 {
		return
	}

	unmanaged := 0
	for _, u := range x.changes.Updates {
		if u.Employee == "" {
			unmanaged++
		}
	}

	x.roster.Log.Info("statuses are sent, since AtHoc was seen to hold others", "purpose", string(x.request.Purpose),
		"seen", len(x.request.Users), "updates", x.answer.Published, "without_known_worker", unmanaged, "under_way", x.answer.UnderWay)
}

// Answered takes AtHoc's answer to a clear command into account. The caller must hold the roster's lock.
func (o *Observer) Answered(a event.Answer) {
	if a.Outcome == event.Pending {
		return // the publisher tries again
	}

	key := topology.NormalUsername(a.User)
	c := o.clears[key]
	if c == nil {
		c = &latest.Clear{Published: a.Answered}
		o.clears[key] = c
	}

	c.Outcome, c.Answered = a.Outcome, a.Answered
}
