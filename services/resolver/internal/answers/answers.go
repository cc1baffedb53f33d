// Package answers records AtHoc's answers to the updates, and resends whatever a call without an answer may have
// undone.
package answers

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/resolver/internal/history"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/observe"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bus"
	"bobosync/shared/event"
)

// Linger is how long answers are collected, so that those of several calls to AtHoc are saved together. Nothing waits
// for them.
const Linger = 100 * time.Millisecond

// Answers handles answers of AtHoc.
type Answers struct {
	Roster   *roster.Roster
	Observer *observe.Observer
	History  *history.Keeper
}

// Handle handles a batch of outcomes: it saves what they mean for the workers, then writes them to the history.
func (a *Answers) Handle(msg *message.Message) error {
	all := read(bus.BatchFrom(msg.Context()))
	if err := a.learn(msg.Context(), all); err != nil {
		return err
	}

	return a.History.Record(msg.Context(), all)
}

// read decodes a batch. A message that cannot be decoded becomes a dead letter.
func read(batch *bus.Batch) []history.Answered {
	all := make([]history.Answered, 0, len(batch.Items))
	for _, item := range batch.Items {
		m := history.Answered{Sequence: item.Sequence, Stored: item.Time}
		if err := event.Decode(item.Data, &m.Acks); err != nil {
			item.Term(err.Error())
			continue
		}

		all = append(all, m)
	}

	return all
}

// learn saves what answers mean for the workers.
func (a *Answers) learn(ctx context.Context, all []history.Answered) error {
	a.Roster.Lock()
	defer a.Roster.Unlock()

	change := store.Change{Workers: map[string]latest.Worker{}}

	err := a.Roster.View(func(v store.View) error {
		for i := range all {
			for _, answer := range all[i].Answers {
				if answer.Outcome == event.Pending {
					answer.Answered = givenUp(answer, all[i].Stored, a.Roster.Now())
				}

				if err := a.take(v, answer, all[i].Stored, change.Workers); err != nil {
					return err
				}
			}
		}

		return nil
	})
	if err != nil {
		return fmt.Errorf("read AtHoc's answers: %w", err)
	}

	return a.Roster.Save(ctx, change)
}

// givenUp returns the latest moment at which a call was given up, in Unix seconds by this machine's clock. The
// publisher's clock may be slow; a status that is resent while AtHoc may still be working on the call would be
// overwritten. So the moment at which the broker stored the answer counts if it is later. The result never lies in the
// future.
func givenUp(answer event.Answer, stored, now time.Time) int64 {
	return min(max(answer.Answered, stored.Unix()), now.Unix())
}

// take processes one answer, with the workers as the batch has left them so far.
func (a *Answers) take(v store.View, answer event.Answer, stored time.Time, workers map[string]latest.Worker) error {
	if answer.Employee == "" {
		a.Observer.Answered(answer)
	}

	for _, employee := range a.concerned(answer) {
		w, known := workers[employee]
		if !known {
			var err error
			if w, err = a.Roster.Worker(v, employee); err != nil {
				return err
			}
		}

		if w.Answer(answer, stored, a.Roster.Rules) {
			workers[employee] = w
		}
	}

	return nil
}

// concerned returns the workers an answer affects: the worker it was sent for, and, if the call got no answer and so
// may still be under way, the worker who is mapped to that user now. That worker may be unknown so far: an event that
// arrives soon is resent, as for all workers.
func (a *Answers) concerned(answer event.Answer) []string {
	var out []string
	if answer.Employee != "" {
		out = append(out, answer.Employee)
	}

	if answer.Outcome == event.Pending {
		if now := a.Roster.Mapping().Employee(answer.User); now != "" && now != answer.Employee {
			out = append(out, now)
		}
	}

	return out
}

// Repeat resends the last status of the workers whose call got no answer, once AtHoc can no longer be working on that
// call.
func (a *Answers) Repeat(ctx context.Context) error {
	r := a.Roster
	r.Lock()
	defer r.Unlock()

	if !r.MayPublish() || len(r.InDoubt) == 0 {
		return nil
	}

	c, now := roster.NewChangeset(), r.Now()

	err := r.View(func(v store.View) error {
		for employee, until := range r.InDoubt {
			if _, resent := c.Change.Workers[employee]; resent || now.Unix() < until {
				continue
			}

			if err := a.repeat(v, &c, employee, now); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		return err
	}

	if err := r.Commit(ctx, &c); err != nil {
		return err
	}

	if len(c.Updates) > 0 {
		r.Log.Info("statuses are resent, since AtHoc may have been late with an older one", "users", len(c.Updates))
	}

	return nil
}

// repeat resends a worker's last status. If the user it was sent to belongs to another worker by now, that worker's
// status is resent instead, since it is the one that the late call may have overwritten.
func (a *Answers) repeat(v store.View, c *roster.Changeset, employee string, now time.Time) error {
	r := a.Roster

	w, err := r.Worker(v, employee)
	if err != nil || w.Unresolved && w.Hold == nil {
		return err // the last update may be newer than the store has it; the worker is resolved first
	}

	before := w
	u := w.Repeat(employee, now)
	if u == nil {
		c.Change.Workers[employee] = w
		return nil
	}

	holder := r.Mapping().Employee(u.User)
	if holder == "" || holder == employee {
		c.Send(*u, before, w, event.Pending)
		return nil
	}

	present, err := r.Worker(v, holder)
	if err != nil || present.Unresolved {
		return err
	}

	before.InDoubt = 0
	c.Change.Workers[employee] = before
	if _, sent := c.Change.Workers[holder]; !sent {
		c.Again(present, func(w *latest.Worker) *event.Update {
			if w.InDoubt <= now.Unix() {
				w.InDoubt = 0 // because of the same call
			}
			return w.Again(holder, r.Mapping().User(holder), event.ReasonRepeat, now, r.Rules)
		})
	}

	return nil
}
