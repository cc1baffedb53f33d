package roster

import (
	"cmp"
	"slices"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/event"
)

// Changeset is what a piece of work leads to: what is saved first, what is published then, and what is saved in the
// end.
type Changeset struct {
	// Updates are the updates to publish, and Settled are the rows that are settled, with their outcomes.
	Updates []event.Update
	Settled RowOutcomes
	Change  store.Change
	// intents are the workers of the updates as they are saved while the updates are being published.
	intents map[string]latest.Worker
	// sending are the workers of the updates as they were before that.
	sending map[string]sending
}

// sending is a worker for whom an update will be published: as before that, and with the outcome of the latest row if
// publishing settles it.
type sending struct {
	before  latest.Worker
	settled event.Outcome
}

// NewChangeset returns an empty changeset.
func NewChangeset() Changeset {
	return Changeset{
		Settled: RowOutcomes{}, Change: store.Change{Workers: map[string]latest.Worker{}}, intents: map[string]latest.Worker{},
		sending: map[string]sending{},
	}
}

// Send adds an update, with its worker as before and as after it was published, and the outcome of the latest row if
// publishing settles that (else Pending).
func (c *Changeset) Send(u event.Update, before, after latest.Worker, settled event.Outcome) {
	c.Updates = append(c.Updates, u)
	c.sending[u.Employee] = sending{before, settled}
	c.intents[u.Employee] = latest.Intent(before, after)
	c.Change.Workers[u.Employee] = after
}

// Again adds the update that resends a worker's status, and reports whether there is one. AtHoc's previous answer no
// longer counts: the caller doubts that AtHoc still holds what it confirmed, and if the update is lost with the
// broker's store, it must be made again.
func (c *Changeset) Again(w latest.Worker, update func(*latest.Worker) *event.Update) bool {
	before := w

	u := update(&w)
	if u == nil {
		return false
	}

	w.Confirmed = nil
	c.Send(*u, before, w, event.Pending)

	return true
}

// settle adds the rows that are settled by publishing the updates.
func (c *Changeset) settle() {
	for _, s := range c.sending {
		if s.settled != event.Pending {
			c.Settled.Add(s.before.Latest.File, s.settled, s.before.Latest.Version.Row)
		}
	}

	clear(c.sending)
}

// sort puts the newest events first, because people watch those.
func (c *Changeset) sort() {
	slices.SortFunc(c.Updates, func(a, b event.Update) int {
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.User, b.User))
	})
}
