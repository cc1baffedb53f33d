package roster

// This file asks the guard about what is about to be published. All updates pass through here.

import (
	"slices"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// hold asks the guard, and removes from a changeset what has to wait for a person. It returns nil if no status changes.
// What is held is saved with the intents of the rest, and its rows are not settled.
func (r *Roster) hold(c *Changeset) *hold.Answer {
	var changes []hold.Change
	for i := range c.Updates {
		if ch, is := r.change(c, &c.Updates[i]); is {
			changes = append(changes, ch)
		}
	}

	if len(changes) == 0 {
		c.settle()
		return nil
	}

	answer := r.Holds.Ask(r.Now(), r.Stats.SentOn(), changes)
	c.Updates = slices.DeleteFunc(c.Updates, func(u event.Update) bool {
		ch, changes := r.change(c, &u)
		h, held := answer.Held(ch.Kind)
		if changes && held && u.Employee != "" {
			w := c.sending[u.Employee].before
			w.Keep(h)
			c.intents[u.Employee] = w
			delete(c.Change.Workers, u.Employee)
			delete(c.sending, u.Employee)
		}

		return changes && held
	})
	c.settle()

	return answer
}

// change returns what an update changes for its user; false if the guard does not count it, or if a person has approved
// it.
func (r *Roster) change(c *Changeset, u *event.Update) (hold.Change, bool) {
	ch := hold.Change{Employee: u.Employee, User: u.User, At: u.At}
	if u.Employee == "" { // stale duty of an unmanaged user
		ch.Kind = r.Holds.Guard.Clearing("", r.Now())
		return ch, !r.Holds.Groups.OfUser(u.User, u.At).Is(guard.Approved)
	}

	w := c.sending[u.Employee].before
	ch.File, ch.Row = w.Latest.File, w.Latest.Version.Row
	kind, is := Kind(&w, u, r.Holds.Guard.Clearing(w.Latest.Feed, r.Now()))
	ch.Kind = kind

	return ch, is
}

// Kind returns the kind of change that an update makes to what AtHoc was sent for its worker; false if it is none that
// the guard counts. w is the worker before the update, and clearing is the kind to return for clearing duty for its
// age.
func Kind(w *latest.Worker, u *event.Update, clearing guard.Kind) (guard.Kind, bool) {
	switch sentOn := w.SentOn(); {
	case w.Passed, w.Sent != nil && topology.NormalUsername(w.Sent.User) != topology.NormalUsername(u.User):
		return "", false // approved; or another user's status, which says nothing about this one's
	case sentOn && !u.On && w.Latest.On:
		return clearing, true
	case sentOn && !u.On:
		return guard.Off, true
	default:
		return guard.On, !sentOn && u.On && w.Open
	}
}
