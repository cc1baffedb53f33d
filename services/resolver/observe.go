package resolver

import (
	"context"
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// observation is the work on one ObserveRequest.
type observation struct {
	r       *resolver
	view    memory.View
	request control.ObserveRequest
	now     time.Time
	answer  control.ObserveAnswer
	outcome outcome
	// done are the users that were judged, by topology.NormalUsername: AtHoc's pages may hold one twice.
	done map[string]bool
}

// observe judges what AtHoc was seen to hold, and publishes what follows.
//
// A clear can never undo a newer booking, since all of it happens under mu and the table of updates keeps the last update of a
// user, whoever it is for:
//   - An entry that was read is in the memory before anything is published for it, also after a crash. As long as its update is
//     held back or not known to be out the worker is dirty, and then unconfirmed until AtHoc has answered: under way all that time.
//   - An entry that is still unread leads to an update later than the clear, on the same subject, and replaces it; or it is sent
//     after it, since a lane is worked by one publisher at a time. This holds for a worker who was unknown until then, too.
//   - AtHoc may go on with the call of a clear that was given up, after a booking was sent. The worker who is mapped to the user
//     is sent once more then, as after any such call, even one who becomes known after it (see concerned).
//   - The observation may be older than an answer of AtHoc's: then it is passed over, and the next round sees what is there.
func (r *resolver) observe(ctx context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
	if len(req.Users) > control.MostObserved {
		return control.ObserveAnswer{}, control.Refuse("%d users at a time are too many; the most is %d", len(req.Users), control.MostObserved)
	}
	if req.Purpose != control.Expire && req.Purpose != control.Compare {
		return control.ObserveAnswer{}, control.Refuse("the purpose %q is not known: are both programs of the same version?", req.Purpose)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mayPublish() {
		return control.ObserveAnswer{}, errReading
	}
	x := &observation{r: r, request: req, now: r.now(), outcome: newOutcome(rowBook{}), done: map[string]bool{}}
	err := r.memory.View(func(v memory.View) error {
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
	x.outcome.sort()
	if err := r.publish(ctx, x.outcome); err != nil {
		return control.ObserveAnswer{}, err
	}
	x.remember()
	x.log()
	return x.answer, nil
}

// judge takes one user's observation in.
func (x *observation) judge(seen control.ObservedUser) error {
	key := topology.NormalUsername(seen.User)
	if key == "" || x.done[key] {
		return nil
	}
	x.done[key] = true
	o := latest.Observed{On: seen.On, At: seen.At, At2: seen.At2, Odd: seen.Odd, Seen: x.request.Seen}
	employee := x.r.directory.Load().employee(seen.User)
	var w latest.Worker
	if employee != "" {
		var err error
		if w, err = x.view.Worker(employee); err != nil {
			return err
		}
	}
	if w.Known() {
		x.known(employee, x.view.User(employee), w, o)
	} else {
		x.foreign(seen.User, employee, o)
	}
	return nil
}

// known judges the user of a worker whom BOBO has told of.
func (x *observation) known(employee, user string, w latest.Worker, o latest.Observed) {
	x.answer.Compared++
	judge, reason := w.Expire, event.ReasonExpiry
	if x.request.Purpose == control.Compare {
		judge, reason = w.Compare, event.ReasonReconcile
	}
	j := judge(o, user, x.now, x.r.rules)
	if j.Send && x.request.Apply {
		before := w
		update, settled := w.Correct(employee, user, reason, x.now, x.r.rules)
		if settled != event.Pending {
			x.outcome.settled.add(w.Latest.File, settled, w.Latest.Version.Row)
		}
		x.outcome.send(*update, before, w)
	}
	x.found(user, employee, j)
}

// foreign judges a user without a known worker.
func (x *observation) foreign(user, employee string, o latest.Observed) {
	if o.On || o.Odd {
		x.answer.Foreign++
	}
	if x.request.Purpose == control.Compare {
		return
	}
	j := latest.ExpireForeign(o, x.r.clears[topology.NormalUsername(user)], x.now, x.r.rules)
	if j.Send && x.request.Apply {
		x.outcome.updates = append(x.outcome.updates, event.Update{
			User: user, At: j.WantAt, Version: event.Version{Rank: j.WantAt}, Reason: event.ReasonExpiry,
		})
	}
	x.found(user, employee, j)
}

// found notes a judgement in the answer.
func (x *observation) found(user, employee string, j latest.Judgement) {
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

// clearKept is how long a clear of a user without a known worker is remembered.
const clearKept = 48 * time.Hour

// remember keeps in mind which users without a known worker were told to be cleared, so that it is not done again before there is
// an answer, nor every few minutes if AtHoc refuses it. After a restart it costs a call more, so it is not saved.
func (x *observation) remember() {
	for key, c := range x.r.clears {
		if x.now.Sub(time.Unix(c.Published, 0)) > clearKept {
			delete(x.r.clears, key)
		}
	}
	for _, u := range x.outcome.updates {
		if u.Employee == "" {
			x.r.clears[topology.NormalUsername(u.User)] = &latest.Clear{Published: x.now.Unix()}
		}
	}
}

func (x *observation) log() {
	if x.answer.Published == 0 {
		return
	}
	foreign := 0
	for _, u := range x.outcome.updates {
		if u.Employee == "" {
			foreign++
		}
	}
	x.r.log.Info("statuses are sent, since AtHoc was seen to hold others", "purpose", string(x.request.Purpose),
		"seen", len(x.request.Users), "updates", x.answer.Published, "without_known_worker", foreign, "under_way", x.answer.UnderWay)
}

// answeredForeign takes AtHoc's answer to a clear of a user without a known worker into account. It is called under mu.
func (r *resolver) answeredForeign(a event.Answer) {
	if a.Outcome == event.Pending {
		return // the publisher tries again
	}
	key := topology.NormalUsername(a.User)
	c := r.clears[key]
	if c == nil {
		c = &latest.Clear{Published: a.Answered}
		r.clears[key] = c
	}
	c.Outcome, c.Answered = a.Outcome, a.Answered
}
