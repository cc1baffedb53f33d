package publisher

// This file gathers what became of the users of a batch until that is stored.

import (
	"context"
	"slices"
	"time"

	"bobosync/shared/deadletter"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// outcomes are what became of a delivery's jobs in the calls made so far, until it is stored.
type outcomes struct {
	p    *publisher
	made []event.Call
	// answers: one outcome per settled job, and one Pending per job of a call that AtHoc may still be working on;
	// inDoubt: the jobs that are resent although AtHoc may have applied them.
	answers, inDoubt []event.Answer
	dead             []deadletter.Letter
	settled          []job
	// stored counts those of settled whose answers are stored.
	stored int
}

// lastCall returns the call that was made last.
func (o *outcomes) lastCall() *event.Call { return &o.made[len(o.made)-1] }

// giveUp notes that AtHoc may still be working on a call. The resolver sends these users once more when AtHoc can no
// longer be working on it.
func (o *outcomes) giveUp(part []job) {
	for _, j := range part {
		o.answers = append(o.answers, o.answer(j, event.Pending))
	}
}

// doubt notes that AtHoc may have taken what a call sent, although it did not say so. The call is over, and these users
// are resent anyway.
func (o *outcomes) doubt(part ...job) {
	for _, j := range part {
		o.inDoubt = append(o.inDoubt, o.answer(j, event.Pending))
	}
}

// done notes a job's outcome.
func (o *outcomes) done(j job, outcome event.Outcome, detail string) {
	u, answer := j.update, o.answer(j, outcome)
	o.p.refusals.drop(u.User)

	if outcome == event.Dead {
		answer.Detail = detail
		letter := deadletter.New(topology.Publisher, j.item, detail)
		letter.File, letter.Row = u.File, u.Version.Row
		o.dead = append(o.dead, letter)
	}

	o.answers = append(o.answers, answer)
	o.settled = append(o.settled, j)
	o.p.metrics.Settled(outcome)

	if outcome == event.Applied && u.Reason == event.ReasonEvent { // updates sent for another reason are late by nature
		o.p.metrics.Confirmed(o.p.now().Sub(time.Unix(u.At, 0)))
	}
}

// doneBy notes a job's outcome that an earlier call had.
func (o *outcomes) doneBy(call event.Call, j job, outcome event.Outcome, detail string) {
	at := slices.IndexFunc(o.made, func(c event.Call) bool { return c.ID == call.ID })
	if at < 0 { // its other answers are stored already
		at, o.made = len(o.made), append(o.made, call)
	}

	o.done(j, outcome, detail)
	o.answers[len(o.answers)-1].Call = at + 1
}

// answer returns the outcome of a job as the answer of the last call.
func (o *outcomes) answer(j job, outcome event.Outcome) event.Answer {
	u := j.update

	return event.Answer{
		User: u.User, Employee: u.Employee, File: u.File, Version: u.Version, Outcome: outcome,
		On: !j.status.Since.IsZero(), At: u.At, Answered: o.p.now().Unix(), Waited: max(o.p.now().Sub(j.item.Time).Milliseconds(), 0),
		Call: len(o.made),
	}
}

// store saves the dead letters and outcomes that are not stored yet, and only then acknowledges their updates.
func (o *outcomes) store(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // AtHoc has answered: a stop must not lose the answer
	if err := deadletter.Publish(ctx, topology.Publisher, o.p.out.pub, o.dead...); err != nil {
		return err
	}

	o.dead = nil
	if err := o.p.out.answers(ctx, o.made, o.answers, o.inDoubt); err != nil {
		return err
	}

	o.answers, o.inDoubt, o.made = nil, nil, nil
	if err := o.p.attempts.stored(ctx); err != nil {
		o.p.log.Warn("the records of calls that have their answers stay", "error", err)
	}

	for _, j := range o.settled[o.stored:] {
		j.item.Ack()
	}

	o.stored = len(o.settled)

	return nil
}
